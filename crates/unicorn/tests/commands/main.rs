//! Runs the command line and the README as a user does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a test's helpers fails the test"
)]

mod built;
mod cli;
mod comfort;
mod hello;
mod readme;
mod refusals;
mod seed;
mod support;
