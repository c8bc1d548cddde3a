//! The terms of the business as parsed types: a value of one of these types is always valid.
//!
//! No I/O, no clock, no randomness. Serde uses the same parsers, so an invalid value is refused where it
//! enters the program, and nowhere else.

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
