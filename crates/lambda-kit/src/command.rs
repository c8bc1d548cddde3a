//! A command as it is in the queue: the client's body, byte for byte, and the gateway's message attributes.
//! Ids and times come from the attributes, since a redrive changes the message's own id and times.

use aws_lambda_events::sqs::SqsMessage;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use vocabulary::{CommandId, IdempotencyKey, Timestamp};

/// A buffered write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The gateway's id, which the client gets in `x-command-id`.
    pub id: CommandId,
    /// `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The route as the API declares it, for example `/request_approval`; empty if the gateway did not send
    /// it.
    pub resource: String,
    /// When the gateway accepted the request.
    pub requested_at: Timestamp,
    /// When the queue accepted the message, by its own clock. A redrive renews it.
    pub sent_at: Option<Timestamp>,
    /// The client's idempotency key, as it was sent.
    pub idempotency_key: Option<String>,
    /// The body, exactly as it was sent.
    pub body: String,
    /// How often the queue has delivered it, including this time.
    pub receive_count: u32,
}

/// The message did not come from the gateway, and can never be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message has no valid attribute {0}, so it did not come from the gateway")]
pub struct NotFromTheGateway(&'static str);

impl Command {
    /// Reads attributes and body.
    ///
    /// # Errors
    /// When an attribute that the gateway always sets is missing or invalid.
    pub fn from_message(message: &SqsMessage) -> Result<Self, NotFromTheGateway> {
        let attribute =
            |name: &str| message.message_attributes.get(name).and_then(|value| value.string_value.clone());
        let parsed = |name: &'static str| attribute(name).ok_or(NotFromTheGateway(name));
        Ok(Self {
            id: parsed("CommandId")?.parse().map_err(|_| NotFromTheGateway("CommandId"))?,
            method: parsed("HttpMethod")?,
            resource: attribute("ResourcePath").unwrap_or_default(),
            requested_at: millis(&parsed("RequestTimeEpoch")?)
                .ok_or(NotFromTheGateway("RequestTimeEpoch"))?,
            sent_at: message.attributes.get("SentTimestamp").and_then(|ms| millis(ms)),
            idempotency_key: attribute("IdempotencyKey"),
            body: message.body.clone().unwrap_or_default(),
            receive_count: receive_count(message),
        })
    }

    /// When the gateway accepted the request, limited (see [`Timestamp::credible`]): with a clock that is
    /// ahead, it must not supersede later commands. The queue accepts the message after the gateway.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
    pub fn credible_request_time(&self, now: Timestamp) -> Timestamp {
        self.requested_at.credible(self.sent_at.unwrap_or(now), now)
    }

    /// The idempotency key, parsed; `Some(Err)` if the client sent an invalid one.
    pub fn key(&self) -> Option<Result<IdempotencyKey, vocabulary::InvalidIdempotencyKey>> {
        self.idempotency_key.as_deref().map(str::parse)
    }

    /// SHA-256 of route and body, in hexadecimal. The same idempotency key with another fingerprint is
    /// another command.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.method, &self.resource, &self.body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hex::encode(hash.finalize())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// When the body is not the JSON of a `T`, or contains U+FFFD, which the gateway writes in place of
    /// bytes that are not UTF-8. JSON that is nested more than 127 levels deep, or has a number out of
    /// range, is refused anywhere in the body, even in members that `T` ignores.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, InvalidBody> {
        if let Some(at) = self.body.find(char::REPLACEMENT_CHARACTER) {
            let before = &self.body[..at];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = before.matches('\n').count() + 1;
            return Err(InvalidBody { line, column: before[line_start..].chars().count() + 1 });
        }
        // The whole body is parsed first: a `T` skips members that it does not know.
        serde_json::from_str::<serde_json::Value>(&self.body)
            .and_then(|_| serde_json::from_str(&self.body))
            .map_err(|error| InvalidBody { line: error.line(), column: error.column() })
    }
}

/// The position where a body is not what the API describes. The error has no text of the body, which
/// contains names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not what the API describes, at line {line}, column {column}")]
pub struct InvalidBody {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// A time as API Gateway and SQS write it: milliseconds since the epoch.
fn millis(text: &str) -> Option<Timestamp> {
    Timestamp::from_millis(text.parse().ok()?).ok()
}

/// How often the queue has delivered the message, including this time.
pub(crate) fn receive_count(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1).max(1)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn message(attributes: &[(&str, &str)], body: &str) -> SqsMessage {
        let attributes: serde_json::Map<_, _> = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!({"stringValue": value, "dataType": "String"})))
            .collect();
        serde_json::from_value(json!({
            "messageId": "m-1", "receiptHandle": "r-1", "body": body, "messageAttributes": attributes,
            "attributes": {"ApproximateReceiveCount": "1"},
        }))
        .unwrap()
    }

    pub(crate) fn command() -> Command {
        Command::from_message(&message(
            &[("CommandId", "c-1"), ("HttpMethod", "POST"), ("RequestTimeEpoch", "1000000")],
            "{}",
        ))
        .unwrap()
    }

    #[test]
    fn the_attributes_of_the_gateway_make_a_command() {
        let command = command();
        assert_eq!((command.id.as_str(), command.method.as_str()), ("c-1", "POST"));
        assert_eq!(command.requested_at.as_millis(), 1_000_000);
        assert_eq!(command.key(), None);
    }

    #[test]
    fn a_message_without_a_command_id_did_not_come_from_the_gateway() {
        let bare = message(&[("HttpMethod", "POST"), ("RequestTimeEpoch", "1")], "{}");
        assert_eq!(Command::from_message(&bare), Err(NotFromTheGateway("CommandId")));
        let odd = message(&[("CommandId", "c"), ("HttpMethod", "POST"), ("RequestTimeEpoch", "noon")], "{}");
        assert_eq!(Command::from_message(&odd), Err(NotFromTheGateway("RequestTimeEpoch")));
    }

    #[test]
    fn a_request_is_no_later_than_the_queue_or_the_function_knows() {
        let at = |ms| Timestamp::from_millis(ms).unwrap();
        let mut message =
            message(&[("CommandId", "c-1"), ("HttpMethod", "POST"), ("RequestTimeEpoch", "1000000")], "{}");
        let time = |message: &SqsMessage, now| {
            Command::from_message(message).unwrap().credible_request_time(at(now)).as_millis()
        };
        assert_eq!(time(&message, 900_000), 900_000, "nothing but the function's clock is known");
        for (sent, now, expected) in [
            ("1000005", 1_000_010, 1_000_000),
            ("1000005", 900_000, 1_000_000),
            ("800000", 900_000, 900_000),
            ("950000", 900_000, 950_000),
        ] {
            message.attributes.insert("SentTimestamp".into(), sent.into());
            assert_eq!(time(&message, now), expected, "sent at {sent}, handled at {now}");
        }
    }

    fn read(body: &str) -> Result<serde_json::Value, InvalidBody> {
        #[derive(serde::Deserialize)]
        struct Body {
            known: serde_json::Value,
        }
        Command { body: body.into(), ..command() }.read::<Body>().map(|body| body.known)
    }

    #[test]
    fn a_body_that_was_not_utf_8_is_refused_at_its_place() {
        assert_eq!(read("{\"known\": 1,\n \"é\": \"\u{FFFD}\"}"), Err(InvalidBody { line: 2, column: 8 }));
        assert_eq!(read(r#"{"known": "\ufffd"}"#), Ok(json!("\u{FFFD}")), "written as an escape it is text");
    }

    #[test]
    fn what_json_cannot_hold_is_refused_in_unknown_members_as_well() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        // The body itself is the first level.
        assert!(read(&format!(r#"{{"known": 1, "extra": {}}}"#, nested(126))).is_ok());
        for odd in ["1e999", &nested(127)] {
            assert!(read(&format!(r#"{{"known": 1, "extra": {odd}}}"#)).is_err(), "{odd}");
            assert!(read(&format!(r#"{{"known": {odd}}}"#)).is_err(), "{odd}");
        }
        assert_eq!(read(r#"{"known": 1, "extra": [{}]}"#), Ok(json!(1)));
    }

    #[test]
    fn an_invalid_body_tells_its_place_and_none_of_its_text() {
        let error = read(&format!(r#"{{"known": {}}}"#, "secret".repeat(100))).unwrap_err();
        assert_eq!(error.to_string(), "the body is not what the API describes, at line 1, column 11");
    }

    #[test]
    fn the_fingerprint_tells_routes_and_bodies_apart() {
        let one = command();
        let moved = Command { method: "PUT".into(), ..one.clone() };
        let changed = Command { body: "{ }".into(), ..one.clone() };
        assert_eq!(one.fingerprint(), one.clone().fingerprint());
        assert_ne!(one.fingerprint(), moved.fingerprint());
        assert_ne!(one.fingerprint(), changed.fingerprint());
    }
}
