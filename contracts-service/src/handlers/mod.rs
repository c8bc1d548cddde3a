//! One module per function: what it does with its event, through the ports.

pub mod contracts_query;
pub mod ingest;
