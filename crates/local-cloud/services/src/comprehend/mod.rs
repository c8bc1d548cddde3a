//! A documented stand-in for Comprehend `DetectSentiment`: a small lexicon of English words, with simple
//! negation. It promises AWS's request limits, errors and answer, and the same sentiment for the same text; it
//! does not promise Comprehend's own opinion of a text.
//!
//! Each word of `PRAISE` counts for the text, each word of `BLAME` against it. Up to three words behind a
//! negation, praise counts as blame ("not a nice place"), and blame counts as nothing ("no damp"). Without
//! either, the text is `NEUTRAL`; with both, it is `MIXED` if the weaker is at least half as strong as the
//! stronger; otherwise the stronger wins.

mod api;
mod lexicon;

#[cfg(test)]
mod tests;

use cloud_core::service::{JSON_1_1, Protocol, Service};

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["Comprehend_20171127"],
        error_prefix: "",
        forward: None,
    }],
    actions: api::ACTIONS,
    ..Service::new("comprehend")
};
