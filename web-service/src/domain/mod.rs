//! The rules of the business: what an agent may offer, what becomes of a listing by
//! commands, and what by events. No clock, no I/O, no randomness.

mod listing;
mod offer;
mod publication;

pub use listing::{Change, Listing, Rejection, Revision, approval_request_id, decide};
pub use offer::{InvalidOffer, NewOffer, Offer};
pub use publication::{EndedContract, Evaluation, Ignored, end, evaluate};
