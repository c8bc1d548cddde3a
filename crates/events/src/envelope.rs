//! The envelope that EventBridge puts around every event.

use serde::{Deserialize, Serialize};

/// The names of an event on its bus, and its published schema.
pub trait EventDetail {
    /// The producer: the event's `source`.
    const SOURCE: &'static str;
    /// The event's `detail-type`.
    const DETAIL_TYPE: &'static str;
    /// The OpenAPI 3 document, registered as `{source}@{detail-type}`.
    const OPENAPI: &'static str;
}

/// An event as a rule's target receives it.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html>
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Envelope<T> {
    /// Unique per event; stands in where a detail lacks an id of its own.
    pub id: String,
    /// Who published it.
    pub source: String,
    /// What it tells.
    pub detail_type: String,
    /// RFC 3339, as the producer or EventBridge set it (seconds).
    pub time: String,
    /// What it is about.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The event itself.
    pub detail: T,
}
