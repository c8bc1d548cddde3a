//! Publishing to an event bus, with every entry accounted for.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use events::EventDetail;
use serde::Serialize;

use crate::Unavailable;

/// One bus to publish to.
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
    /// When the call fails, and when it succeeds but the entry was not taken
    /// (`FailedEntryCount`). <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>
    pub async fn publish<T: EventDetail + Serialize>(
        &self,
        detail: &T,
        resource: &str,
    ) -> Result<(), Unavailable> {
        let detail = serde_json::to_string(detail).map_err(Unavailable::from_sdk)?;
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(T::SOURCE)
            .detail_type(T::DETAIL_TYPE)
            .resources(resource)
            .detail(detail)
            .build();
        let answer = self.client.put_events().entries(entry).send().await.map_err(Unavailable::from_sdk)?;
        let refused =
            answer.entries().iter().find_map(|entry| Some((entry.error_code()?, entry.error_message())));
        match refused {
            Some((code, message)) => Err(Unavailable(format!(
                "the bus refused the event: {code}: {}",
                message.unwrap_or("no message")
            ))),
            None if answer.failed_entry_count() > 0 => {
                Err(Unavailable("the bus refused the event without a reason".into()))
            }
            None => Ok(()),
        }
    }
}
