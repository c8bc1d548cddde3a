//! Publishes to an event bus, and checks that the bus accepted the entry.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use events::EventDetail;
use serde::Serialize;

use crate::CallError;

/// An event bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    name: String,
}

impl Bus {
    /// The bus called `name`.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// Publishes one event about `resource`.
    ///
    /// # Errors
    /// When the call fails, or when it succeeds but the bus did not accept the entry (`FailedEntryCount`).
    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>
    pub async fn publish<T: EventDetail + Serialize>(
        &self,
        detail: &T,
        resource: &str,
    ) -> Result<(), CallError> {
        let detail = serde_json::to_string(detail).map_err(CallError::refused)?;
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(T::SOURCE)
            .detail_type(T::DETAIL_TYPE)
            .resources(resource)
            .detail(detail)
            .build();
        let answer = self.client.put_events().entries(entry).send().await.map_err(CallError::from_sdk)?;
        let refused =
            answer.entries().iter().find_map(|entry| Some((entry.error_code()?, entry.error_message())));
        match refused {
            Some((code, message)) => Err(CallError::by_code(
                Some(code),
                format!("the bus refused the event: {code}: {}", message.unwrap_or("no message")),
            )),
            None if answer.failed_entry_count() > 0 => {
                Err(CallError::Unavailable("the bus refused the event without a reason".into()))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};
    use aws_sdk_eventbridge::config::{Credentials, retry::RetryConfig};
    use events::PublicationEvaluationCompleted;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// An EventBridge that answers one call with `answer`, over HTTP.
    async fn bus_that_answers(answer: Value) -> Bus {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            // The call's body ends the request, and is an object of a list of objects.
            while !request.ends_with("}]}") {
                let mut chunk = [0; 4096];
                let read = connection.read(&mut chunk).await.unwrap();
                request.push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
            let body = answer.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        });
        let config = aws_sdk_eventbridge::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("local", "local", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Bus::new(Client::from_conf(config), "a-bus")
    }

    async fn publish_to(bus: Bus) -> Result<(), CallError> {
        let detail = json!({"property_id": "usa/anytown/main-street/111", "evaluation_result": "APPROVED"});
        let detail: PublicationEvaluationCompleted = serde_json::from_value(detail).unwrap();
        bus.publish(&detail, "usa/anytown/main-street/111").await
    }

    #[tokio::test]
    async fn an_entry_that_the_bus_took_is_published() {
        let bus = bus_that_answers(json!({"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}]})).await;
        publish_to(bus).await.unwrap();
    }

    /// The call itself succeeds.
    #[tokio::test]
    async fn an_entry_that_the_bus_did_not_take_is_an_error() {
        let throttled = json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"});
        let bus = bus_that_answers(json!({"FailedEntryCount": 1, "Entries": [throttled]})).await;
        let error = publish_to(bus).await.unwrap_err().to_string();
        assert!(error.contains("ThrottlingException") && error.contains("Rate exceeded"), "{error}");

        let bus = bus_that_answers(json!({"FailedEntryCount": 1, "Entries": [{}]})).await;
        publish_to(bus).await.unwrap_err();
    }
}
