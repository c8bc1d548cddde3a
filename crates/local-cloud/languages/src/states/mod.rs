//! The states language of Step Functions, in JSONata: [`asl`] parses definitions, [`query`] evaluates
//! JSONata, [`tree`] holds an execution as data, [`machine`] is its pure step function, [`history`] has the
//! events of a step, [`integration`] turns tasks into requests and replies into results. The parser
//! refuses what is not emulated in a definition.

pub mod asl;
pub mod history;
pub mod integration;
pub mod machine;
pub mod query;
#[cfg(test)]
mod referee;
pub mod tree;
