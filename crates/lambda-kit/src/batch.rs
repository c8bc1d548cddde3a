//! The loop over a batch of queue messages. Every message is parsed and handled on its own:
//! messages of one key run in order, different keys side by side; a panic belongs to its
//! message; exactly the ids that failed are reported.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::FutureExt;
use futures::future::join_all;

use crate::Unavailable;

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Dealt with, for good: the queue may delete it.
    Done,
    /// To be delivered again after this time (whole seconds count).
    Again(Duration),
}

/// Why a message was not dealt with.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It can never succeed: delivered again at once, so that it is dead-lettered in seconds.
    #[error("{0}")]
    Poison(String),
    /// Something it needs is not there: delivered again when its visibility timeout ends.
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
}

/// Sets when a message that stays in the queue is delivered again.
pub trait Redelivery {
    /// Changes the visibility timeout of one received message.
    fn redeliver(
        &self,
        receipt_handle: &str,
        after: Duration,
    ) -> impl Future<Output = Result<(), Unavailable>>;
}

/// The queue that feeds the function.
#[derive(Debug, Clone)]
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    /// The queue at `url`.
    pub fn new(client: aws_sdk_sqs::Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }
}

impl Redelivery for Queue {
    async fn redeliver(&self, receipt_handle: &str, after: Duration) -> Result<(), Unavailable> {
        self.client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(i32::try_from(after.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(Unavailable::from_sdk)?;
        Ok(())
    }
}

/// Runs `handle` on every message of the batch and reports those that stay in the queue.
///
/// `parse` turns a message into its key and what is to be handled; it fails for poison.
///
/// # Errors
/// When a message has no id, so that no answer could name it: the whole batch fails then.
pub async fn each_message<M, K: Hash + Eq, P: Display>(
    batch: SqsEvent,
    redelivery: &impl Redelivery,
    parse: impl Fn(&SqsMessage) -> Result<(K, M), P>,
    handle: impl AsyncFn(M) -> Result<Outcome, Failure>,
) -> Result<SqsBatchResponse, Unavailable> {
    let mut groups: HashMap<Option<K>, Vec<Delivery<M>>> = HashMap::new();
    for message in batch.records {
        let Some(id) = message.message_id.clone() else {
            return Err(Unavailable("a message without an id".into()));
        };
        let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| parse(&message)));
        let (key, work) = match parsed {
            Ok(Ok((key, work))) => (Some(key), Ok(work)),
            Ok(Err(poison)) => (None, Err(Failure::Poison(poison.to_string()))),
            Err(_) => (None, Err(Failure::Poison("the parser panicked".into()))),
        };
        let receipt_handle = message.receipt_handle.unwrap_or_default();
        groups.entry(key).or_default().push(Delivery { id, receipt_handle, work });
    }

    let failed = join_all(groups.into_values().map(async |group| {
        let mut failed = Vec::new();
        for delivery in group {
            failed.extend(delivery.handle(redelivery, &handle).await);
        }
        failed
    }))
    .await;

    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failed.into_iter().flatten().map(failure).collect();
    Ok(response)
}

fn failure(message_id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = message_id;
    failure
}

struct Delivery<M> {
    id: String,
    receipt_handle: String,
    work: Result<M, Failure>,
}

impl<M> Delivery<M> {
    /// The message's id, if it stays in the queue.
    async fn handle(
        self,
        redelivery: &impl Redelivery,
        handle: &impl AsyncFn(M) -> Result<Outcome, Failure>,
    ) -> Option<String> {
        let result = match self.work {
            Ok(work) => AssertUnwindSafe(handle(work))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(Failure::Poison("the handler panicked".into()))),
            Err(poison) => Err(poison),
        };
        let redeliver_after = match result {
            Ok(Outcome::Done) => return None,
            Ok(Outcome::Again(after)) => Some(after),
            Err(Failure::Poison(cause)) => {
                tracing::error!(message_id = %self.id, %cause, "poison message");
                Some(Duration::ZERO)
            }
            Err(Failure::Unavailable(cause)) => {
                tracing::warn!(message_id = %self.id, %cause, "message failed, and will be delivered again");
                None
            }
        };
        if let Some(after) = redeliver_after
            && let Err(cause) = redelivery.redeliver(&self.receipt_handle, after).await
        {
            // Not lost: it comes back when the queue's own visibility timeout ends.
            tracing::warn!(message_id = %self.id, %cause, "could not set when the message is delivered again");
        }
        Some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    use serde_json::json;

    #[derive(Default)]
    struct Redeliveries(RefCell<Vec<(String, u64)>>);

    impl Redelivery for Redeliveries {
        async fn redeliver(&self, receipt_handle: &str, after: Duration) -> Result<(), Unavailable> {
            self.0.borrow_mut().push((receipt_handle.to_owned(), after.as_secs()));
            Ok(())
        }
    }

    fn batch(bodies: &[&str]) -> SqsEvent {
        let records: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(n, body)| json!({"messageId": format!("id-{n}"), "receiptHandle": format!("r-{n}"), "body": body}))
            .collect();
        serde_json::from_value(json!({ "Records": records })).unwrap()
    }

    /// `key:action` is a message; anything else is poison.
    fn parse(message: &SqsMessage) -> Result<(String, String), String> {
        let body = message.body.clone().unwrap_or_default();
        let (key, action) = body.split_once(':').ok_or("no key")?;
        Ok((key.to_owned(), action.to_owned()))
    }

    async fn run(bodies: &[&str]) -> (Vec<String>, Vec<(String, u64)>, Vec<String>) {
        let redeliveries = Redeliveries::default();
        let handled = RefCell::new(Vec::new());
        let response = each_message(batch(bodies), &redeliveries, parse, async |action: String| {
            handled.borrow_mut().push(action.clone());
            match action.as_str() {
                "panic" => panic!("on purpose"),
                "wait" => Ok(Outcome::Again(Duration::from_secs(4))),
                "down" => Err(Unavailable("no table".into()).into()),
                _ => Ok(Outcome::Done),
            }
        })
        .await
        .unwrap();
        let mut failed: Vec<_> =
            response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
        failed.sort();
        let mut redelivered = redeliveries.0.into_inner();
        redelivered.sort();
        (failed, redelivered, handled.into_inner())
    }

    /// Known faults 5, 6 and 7.
    #[tokio::test]
    async fn one_bad_message_fails_alone_and_under_its_own_id() {
        let (failed, redelivered, handled) = run(&["a:ok", "poison", "b:panic", "a:ok", "c:ok"]).await;
        assert_eq!(failed, ["id-1", "id-2"]);
        assert_eq!(redelivered, [("r-1".into(), 0), ("r-2".into(), 0)], "poison is visible at once");
        assert_eq!(handled.len(), 4, "every record is handled");
    }

    #[tokio::test]
    async fn messages_of_one_key_run_in_their_order() {
        let (_, _, handled) = run(&["a:1", "b:x", "a:2", "a:3"]).await;
        let of_a: Vec<_> = handled.iter().filter(|action| action.parse::<u8>().is_ok()).collect();
        assert_eq!(of_a, ["1", "2", "3"]);
    }

    #[tokio::test]
    async fn a_message_that_waits_stays_in_the_queue_for_that_time() {
        let (failed, redelivered, _) = run(&["a:wait"]).await;
        assert_eq!((failed, redelivered), (vec!["id-0".into()], vec![("r-0".into(), 4)]));
    }

    /// Known fault 3: a database error was logged and answered as success.
    #[tokio::test]
    async fn a_message_whose_dependency_is_down_fails_and_keeps_its_visibility_timeout() {
        let (failed, redelivered, _) = run(&["a:down", "b:ok"]).await;
        assert_eq!((failed, redelivered), (vec!["id-0".into()], vec![]));
    }
}
