//! Runs executions: it takes a stimulus, lets [`advance`] do the step, commits the step in one transaction,
//! and only then sends the step's requests. At start it repeats the requests that were in flight at a kill,
//! as after a lost reply; timers and tokens go on, since they are part of the tree.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use cloud_core::{AwsError, Cloud, calls};
use cloud_languages::states::integration::{Reply, Request, Resource};
use cloud_languages::states::machine::{Effects, Env, Stimulus, advance, due};
use cloud_languages::states::tree::{Execution, Failure, Status, Thread};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::machines::{Revision, revision};
use super::store::{self, Record};

/// The runner's memory; all of it can be rebuilt from the store.
#[derive(Debug, Default)]
pub struct Runner {
    /// One step at a time: a step reads the tree, changes it and writes it back.
    stepping: Mutex<()>,
    /// Requests on their way, so that no request is sent twice.
    sent: Mutex<HashSet<(i64, u64)>>,
    /// When the timers look next; milliseconds since the epoch.
    next_due: AtomicI64,
    /// Wakes the timers for something that is due before `next_due`.
    timers: Notify,
    /// Wakes the publisher of status changes.
    outbox: Notify,
    #[cfg(test)]
    pub stub: std::sync::OnceLock<super::tests::Stub>,
}

/// Stores a new execution with its first step, unless another execution has its name and is not forgotten.
pub fn start(
    cloud: &Arc<Cloud>,
    execution: Execution,
    is_forgotten: impl FnOnce(&Record) -> bool,
) -> Result<Started, AwsError> {
    let revision = revision(cloud, &execution.meta.revision)?;
    let guard = cloud_core::lock(&cloud.state::<Runner>().stepping);
    let meta = &execution.meta;
    let existing = cloud.store.read(|connection| store::find(connection, &meta.machine_name, &meta.name))?;
    let instead = existing.as_ref().map(|record| record.seq);
    if let Some(existing) = existing
        && !is_forgotten(&existing)
    {
        return Ok(Started::Existed(Box::new(existing)));
    }
    let begun = execution.meta.clone();
    let mut created = Record { seq: 0, execution };
    let effects = step(cloud, &revision, &mut created.execution, &Stimulus::Start);
    created.seq = cloud.store.write(|transaction| {
        let seq = store::insert(transaction, &created.execution, instead)?;
        // The event of its start comes before all events of its first step.
        store::announce(transaction, &begun)?;
        if created.execution.root.is_none() {
            store::announce(transaction, &created.execution.meta)?;
        }
        store::add(transaction, seq, &effects)?;
        revision.settings.log(cloud, transaction, &begun, &effects.events)?;
        Ok(seq)
    })?;
    drop(guard);
    tracing::info!(target: "hop", service = "states", resource = %begun.machine_name, execution = %begun.name, "execution started");
    follow_up(cloud, &created, effects);
    Ok(Started::Created(Box::new(created)))
}

pub enum Started {
    Created(Box<Record>),
    /// Another execution has the name.
    Existed(Box<Record>),
}

/// Gives a stimulus to an execution: `false` if nothing waited for it, `None` if there is no such execution.
pub fn stimulate(cloud: &Arc<Cloud>, seq: i64, stimulus: &Stimulus) -> Result<Option<bool>, AwsError> {
    let guard = cloud_core::lock(&cloud.state::<Runner>().stepping);
    let Some(mut record) = cloud.store.read(|connection| store::get(connection, seq))? else {
        return Ok(None);
    };
    let revision = revision(cloud, &record.execution.meta.revision)?;
    let effects = step(cloud, &revision, &mut record.execution, stimulus);
    if !effects.taken && effects.events.is_empty() {
        // The stimulus came too late or too early, and changed nothing.
        return Ok(Some(false));
    }
    // One transaction for the whole step, with its log.
    cloud.store.write(|transaction| {
        store::update(transaction, &record)?;
        store::add(transaction, seq, &effects)?;
        if effects.status_changed {
            store::announce(transaction, &record.execution.meta)?;
        }
        revision.settings.log(cloud, transaction, &record.execution.meta, &effects.events)
    })?;
    drop(guard);
    let taken = effects.taken;
    follow_up(cloud, &record, effects);
    Ok(Some(taken))
}

fn step(cloud: &Cloud, revision: &Revision, execution: &mut Execution, stimulus: &Stimulus) -> Effects {
    let env = Env { now_ms: cloud.clock.now_ms(), random: &cloud.random, region: &cloud.settings.region };
    advance(&revision.definition, execution, stimulus, &env)
}

/// Does the effects of a step that is committed.
fn follow_up(cloud: &Arc<Cloud>, record: &Record, effects: Effects) {
    let meta = &record.execution.meta;
    for event in &effects.events {
        tracing::debug!(execution = %meta.name, event = %event.kind, "history");
        if let Some(name) = event.details.get("name").and_then(Value::as_str)
            && event.kind.ends_with("StateEntered")
        {
            tracing::info!(target: "hop", service = "states", resource = %meta.machine_name, state = %name, execution = %meta.name, "state entered");
        }
    }
    let runner = cloud.state::<Runner>();
    if effects.status_changed {
        runner.outbox.notify_one();
    }
    if effects.status_changed && record.execution.root.is_none() {
        let (machine, name, status) = (&meta.machine_name, &meta.name, meta.status.name());
        cloud.counters.execution(status);
        if meta.status == Status::Succeeded {
            tracing::info!(target: "hop", service = "states", resource = %machine, execution = %name, status, "execution ended");
        } else {
            let error = meta.failure.as_ref().and_then(|failure| failure.error.as_deref()).unwrap_or("-");
            tracing::warn!(target: "hop", service = "states", resource = %machine, execution = %name, status, error, "execution ended");
        }
    }
    // The timers need to wake only if they would be late.
    if due(&record.execution).is_some_and(|due| due < runner.next_due.load(Ordering::SeqCst)) {
        runner.timers.notify_one();
    }
    for (number, resource, arguments) in effects.requests {
        send(cloud, record, number, resource, arguments);
    }
}

/// Sends a task's request and gives the execution the reply.
fn send(cloud: &Arc<Cloud>, record: &Record, number: u64, resource: String, arguments: Value) {
    let seq = record.seq;
    if !cloud_core::lock(&cloud.state::<Runner>().sent).insert((seq, number)) {
        return;
    }
    let meta = &record.execution.meta;
    let (execution_arn, machine_arn) = (meta.arn.clone(), meta.machine_arn.clone());
    let cloud = cloud.clone();
    tokio::spawn(async move {
        let outcome = async {
            let resource = Resource::parse(&resource).map_err(|reason| Failure::runtime(&reason))?;
            let request = resource.request(arguments, &execution_arn, &machine_arn)?;
            let reply = calls::by(machine_arn, perform(&cloud, request)).await;
            if let Err(error) = &reply {
                tracing::warn!(target: "hop", service = "states", resource = %resource.arn, %error, "task failed");
            }
            resource.settle(reply, &cloud.random.uuid())
        };
        let outcome = tokio::select! {
            biased;
            // The next start sends it again.
            () = cloud.stopping.cancelled() => return,
            outcome = outcome => outcome,
        };
        // The reply is lost if it cannot be stored; then the task's timeout or the next start goes on.
        if let Err(error) = stimulate(&cloud, seq, &Stimulus::Answered(number, outcome)) {
            tracing::warn!(target: "hop", service = "states", resource = %execution_arn, %error, "reply not stored");
        }
        cloud_core::lock(&cloud.state::<Runner>().sent).remove(&(seq, number));
    });
}

async fn perform(cloud: &Arc<Cloud>, request: Request) -> Result<Reply, AwsError> {
    #[cfg(test)]
    if let Some(stub) = cloud.state::<Runner>().stub.get() {
        return stub.answer(request).await;
    }
    match request {
        Request::Call { service, action, input } => {
            cloud.call(service, action, input).await.map(Reply::Answer)
        }
        Request::Invoke { function, payload, asynchronous } => {
            cloud.record("lambda", "Invoke", &json!({ "FunctionName": function }));
            let payload = bytes::Bytes::from(payload.to_string());
            if asynchronous {
                crate::lambda::invoke_async(cloud, &function, payload).await?;
                return Ok(Reply::Queued);
            }
            let invocation = crate::lambda::invoke(cloud, &function, payload).await?;
            Ok(Reply::Invoked {
                payload: serde_json::from_slice(&invocation.payload).unwrap_or(Value::Null),
                function_error: invocation.function_error,
                request_id: invocation.request_id,
            })
        }
    }
}

/// Starts timers and the publisher of status changes, and repeats the requests that were in flight.
pub fn resume(cloud: &Arc<Cloud>) {
    // Tasks that timed out meanwhile end first, so that their requests are not repeated.
    if let Err(error) = tick(cloud) {
        tracing::error!(%error, "timers of executions failed");
    }
    match cloud.store.read(store::running) {
        Ok(running) => {
            for record in running {
                let open = record.execution.root.as_ref().map(Thread::open_requests);
                for (number, resource, arguments) in open.unwrap_or_default() {
                    send(cloud, &record, number, resource, arguments);
                }
            }
        }
        Err(error) => tracing::error!(%error, "executions could not be resumed"),
    }
    until_stopped(cloud, |cloud| async move { keep_time(&cloud).await });
    until_stopped(cloud, |cloud| async move { publish(&cloud).await });
}

fn until_stopped<F>(cloud: &Arc<Cloud>, work: impl FnOnce(Arc<Cloud>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let stopping = cloud.stopping.clone();
    let work = work(cloud.clone());
    tokio::spawn(async move {
        // Once the cloud stops, nothing more is done, even if there is something to do.
        tokio::select! { biased; () = stopping.cancelled() => {}, () = work => {} }
    });
}

/// Sleeps until the next due time of all executions, which only a step changes.
async fn keep_time(cloud: &Arc<Cloud>) {
    let runner = cloud.state::<Runner>();
    loop {
        let changed = runner.timers.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // A step during `tick` wakes this loop again.
        runner.next_due.store(i64::MAX, Ordering::SeqCst);
        let next = tick(cloud).unwrap_or_else(|error| {
            tracing::error!(%error, "timers of executions failed");
            Some(cloud.clock.now_ms() + 1_000)
        });
        match next {
            Some(due) => {
                runner.next_due.store(due, Ordering::SeqCst);
                tokio::select! { () = cloud.clock.sleep_until(due) => {}, () = changed => {} }
            }
            None => changed.await,
        }
    }
}

/// Advances every execution that is due; returns the next due time. An execution that cannot be advanced is
/// tried again later, and holds up no other.
fn tick(cloud: &Arc<Cloud>) -> Result<Option<i64>, AwsError> {
    let now_ms = cloud.clock.now_ms();
    let mut failed = None;
    for seq in cloud.store.read(|connection| store::due_now(connection, now_ms))? {
        if let Err(error) = stimulate(cloud, seq, &Stimulus::Tick) {
            tracing::error!(%error, "an execution could not be advanced");
            failed = Some(now_ms + 1_000);
        }
    }
    Ok(failed.or(cloud.store.read(store::next_due)?))
}

async fn publish(cloud: &Arc<Cloud>) {
    loop {
        match drain(cloud).await {
            Ok(true) => {}
            Ok(false) => cloud.state::<Runner>().outbox.notified().await,
            Err(error) => {
                tracing::warn!(target: "hop", service = "states", %error, "status change not published yet");
                cloud.clock.sleep_until(cloud.clock.now_ms() + 1_000).await;
            }
        }
    }
}

/// Publishes the status changes that wait, in their order, in one transaction with their removal from the
/// outbox; returns whether there were any.
async fn drain(cloud: &Arc<Cloud>) -> Result<bool, AwsError> {
    let waiting = cloud.store.read(store::announced)?;
    let Some(&(last, ..)) = waiting.last() else { return Ok(false) };
    let mut details = Vec::new();
    for (_, resource, detail) in waiting {
        details.push((resource, serde_json::from_str(&detail).map_err(AwsError::internal)?));
    }
    #[cfg(test)]
    if let Some(stub) = cloud.state::<Runner>().stub.get() {
        details.iter().for_each(|(_, detail)| stub.published(detail));
    }
    let delete = |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute("DELETE FROM sfn_outbox WHERE id <= ?1", [last]).map(drop)
    };
    let kind = "Step Functions Execution Status Change";
    crate::eventbridge::publish_aws_events(cloud, "aws.states", kind, details, delete).await?;
    Ok(true)
}
