//! The event contracts, which are all that the three services share. Each detail-type has a struct, its
//! names on the bus, and the OpenAPI document in the schema registry.
//!
//! Producers add optional fields only; consumers ignore what they do not know.

mod contract_status_changed;
mod envelope;
mod publication_approval_requested;
mod publication_evaluation_completed;

pub use contract_status_changed::ContractStatusChanged;
pub use envelope::{Envelope, EventDetail, Malformed};
pub use publication_approval_requested::PublicationApprovalRequested;
pub use publication_evaluation_completed::{PublicationEvaluationCompleted, null_as_none};
