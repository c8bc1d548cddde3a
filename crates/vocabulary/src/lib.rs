//! The words of the business, parsed: a value of one of these types cannot be invalid.
//!
//! No I/O, no clock, no randomness. Serde goes through the same parsers, so that a bad
//! value is refused at the border and nowhere else.

mod address;
mod approval;
mod command;
mod contract;
mod decision;
mod listing;
mod offer;
mod property_id;
mod timestamp;

pub use address::{Address, InvalidAddress};
pub use approval::{ApprovalRequestId, EvaluationReason, EvaluationResult, InvalidApprovalRequestId};
pub use command::{CommandId, IdempotencyKey, InvalidCommandId, InvalidIdempotencyKey};
pub use contract::{ContractStatus, ContractVersion, UnknownContractStatus};
pub use decision::{Decision, Reason};
pub use listing::ListingStatus;
pub use offer::{ContractKind, Currency, Description, InvalidTerm, ListPrice, OfferTerms};
pub use property_id::{InvalidPropertyId, PropertyId};
pub use timestamp::{InvalidTimestamp, Timestamp};
