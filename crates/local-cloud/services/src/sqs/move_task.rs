//! Message move tasks: dead messages go back to the queue they came from, or to another. A task stores its
//! progress with each message that it moves, so that it goes on after a restart and moves each message once.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloud_core::service::Answer;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::{Queue, name_in_arn};
use super::{arrival, fault, message, store};

/// Messages in one second (API_StartMessageMoveTask).
const MAX_RATE: i64 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Start {
    source_arn: String,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
}

/// The queue that a parameter names.
fn by_arn(cloud: &Cloud, parameter: &str, arn: &str) -> Result<Queue, AwsError> {
    let message = format!("The resource that you specified for the {parameter} parameter doesn't exist.");
    store::by_arn(cloud, arn)?.ok_or_else(|| fault::no_resource(&message))
}

pub(super) fn start(cloud: &Arc<Cloud>, input: Start) -> Answer {
    let source = by_arn(cloud, "SourceArn", &input.source_arn)?;
    let destination = input.destination_arn.as_deref();
    let destination = destination.map(|arn| by_arn(cloud, "DestinationArn", arn)).transpose()?;
    if store::sources_of(cloud, &source.name)?.is_empty() {
        return Err(fault::invalid("Source queue must be configured as a Dead Letter Queue."));
    }
    let rate = input.max_number_of_messages_per_second;
    if let Some(rate) = rate.filter(|rate| !(1..=MAX_RATE).contains(rate)) {
        let reason = "Must be between 1 and 500.";
        return Err(fault::invalid_value(rate, "MaxNumberOfMessagesPerSecond", reason));
    }
    let destination = destination.map(|queue| queue.name);
    let [to_move, ..] = message::counts(cloud, &source)?;
    let task = json!({ "taskId": cloud.random.uuid(), "sourceArn": cloud.arn("sqs", &source.name) });
    let handle = STANDARD.encode(task.to_string());
    let started = cloud.store.write(|tx| {
        tx.execute(
            "INSERT INTO sqs_move_tasks (handle, source, destination, rate, status, to_move, started_ms)
             SELECT ?1, ?2, ?3, ?4, 'RUNNING', ?5, ?6 WHERE NOT EXISTS
             (SELECT 1 FROM sqs_move_tasks WHERE source = ?2 AND status = 'RUNNING')",
            params![handle, source.name, destination, rate, to_move, cloud.clock.now_ms()],
        )
    })?;
    if started == 0 {
        return Err(fault::invalid(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }
    spawn(cloud, handle.clone());
    Ok(json!({ "TaskHandle": handle }))
}

/// Goes on with the tasks that the end of the local cloud interrupted, until `cloud.stopping`.
pub(super) fn resume(cloud: &Arc<Cloud>) {
    let running = cloud.store.read(|c| {
        c.prepare("SELECT handle FROM sqs_move_tasks WHERE status = 'RUNNING'")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()
    });
    match running {
        Ok(handles) => handles.into_iter().for_each(|handle| spawn(cloud, handle)),
        Err(error) => {
            tracing::warn!(target: "hop", service = "sqs", "cannot resume message move tasks: {error}")
        }
    }
}

fn spawn(cloud: &Arc<Cloud>, handle: String) {
    let cloud = cloud.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = cloud.stopping.cancelled() => {}
            result = work(&cloud, &handle) => if let Err(error) = result {
                tracing::warn!(target: "hop", service = "sqs", "a message move task stopped: {error}");
            }
        }
    });
}

/// Moves one message at a time; a task with a rate moves that number at the start of each second.
async fn work(cloud: &Arc<Cloud>, handle: &str) -> Result<(), StoreError> {
    loop {
        let second = cloud.clock.now_ms();
        let mut moved = 0;
        loop {
            let Some((destination, rate)) = step(cloud, handle)? else { return Ok(()) };
            arrival(cloud, &destination).notify_waiters();
            moved += 1;
            if rate == Some(moved) {
                break;
            }
            tokio::task::yield_now().await;
        }
        cloud.clock.sleep_until(second + 1_000).await;
    }
}

/// Moves one message or ends the task, in one transaction. Returns the destination and the rate of the task,
/// or `None` when it ended.
fn step(cloud: &Cloud, handle: &str) -> Result<Option<(String, Option<i64>)>, StoreError> {
    let now = cloud.clock.now_ms();
    let id = cloud.random.uuid();
    cloud.store.write(|tx| {
        let task: Option<(String, Option<String>, Option<i64>, i64)> = tx
            .query_row(
                "SELECT source, destination, rate, started_ms FROM sqs_move_tasks WHERE handle = ?1 AND status = 'RUNNING'",
                [handle],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .optional()?;
        let Some((source, destination, rate, started_ms)) = task else { return Ok(None) };
        // Dead letters that arrive later are not part of the task, so that it ends even when a message fails
        // again at once.
        let dead: Option<(i64, Option<String>)> = tx
            .query_row(
                "SELECT id, source FROM sqs_messages WHERE queue = ?1 AND visible_ms <= ?2 ORDER BY visible_ms, id LIMIT 1",
                params![source, started_ms],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((message, origin)) = dead else { return end(tx, handle, "COMPLETED", None) };
        let origin = origin.as_deref().and_then(name_in_arn).map(str::to_owned);
        let Some(destination) = destination.or(origin) else {
            return end(tx, handle, "FAILED", Some("CouldNotDetermineMessageSource"));
        };
        if store::read(tx, &destination)?.is_none() {
            return end(tx, handle, "FAILED", Some("AWS.SimpleQueueService.NonExistentQueue"));
        }
        // A redriven message counts as a new one: new id, new time, no receives
        // (SQSDeveloperGuide, sqs-configure-dead-letter-queue-redrive).
        tx.execute(
            "UPDATE sqs_messages SET queue = ?2, message_id = ?3, sent_ms = ?4, visible_ms = ?4, receives = 0,
             total_receives = 0, first_received_ms = NULL, received_ms = NULL, receipt = NULL, source = NULL WHERE id = ?1",
            params![message, destination, id, now],
        )?;
        tx.execute("UPDATE sqs_move_tasks SET moved = moved + 1 WHERE handle = ?1", [handle])?;
        Ok(Some((destination, rate)))
    })
}

fn end<T>(
    tx: &Transaction<'_>,
    handle: &str,
    status: &str,
    failure: Option<&str>,
) -> rusqlite::Result<Option<T>> {
    let statement = "UPDATE sqs_move_tasks SET status = ?2, failure = ?3 WHERE handle = ?1";
    tx.execute(statement, params![handle, status, failure])?;
    Ok(None)
}

/// Deletes the tasks that `ListMessageMoveTasks` no longer shows: it shows the last ten of a source.
pub(super) fn forget_ended(tx: &Transaction<'_>) -> rusqlite::Result<usize> {
    tx.execute(
        "DELETE FROM sqs_move_tasks WHERE status <> 'RUNNING' AND handle IN (
             SELECT handle FROM (SELECT handle, row_number()
                 OVER (PARTITION BY source ORDER BY started_ms DESC, rowid DESC) AS place FROM sqs_move_tasks)
             WHERE place > 10)",
        [],
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ListTasks {
    source_arn: String,
    max_results: Option<usize>,
}

pub(super) fn list(cloud: &Cloud, input: &ListTasks) -> Answer {
    let source = by_arn(cloud, "SourceArn", &input.source_arn)?;
    // 1 where absent, 10 at most (API_ListMessageMoveTasks).
    let most = input.max_results.unwrap_or(1);
    if !(1..=10).contains(&most) {
        return Err(fault::invalid_value(most, "MaxResults", "Must be between 1 and 10."));
    }
    let rows = cloud.store.read(|c| {
        c.prepare(
            "SELECT handle, destination, rate, status, moved, to_move, started_ms, failure FROM sqs_move_tasks
             WHERE source = ?1 ORDER BY started_ms DESC, rowid DESC LIMIT ?2",
        )?
        .query_map(params![source.name, most], |row| {
            let status: String = row.get(3)?;
            let destination: Option<String> = row.get(1)?;
            let members = [
                // The handle serves to cancel, so only a running task shows it.
                ("TaskHandle", (status == "RUNNING").then(|| row.get(0).map(Value::String)).transpose()?),
                ("DestinationArn", destination.map(|name| cloud.arn("sqs", &name).into())),
                ("MaxNumberOfMessagesPerSecond", row.get::<_, Option<i64>>(2)?.map(Value::from)),
                ("ApproximateNumberOfMessagesMoved", Some(row.get::<_, i64>(4)?.into())),
                ("ApproximateNumberOfMessagesToMove", Some(row.get::<_, i64>(5)?.into())),
                ("StartedTimestamp", Some(row.get::<_, i64>(6)?.into())),
                ("FailureReason", row.get::<_, Option<String>>(7)?.map(Value::from)),
                ("Status", Some(status.into())),
                ("SourceArn", Some(cloud.arn("sqs", &source.name).into())),
            ];
            Ok(Value::Object(
                members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
            ))
        })?
        .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(json!({ "Results": rows }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Cancel {
    task_handle: String,
}

pub(super) fn cancel(cloud: &Cloud, input: &Cancel) -> Answer {
    let handle = &input.task_handle;
    let decoded = STANDARD.decode(handle).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let decoded = decoded.unwrap_or_default();
    let (Some(_), Some(source)) = (decoded["taskId"].as_str(), decoded["sourceArn"].as_str()) else {
        return Err(fault::invalid("Value for parameter TaskHandle is invalid."));
    };
    by_arn(cloud, "SourceArn", source)?;
    let moved: Option<i64> = cloud.store.write(|tx| {
        tx.query_row(
            "UPDATE sqs_move_tasks SET status = 'CANCELLED' WHERE handle = ?1 AND status = 'RUNNING' RETURNING moved",
            [handle],
            |row| row.get(0),
        )
        .optional()
    })?;
    match moved {
        Some(moved) => Ok(json!({ "ApproximateNumberOfMessagesMoved": moved })),
        // A task that has ended cannot be cancelled, either.
        None => Err(fault::no_resource("Task does not exist.")),
    }
}

#[cfg(test)]
#[path = "move_task_tests.rs"]
mod tests;
