//! The envelope that EventBridge puts around every event. A consumer reads the envelope first and then the
//! detail, so the error of an event with an invalid detail still names the event.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vocabulary::{ContractVersion, InvalidTimestamp, Timestamp};

use crate::{ContractStatusChanged, PublicationEvaluationCompleted};

/// The names of an event on its bus, and its published schema.
pub trait EventDetail {
    /// The event's `source`: its producer.
    const SOURCE: &'static str;
    /// The event's `detail-type`.
    const DETAIL_TYPE: &'static str;
    /// The OpenAPI 3 document, registered as `{source}@{detail-type}`.
    const OPENAPI: &'static str;
}

/// An event as the target of a rule receives it.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html>
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Envelope<T> {
    /// Unique per event. It is used where a detail has no id of its own.
    pub id: String,
    /// The producer.
    pub source: String,
    /// The type of the event.
    pub detail_type: String,
    /// When the event was published: RFC 3339, in seconds; set by the producer or by EventBridge.
    pub time: String,
    /// What the event is about: for our events, the property id.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The event itself.
    pub detail: T,
}

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads an event as the target of a rule receives it.
    ///
    /// # Errors
    /// When the event is not what its detail-type describes. No retry can help.
    pub fn read(event: &Value) -> Result<Self, Malformed> {
        let read = Envelope::<Value>::deserialize(event).and_then(|envelope| {
            Ok(Self {
                detail: T::deserialize(&envelope.detail)?,
                id: envelope.id,
                source: envelope.source,
                detail_type: envelope.detail_type,
                time: envelope.time,
                resources: envelope.resources,
            })
        });
        read.map_err(|cause| Malformed::new(event, cause))
    }
}

impl Envelope<ContractStatusChanged> {
    /// The detail, without values that cannot be true and would be the newest for ever: its time is limited
    /// (see [`Timestamp::credible`]), and a version that is too great is removed.
    pub fn credible_detail(&self, now: Timestamp) -> ContractStatusChanged {
        // EventBridge sets the time of an event in whole seconds.
        let taken = self.time.parse().map_or(now, |time: Timestamp| time.plus_millis(999));
        ContractStatusChanged {
            contract_last_modified_on: self.detail.contract_last_modified_on.credible(taken, now),
            contract_version: self.detail.contract_version.and_then(ContractVersion::credible),
            ..self.detail.clone()
        }
    }
}

impl Envelope<PublicationEvaluationCompleted> {
    /// When the event was published, in whole seconds, but no later than `now`: an evaluation from the
    /// future would be newer than every end of a contract.
    ///
    /// # Errors
    /// When the event's time is not a time.
    pub fn published_at(&self, now: Timestamp) -> Result<Timestamp, InvalidTimestamp> {
        self.time.parse().map(|time: Timestamp| time.min(now))
    }
}

/// An event that cannot be read. Its text names the event as far as possible. It always fits in a log line,
/// although the parser's error repeats values of the event.
///
/// `Debug` prints the same sentence as `Display`: the Lambda runtime logs an error with `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Malformed {
    pub id: Option<String>,
    /// The producer.
    pub source: Option<String>,
    /// The event's detail-type.
    pub detail_type: Option<String>,
    pub property_id: Option<String>,
    /// What is wrong.
    pub cause: String,
}

/// The greatest length of a cause, in characters: enough for a parser's sentence.
const MAX_CAUSE: usize = 300;

/// The greatest length of an id or a name, in characters: a property id is the longest.
const MAX_NAME: usize = 256;

impl Malformed {
    /// Describes `event`, which cannot be read because of `cause`.
    pub fn new(event: &Value, cause: impl fmt::Display) -> Self {
        let text = |pointer: &str| event.pointer(pointer)?.as_str().map(|text| cut(text, MAX_NAME));
        Self {
            id: text("/id"),
            source: text("/source"),
            detail_type: text("/detail-type"),
            property_id: text("/detail/property_id").or_else(|| text("/property_id")),
            cause: cut(&cause.to_string(), MAX_CAUSE),
        }
    }
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}", self.id.as_deref().unwrap_or("without an id"))?;
        for (word, name) in [
            ("from", &self.source),
            ("of detail-type", &self.detail_type),
            ("about property", &self.property_id),
        ] {
            if let Some(name) = name {
                write!(f, " {word} {name}")?;
            }
        }
        write!(f, " cannot be read: {}", self.cause)
    }
}

impl fmt::Debug for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(status: &str) -> Value {
        json!({
            "version": "0", "id": "e-1", "source": "unicorn-contracts", "detail-type": "ContractStatusChanged",
            "time": "2026-11-23T18:22:06Z", "resources": [],
            "detail": {
                "property_id": "usa/anytown/main-street/111", "contract_id": "c-1", "contract_status": status,
                "contract_last_modified_on": "2026-11-23T18:22:06.123Z",
            },
        })
    }

    fn refused(event: Value) -> Malformed {
        Envelope::<ContractStatusChanged>::read(&event).unwrap_err()
    }

    #[test]
    fn an_event_is_read_with_its_envelope() {
        let read = Envelope::<ContractStatusChanged>::read(&event("DRAFT")).unwrap();
        assert_eq!((read.id.as_str(), read.detail.contract_id.as_str()), ("e-1", "c-1"));
    }

    #[test]
    fn a_time_is_no_later_than_the_event_or_its_consumer_knows() {
        let credible = |text: &str, now: &str| {
            let mut event = event("DRAFT");
            event["detail"]["contract_last_modified_on"] = text.into();
            let read = Envelope::<ContractStatusChanged>::read(&event).unwrap();
            read.credible_detail(now.parse().unwrap()).contract_last_modified_on.to_string()
        };
        let (taken, before, after) =
            ("2026-11-23T18:22:06.123Z", "2026-11-23T17:00:00.000Z", "2026-11-23T19:00:00.000Z");
        assert_eq!(credible(taken, after), taken);
        assert_eq!(credible(taken, before), taken, "the consumer's clock was set back");
        assert_eq!(credible("9000-01-01T00:00:00.000Z", before), "2026-11-23T18:22:06.999Z");
        assert_eq!(credible("9000-01-01T00:00:00.000Z", after), after);
    }

    #[test]
    fn a_malformed_event_is_named_with_all_its_ids_and_the_parsers_error() {
        let malformed = refused(event("MAYBE"));
        assert_eq!(
            malformed.to_string(),
            "event e-1 from unicorn-contracts of detail-type ContractStatusChanged about property \
             usa/anytown/main-street/111 cannot be read: unknown variant `MAYBE`, expected one of `DRAFT`, \
             `APPROVED`, `CANCELLED`, `CLOSED`, `EXPIRED`"
        );
        assert_eq!(format!("{malformed:?}"), malformed.to_string(), "what the Lambda runtime logs");
    }

    #[test]
    fn what_is_no_event_at_all_is_said_to_be_none() {
        for other in [json!({ "hello": "world" }), json!(null), json!([1]), json!("event")] {
            let text = refused(other).to_string();
            assert!(text.starts_with("event without an id cannot be read: "), "{text}");
        }
    }

    #[test]
    fn a_value_of_300_kilobytes_does_not_make_a_line_of_300_kilobytes() {
        let long = "\u{e4}".repeat(300_000);
        assert_eq!(refused(event(&long)).cause.chars().count(), 303, "with the three dots");
        let mut event = event(&long);
        for place in ["/id", "/source", "/detail-type", "/detail/property_id"] {
            *event.pointer_mut(place).unwrap() = long.clone().into();
        }
        let malformed = refused(event);
        assert!(malformed.to_string().chars().count() < 1_500, "{malformed}");
    }
}
