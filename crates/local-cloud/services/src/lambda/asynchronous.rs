//! Asynchronous invocations (invocation-async): accepted into the store, delivered by a background task,
//! retried, and in the end handed to a destination or dead-letter queue.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud, lock};

use super::destination::{self, Outcome};
use super::store::{self, Event};
use super::{State, function, invocation};

/// 1 MB (API_Invoke).
const MAX_EVENT_BYTES: usize = 1_048_576;

/// One minute before the first retry, two before the second (invocation-async-error-handling).
const RETRY_PAUSES_MS: [i64; 2] = [60_000, 120_000];

/// After a throttle the pause grows from one second to five minutes (the same page).
const MAX_THROTTLE_PAUSE_MS: i64 = 300_000;

/// Events under way at once, most of which wait for a process; the others stay in the store.
const MAX_UNDER_WAY: usize = 256;

/// Stores an event; returns its request id.
pub(super) fn accept(cloud: &Arc<Cloud>, name: &str, payload: Bytes) -> Result<String, AwsError> {
    let function = function(cloud, name)?;
    let payload = invocation::check(payload, MAX_EVENT_BYTES)?;
    let request_id = cloud.random.uuid();
    store::insert(&cloud.store, &request_id, &function.config.name, &payload, cloud.clock.now_ms())?;
    tracing::info!(target: "hop", service = "lambda", resource = %function.config.name, request = %request_id, "event accepted");
    cloud.state::<State>().accepted.notify_one();
    Ok(request_id)
}

/// Delivers the events that are due, until `cloud.stopping`. Events that were under way at a crash are due
/// again.
pub(super) fn start(cloud: &Arc<Cloud>) {
    let cloud = cloud.clone();
    tokio::spawn(async move {
        let under_way = Arc::new(Mutex::new(HashSet::new()));
        loop {
            let next_due = dispatch(&cloud, &under_way).unwrap_or_else(|error| {
                tracing::warn!(target: "hop", service = "lambda", "cannot read the asynchronous events: {error}");
                Some(cloud.clock.now_ms() + 1_000)
            });
            let due = async {
                match next_due {
                    Some(due_ms) => cloud.clock.sleep_until(due_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cloud.state::<State>().accepted.notified() => {}
                () = due => {}
                () = cloud.stopping.cancelled() => return,
            }
        }
    });
}

/// Spawns the delivery of events that are due, as long as there is room; each delivery that ends asks for
/// the next one. Returns when another event will be due.
fn dispatch(cloud: &Arc<Cloud>, under_way: &Arc<Mutex<HashSet<String>>>) -> Result<Option<i64>, StoreError> {
    let known = lock(under_way).clone();
    let (due, next_due) = store::due(&cloud.store, cloud.clock.now_ms(), &known, MAX_UNDER_WAY)?;
    for event in due {
        let (cloud, under_way) = (cloud.clone(), under_way.clone());
        lock(&under_way).insert(event.request_id.clone());
        tokio::spawn(async move {
            tokio::select! {
                // First: a delivery that the stop breaks off is not an attempt.
                biased;
                () = cloud.stopping.cancelled() => {}
                result = deliver(&cloud, &event) => if let Err(error) = result {
                    tracing::warn!(target: "hop", service = "lambda", resource = %event.function, "cannot record an asynchronous invocation: {error}");
                }
            }
            lock(&under_way).remove(&event.request_id);
            cloud.state::<State>().accepted.notify_one();
        });
    }
    Ok(next_due)
}

/// Makes one attempt, and stores or sends its outcome.
async fn deliver(cloud: &Arc<Cloud>, event: &Event) -> Result<(), AwsError> {
    let Ok(function) = function(cloud, &event.function) else {
        tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "event dropped: the function is no longer in the template");
        return done(cloud, event);
    };
    let configs = &cloud.state::<State>().event_invokes;
    let config = lock(configs).get(&event.function).cloned().unwrap_or_default();
    let expires_ms = event.accepted_ms + config.max_age_s * 1_000;
    let outcome =
        |condition, last, attempts| Outcome { event, function: &function, condition, last, attempts };
    let give_up = async |outcome: Outcome<'_>| {
        destination::give_up(cloud, &config, &outcome).await;
        done(cloud, event)
    };
    if cloud.clock.now_ms() > expires_ms {
        return give_up(outcome("EventAgeExceeded", None, event.attempts)).await;
    }
    // Without any concurrency there is nothing to wait for (invocation-async-retain-records).
    if function.config.reserved_concurrency == Some(0) {
        return give_up(outcome("ZeroReservedConcurrency", None, event.attempts)).await;
    }
    let (payload, request_id) = (event.payload.clone(), event.request_id.clone());
    let invocation = match invocation::invoke(cloud, &function, payload, request_id, None).await {
        Ok(invocation) => invocation,
        // Throttled or failed on our side: tried again until the event is too old.
        Err(error) => {
            let pause = 1_000_i64.saturating_mul(1 << event.throttled.min(16)).min(MAX_THROTTLE_PAUSE_MS);
            tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "not invoked, will be retried in {} s: {error}", pause / 1_000);
            return postpone(cloud, event, "throttled", pause);
        }
    };
    let ended = |condition| outcome(condition, Some(&invocation), event.attempts + 1);
    let pause = RETRY_PAUSES_MS[(event.attempts as usize).min(1)];
    if invocation.function_error.is_none() {
        destination::succeeded(cloud, &config, &ended("Success")).await;
        done(cloud, event)
    } else if event.attempts >= config.retries {
        give_up(ended("RetriesExhausted")).await
    } else if cloud.clock.now_ms() + pause >= expires_ms {
        give_up(ended("EventAgeExceeded")).await
    } else {
        tracing::warn!(target: "hop", service = "lambda", resource = %event.function, request = %event.request_id, "will be retried in {} s", pause / 1_000);
        postpone(cloud, event, "attempts", pause)
    }
}

fn done(cloud: &Cloud, event: &Event) -> Result<(), AwsError> {
    Ok(store::delete(&cloud.store, &event.request_id)?)
}

fn postpone(cloud: &Cloud, event: &Event, counter: &str, pause_ms: i64) -> Result<(), AwsError> {
    Ok(store::postpone(&cloud.store, &event.request_id, counter, cloud.clock.now_ms() + pause_ms)?)
}

#[cfg(test)]
#[path = "asynchronous_tests.rs"]
mod tests;
