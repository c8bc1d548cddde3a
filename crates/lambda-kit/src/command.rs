//! A command as it comes out of the queue: the body that the client sent, byte for byte, and
//! what the gateway said about it in message attributes. Only the attributes count: a
//! redrive changes a message's own id and times.

use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use sha2::{Digest, Sha256};
use vocabulary::{CommandId, IdempotencyKey, Timestamp};

/// One buffered write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The gateway's id, which the client was told in `x-command-id`.
    pub id: CommandId,
    /// `POST`, `PUT` or `DELETE`.
    pub method: String,
    /// The route as the API declares it, for example `/request_approval`; empty where the
    /// gateway did not say.
    pub resource: String,
    /// When the gateway took the request.
    pub requested_at: Timestamp,
    /// The client's own name for this command, as it was sent.
    pub idempotency_key: Option<String>,
    /// The body, exactly as it was sent.
    pub body: String,
    /// How often the queue has handed it out, this time included.
    pub receive_count: u32,
}

/// The message did not come from the gateway: it can never be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message has no valid attribute {0}, so it did not come from the gateway")]
pub struct NotFromTheGateway(&'static str);

impl Command {
    /// Reads attributes and body.
    ///
    /// # Errors
    /// When an attribute that the gateway always sets is missing or malformed.
    pub fn from_message(message: &SqsMessage) -> Result<Self, NotFromTheGateway> {
        let attribute =
            |name: &str| message.message_attributes.get(name).and_then(|value| value.string_value.clone());
        let parsed = |name: &'static str| attribute(name).ok_or(NotFromTheGateway(name));
        let receive_count = message.attributes.get("ApproximateReceiveCount");
        Ok(Self {
            id: parsed("CommandId")?.parse().map_err(|_| NotFromTheGateway("CommandId"))?,
            method: parsed("HttpMethod")?,
            resource: attribute("ResourcePath").unwrap_or_default(),
            requested_at: parsed("RequestTimeEpoch")?
                .parse()
                .ok()
                .and_then(|ms| Timestamp::from_millis(ms).ok())
                .ok_or(NotFromTheGateway("RequestTimeEpoch"))?,
            idempotency_key: attribute("IdempotencyKey"),
            body: message.body.clone().unwrap_or_default(),
            receive_count: receive_count.and_then(|count| count.parse().ok()).unwrap_or(1),
        })
    }

    /// The idempotency key, parsed; `Some(Err)` where the client sent a malformed one.
    pub fn key(&self) -> Option<Result<IdempotencyKey, vocabulary::InvalidIdempotencyKey>> {
        self.idempotency_key.as_deref().map(str::parse)
    }

    /// SHA-256 of route and body, in hexadecimal: the same key with another fingerprint is
    /// another command.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.method, &self.resource, &self.body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How long a command that came too early waits before its next try: 2, 4, 8, 16 s, and
    /// no longer than what is left of `patience` since the request. `None`: its time is up.
    pub fn retry_after(&self, now: Timestamp, patience: Duration) -> Option<Duration> {
        let deadline = self.requested_at.plus_millis(patience.as_millis() as i64);
        let left = deadline.as_millis() - now.as_millis();
        if left <= 0 {
            return None;
        }
        // Visibility is set in whole seconds: round up, so that the last try finds the time up.
        Some(self.backoff().min(Duration::from_secs((left as u64).div_ceil(1_000))))
    }

    /// The time before the next try: 2, 4, 8 and from then on 16 s, by how often it was received.
    pub fn backoff(&self) -> Duration {
        Duration::from_secs(2 << self.receive_count.saturating_sub(1).min(3))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

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
    fn a_command_that_came_too_early_waits_2_4_8_and_16_seconds_and_30_in_all() {
        let patience = Duration::from_secs(30);
        let mut command = command();
        let mut now = command.requested_at;
        let mut waits = Vec::new();
        while let Some(wait) = command.retry_after(now, patience) {
            waits.push(wait.as_secs());
            now = now.plus_millis(wait.as_millis() as i64);
            command.receive_count += 1;
        }
        assert_eq!(waits, [2, 4, 8, 16]);
    }

    #[test]
    fn the_last_wait_ends_when_the_time_is_up_and_not_before() {
        let mut command = command();
        command.receive_count = 4;
        let now = command.requested_at.plus_millis(29_500);
        assert_eq!(command.retry_after(now, Duration::from_secs(30)), Some(Duration::from_secs(1)));
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
