//! The languages that the local cloud reads: SAM templates, mapping templates, event patterns, input
//! templates, log filters, and the states language with its step function. Values in, values out:
//! nothing here does I/O or looks at a clock.

pub mod event_pattern;
pub mod input_template;
pub mod log_filter;
#[cfg(test)]
mod referee;
pub mod states;
pub mod template;
pub mod vtl;
