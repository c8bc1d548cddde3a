//! The loop over a batch of queue messages. Every message is parsed and handled on its own. Messages of one
//! key run in the order of their request times; different keys run concurrently. A panic fails only its
//! message, and exactly the failed ids are reported. The loop ends before the function's timeout:
//! unfinished messages go back to the queue.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::FutureExt;
use futures::future::join_all;
use lambda_runtime::Context;
use tokio::time::{Instant, timeout_at};
use vocabulary::Timestamp;

use crate::CallError;
use crate::command::receive_count;
use crate::redelivery::{after_contention, after_unavailable};

/// The result of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The message is done: the queue deletes it.
    Done,
    /// The queue delivers the message again after this time (in whole seconds).
    Again(Duration),
}

/// Why a message failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The message can never succeed. It is delivered again at once, so that it is dead-lettered in
    /// seconds.
    #[error("{0}")]
    Poison(String),
    /// The message lost every race. It is delivered again after 1, 2, 4, 8 s.
    #[error("other writes of the same property came first, again and again")]
    Contended,
    /// A service is not available. The message is delivered again after 1 s, doubling up to 300 s.
    #[error("{0}")]
    Unavailable(String),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unavailable(cause) => Self::Unavailable(cause),
            CallError::Refused(cause) | CallError::Corrupt(cause) => Self::Poison(cause),
        }
    }
}

/// Sets when a message that stays in the queue is delivered again.
pub trait Redelivery {
    /// Changes the visibility timeout of one received message.
    fn redeliver(&self, receipt_handle: &str, after: Duration)
    -> impl Future<Output = Result<(), CallError>>;
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
    async fn redeliver(&self, receipt_handle: &str, after: Duration) -> Result<(), CallError> {
        self.client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(i32::try_from(after.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(CallError::from_sdk)?;
        Ok(())
    }
}

/// The time limits of one invocation.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// When work on messages stops.
    stop: Instant,
    /// When the response must be sent.
    end: Instant,
}

impl Deadline {
    /// The time to return messages to the queue: enough for one attempt of a call and the start of a second
    /// one.
    const RESERVED_FOR_REDELIVERY: Duration = Duration::from_millis(1_500);

    /// The time to send the response.
    const RESERVED_FOR_RESPONSE: Duration = Duration::from_millis(300);

    /// The limits of an invocation that Lambda ends after `left`.
    pub fn after(left: Duration) -> Self {
        let now = Instant::now();
        Self {
            stop: now + left.saturating_sub(Self::RESERVED_FOR_REDELIVERY),
            end: now + left.saturating_sub(Self::RESERVED_FOR_RESPONSE),
        }
    }

    /// The limits of an invocation with this context.
    pub fn of(context: &Context) -> Self {
        let left = i64::try_from(context.deadline).unwrap_or(i64::MAX) - Timestamp::now().as_millis();
        Self::after(Duration::from_millis(left.max(0).cast_unsigned()))
    }
}

/// A message that `parse` accepts.
#[derive(Debug)]
pub struct Parsed<K, M> {
    /// Messages of one key run in order.
    pub key: K,
    /// The order within one key.
    pub requested_at: Timestamp,
    /// The argument of the handler.
    pub work: M,
}

/// Runs `handle` on every message of the batch and reports those that stay in the queue.
///
/// `parse` fails for a message that can never be handled.
///
/// # Errors
/// When a message has no id, since no response can name it. The whole batch is delivered again.
pub async fn each_message<M, K: Hash + Eq, P: Display>(
    batch: SqsEvent,
    deadline: Deadline,
    redelivery: &impl Redelivery,
    parse: impl Fn(&SqsMessage) -> Result<Parsed<K, M>, P>,
    handle: impl AsyncFn(M) -> Result<Outcome, Failure>,
) -> Result<SqsBatchResponse, CallError> {
    let mut lanes: HashMap<K, Vec<(Timestamp, Delivery, M)>> = HashMap::new();
    let mut poison = Vec::new();
    for message in batch.records {
        let Some(id) = message.message_id.clone() else {
            return Err(CallError::Corrupt("a message without an id".into()));
        };
        let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| parse(&message)));
        let receive_count = receive_count(&message);
        let receipt_handle = message.receipt_handle.unwrap_or_default();
        let delivery = Delivery { id, receipt_handle, receive_count };
        match parsed {
            Ok(Ok(Parsed { key, requested_at, work })) => {
                lanes.entry(key).or_default().push((requested_at, delivery, work));
            }
            Ok(Err(cause)) => poison.push((delivery, cause.to_string())),
            Err(_) => poison.push((delivery, "the parser panicked".into())),
        }
    }

    let poison = poison.into_iter().map(async |(delivery, cause)| {
        delivery.give_back(Err(Failure::Poison(cause)), deadline, redelivery).await
    });
    let lanes = lanes.into_values().map(async |mut lane| {
        lane.sort_by_key(|(requested_at, ..)| *requested_at);
        let mut stays = Vec::new();
        let mut left = lane.into_iter();
        for (_, delivery, work) in left.by_ref() {
            let result = in_time(deadline, handle(work)).await;
            stays.extend(delivery.give_back(result, deadline, redelivery).await);
            if Instant::now() >= deadline.stop {
                break;
            }
        }
        // Concurrently, since there is little time left.
        let rest = left.map(|(_, delivery, _)| delivery.give_back(Err(out_of_time()), deadline, redelivery));
        stays.extend(join_all(rest).await.into_iter().flatten());
        stays
    });
    let (poison, lanes) = tokio::join!(join_all(poison), join_all(lanes));

    let stays = poison.into_iter().flatten().chain(lanes.into_iter().flatten());
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = stays.map(failure).collect();
    Ok(response)
}

fn failure(message_id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = message_id;
    failure
}

fn out_of_time() -> Failure {
    Failure::Unavailable("the invocation had no time left for it".into())
}

/// Runs the work of one message, which may panic or take too long.
async fn in_time(
    deadline: Deadline,
    work: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    match timeout_at(deadline.stop, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::Poison("the handler panicked".into())),
        Err(_) => Err(out_of_time()),
    }
}

struct Delivery {
    id: String,
    receipt_handle: String,
    receive_count: u32,
}

impl Delivery {
    /// Returns the message's id if it stays in the queue.
    async fn give_back(
        self,
        result: Result<Outcome, Failure>,
        deadline: Deadline,
        redelivery: &impl Redelivery,
    ) -> Option<String> {
        let after = match result {
            Ok(Outcome::Done) => return None,
            Ok(Outcome::Again(after)) => after,
            Err(Failure::Poison(cause)) => {
                tracing::error!(message_id = %self.id, %cause, "poison message");
                Duration::ZERO
            }
            Err(cause @ Failure::Contended) => {
                tracing::warn!(message_id = %self.id, %cause, "message will be delivered again");
                after_contention(self.receive_count)
            }
            Err(Failure::Unavailable(cause)) => {
                tracing::warn!(message_id = %self.id, %cause, "message failed, and will be delivered again");
                after_unavailable(&self.id, self.receive_count)
            }
        };
        let change = timeout_at(deadline.end, redelivery.redeliver(&self.receipt_handle, after)).await;
        // If this fails, the message comes back when the queue's visibility timeout ends.
        match change {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => {
                tracing::warn!(message_id = %self.id, %cause, "could not set when the message is delivered again");
            }
            Err(_) => {
                tracing::warn!(message_id = %self.id, "no time to set when the message is delivered again");
            }
        }
        Some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;
    use crate::fixture::{Redeliveries, failed};

    fn batch(bodies: &[&str]) -> SqsEvent {
        let records: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(n, body)| json!({"messageId": format!("id-{n}"), "receiptHandle": format!("r-{n}"), "body": body}))
            .collect();
        serde_json::from_value(json!({ "Records": records })).unwrap()
    }

    /// `key:action` is a message; anything else is poison.
    ///
    /// An action that begins with a number is requested at that second.
    fn parse(message: &SqsMessage) -> Result<Parsed<String, String>, String> {
        let body = message.body.clone().unwrap_or_default();
        let (key, action) = body.split_once(':').ok_or("no key")?;
        let second: i64 = action.parse().unwrap_or(0);
        let requested_at = Timestamp::from_millis(second * 1_000).unwrap();
        Ok(Parsed { key: key.to_owned(), requested_at, work: action.to_owned() })
    }

    async fn run(bodies: &[&str]) -> (Vec<String>, Vec<(String, u64)>, Vec<String>) {
        let redeliveries = Redeliveries::default();
        let handled = RefCell::new(Vec::new());
        let deadline = Deadline::after(Duration::from_secs(10));
        let response = each_message(batch(bodies), deadline, &redeliveries, parse, async |action: String| {
            handled.borrow_mut().push(action.clone());
            match action.as_str() {
                "panic" => panic!("on purpose"),
                "wait" => Ok(Outcome::Again(Duration::from_secs(4))),
                "down" => Err(CallError::Unavailable("no table".into()).into()),
                "contended" => Err(Failure::Contended),
                "corrupt" => Err(CallError::Corrupt("a row that is none".into()).into()),
                "slow" => {
                    tokio::time::sleep(Duration::from_secs(4)).await;
                    Ok(Outcome::Done)
                }
                _ => Ok(Outcome::Done),
            }
        })
        .await
        .unwrap();
        let mut failed = failed(response);
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
    async fn messages_of_one_key_run_in_the_order_of_their_requests() {
        let (_, _, handled) = run(&["a:2", "b:x", "a:3", "a:1"]).await;
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
    async fn a_message_whose_dependency_is_down_fails_and_backs_off() {
        let (failed, redelivered, _) = run(&["a:down", "b:ok"]).await;
        assert_eq!((failed, redelivered), (vec!["id-0".into()], vec![("r-0".into(), 1)]));
    }

    #[tokio::test]
    async fn a_contended_message_comes_back_soon_and_one_that_meets_a_corrupt_row_is_poison() {
        let (failed, redelivered, _) = run(&["a:contended", "b:corrupt"]).await;
        assert_eq!(failed, ["id-0", "id-1"]);
        assert_eq!(redelivered, [("r-0".into(), 1), ("r-1".into(), 0)]);
    }

    /// Earlier, ten slow commands of one property took longer than the function may run. SQS delivered all
    /// of them again after their visibility timeout, even those that were done.
    #[tokio::test(start_paused = true)]
    async fn slow_messages_of_one_key_stop_in_time_and_the_rest_goes_back() {
        let begun = Instant::now();
        let (failed, redelivered, handled) = run(&["a:slow"; 10]).await;
        assert_eq!(handled.len(), 3, "the third is cut short");
        assert_eq!(failed.len(), 8);
        assert!(redelivered.iter().all(|(_, after)| *after == 1) && redelivered.len() == 8);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_does_not_answer_does_not_hold_the_invocation() {
        struct Stalled;
        impl Redelivery for Stalled {
            async fn redeliver(&self, _: &str, _: Duration) -> Result<(), CallError> {
                std::future::pending().await
            }
        }
        let begun = Instant::now();
        let deadline = Deadline::after(Duration::from_secs(10));
        let handle = async |_| Ok(Outcome::Again(Duration::from_secs(2)));
        let response = each_message(batch(&["a:1", "a:2"]), deadline, &Stalled, parse, handle).await.unwrap();
        assert_eq!(response.batch_item_failures.len(), 2);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
