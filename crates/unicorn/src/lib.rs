//! The commands of the command line, as a library, so that tests run the same code.

pub mod artefacts;
pub mod bench;
pub mod build;
pub mod client;
pub mod demo;
pub mod hops;
pub mod samples;
pub mod seed;
pub mod stack;
pub mod summary;
pub mod watch;
