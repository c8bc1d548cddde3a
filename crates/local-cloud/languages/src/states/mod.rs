//! The states language of Step Functions, in JSONata: [`asl`] parses definitions, [`query`] evaluates
//! JSONata, [`tree`] is an execution as data, [`machine`] its pure step function, [`history`] the
//! events that a step leaves, [`integration`] makes requests of tasks and results of replies. What is
//! not emulated in a definition is refused when it is parsed.

pub mod asl;
pub mod history;
pub mod integration;
pub mod machine;
pub mod query;
#[cfg(test)]
mod referee;
pub mod tree;
