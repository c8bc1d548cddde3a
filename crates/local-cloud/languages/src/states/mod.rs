//! The states language of Step Functions, in JSONata: [`asl`] parses definitions, [`query`] evaluates
//! JSONata, [`tree`] holds an execution as data, [`machine`] is its pure step function, [`history`] has the
//! events that a step leaves, [`integration`] makes requests of tasks and results of replies. The parser
//! refuses what is not emulated in a definition.

pub mod asl;
pub mod history;
pub mod integration;
pub mod machine;
pub mod query;
#[cfg(test)]
mod referee;
pub mod tree;
