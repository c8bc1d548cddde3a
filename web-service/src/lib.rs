//! The web service: agents' listings, the requests to publish them, and the public's search.
//!
//! It owns the listings and decides alone what search shows: only what an evaluation has
//! approved, and only as long as its contract has not ended. It never reads another
//! service's data; what it knows of contracts and evaluations it knows from their events.

pub mod domain;
pub mod dynamo;
pub mod handlers;
pub mod page;
pub mod ports;

#[cfg(test)]
mod tests;
