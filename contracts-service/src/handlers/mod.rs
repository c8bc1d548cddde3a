//! What each function does with its event, over the ports. One module per function.

pub mod contracts_query;
pub mod ingest;
