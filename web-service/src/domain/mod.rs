//! The rules of the business: what an agent may offer, and how commands and events change a listing. No
//! clock, no I/O, no randomness.

mod listing;
mod offer;
mod publication;

pub use listing::{Change, Listing, Rejection, Revision, approval_request_id, decide};
pub use offer::{InvalidOffer, NewOffer, Offer};
pub use publication::{EndedContract, Evaluation, Ignored, end, evaluate};
