//! One module per function: what it does with its event, through the ports.

pub mod ingest;
pub mod listings_query;
pub mod on_contract_ended;
pub mod on_evaluation_completed;
pub mod search;

use lambda_kit::CallError;
use lambda_kit::event::EventFailure;

fn contended() -> EventFailure {
    CallError::Unavailable("the listing is contended".into()).into()
}
