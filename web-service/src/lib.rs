//! The web service: agents' listings, the requests to publish them, and the public search.
//!
//! It owns the listings and decides what search shows: listings that an evaluation has approved and whose
//! contract has not ended. It never reads another service's data; it knows contracts and evaluations from
//! their events.

pub mod domain;
pub mod dynamo;
pub mod handlers;
pub mod page;
pub mod ports;

#[cfg(test)]
mod tests;
