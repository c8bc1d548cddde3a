//! The envelope that EventBridge puts around every event, and how a consumer reads it: the
//! envelope first, then the detail, so that an event whose detail is wrong can still be named.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vocabulary::{ContractVersion, InvalidTimestamp, Timestamp};

use crate::{ContractStatusChanged, PublicationEvaluationCompleted};

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

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads an event as a rule's target receives it.
    ///
    /// # Errors
    /// When it is not what its detail-type promises, and never will be.
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
    /// The detail as far as it can be true, `now` by the consumer's clock: no later than the event, and
    /// with a version that can be a count of writes. Any other would be the newest for ever.
    pub fn credible_detail(&self, now: Timestamp) -> ContractStatusChanged {
        // EventBridge gives an event its time in whole seconds.
        let taken = self.time.parse().map_or(now, |time: Timestamp| time.plus_millis(999));
        ContractStatusChanged {
            contract_last_modified_on: self.detail.contract_last_modified_on.credible(taken, now),
            contract_version: self.detail.contract_version.and_then(ContractVersion::credible),
            ..self.detail.clone()
        }
    }
}

impl Envelope<PublicationEvaluationCompleted> {
    /// When the event was published, in whole seconds, but no later than `now`: one from the future
    /// would be newer than every end of a contract.
    ///
    /// # Errors
    /// When its time is none.
    pub fn published_at(&self, now: Timestamp) -> Result<Timestamp, InvalidTimestamp> {
        self.time.parse().map(|time: Timestamp| time.min(now))
    }
}

/// An event that cannot be read. It names the event as far as it can, and is short enough for a
/// log line whatever the event is: the parser's error repeats values.
///
/// Its `Debug` is the same sentence, since that is what the Lambda runtime logs of an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The event's id.
    pub id: Option<String>,
    /// Who published it.
    pub source: Option<String>,
    /// What it claims to be.
    pub detail_type: Option<String>,
    /// The property that it is about.
    pub property_id: Option<String>,
    /// What is wrong with it.
    pub cause: String,
}

/// Characters of a cause that are kept: enough for a parser's sentence.
const MAX_CAUSE: usize = 300;

/// Characters of an id or a name that are kept: all of a property id, the longest of them.
const MAX_NAME: usize = 256;

impl Malformed {
    /// What can be said of `event`, which cannot be read because of `cause`.
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
        let credible = |told: &str, now: &str| {
            let mut event = event("DRAFT");
            event["detail"]["contract_last_modified_on"] = told.into();
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
            let told = refused(other).to_string();
            assert!(told.starts_with("event without an id cannot be read: "), "{told}");
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
