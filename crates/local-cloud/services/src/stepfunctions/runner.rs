//! Runs executions: takes a stimulus, lets [`cloud_languages::states::machine::advance`] do the step, commits
//! it in one transaction, and only then sends what the step asks for. Requests that were in
//! flight when the process died are sent again at start, as after a lost reply; timers and
//! tokens simply go on, since they are part of the tree.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloud_core::{AwsError, Cloud, calls};
use cloud_languages::states::asl::Definition;
use cloud_languages::states::integration::{Reply, Request, Resource};
use cloud_languages::states::machine::{Effects, Env, Stimulus, advance, due};
use cloud_languages::states::tree::{Execution, Failure, Status};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::machines::{self, Settings};
use super::records::{self, Record};

/// What the runner keeps in memory; all of it can be rebuilt from the store.
#[derive(Debug, Default)]
pub struct Runner {
    /// One step at a time: a step reads the tree, changes it and writes it back.
    stepping: Mutex<()>,
    /// Requests on their way, so that a start never sends one twice.
    sent: Mutex<HashSet<(i64, u64)>>,
    /// Parsed definitions by revision.
    definitions: Mutex<HashMap<String, Arc<Revision>>>,
    /// When the timers look next; milliseconds since the epoch.
    next_due: AtomicI64,
    /// Something is due before that.
    timers: Notify,
    /// A status change waits to be published.
    outbox: Notify,
    #[cfg(test)]
    pub stub: std::sync::OnceLock<tests::Stub>,
}

/// A definition that executions run, with what belongs to it.
#[derive(Debug)]
pub struct Revision {
    /// As deployed.
    pub settings: Arc<Settings>,
    /// Parsed.
    pub definition: Definition,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The revision, parsed once.
///
/// # Errors
/// When it is not in the store.
pub fn revision(cloud: &Cloud, revision: &str) -> Result<Arc<Revision>, AwsError> {
    if let Some(found) = known(cloud, revision) {
        return Ok(found);
    }
    let settings = machines::settings(cloud, revision)?;
    let definition = Definition::parse(&settings.definition)
        .map_err(|fault| AwsError::internal(format!("{}: {}", fault.path, fault.reason)))?;
    let parsed = Arc::new(Revision { settings, definition });
    locked(&cloud.state::<crate::stepfunctions::State>().runner.definitions)
        .insert(revision.into(), parsed.clone());
    Ok(parsed)
}

/// The revision, if an execution has run it since the start.
pub fn known(cloud: &Cloud, revision: &str) -> Option<Arc<Revision>> {
    locked(&cloud.state::<crate::stepfunctions::State>().runner.definitions).get(revision).cloned()
}

/// Stores a new execution with its first step, unless there is one of its name that is not
/// `forgotten`.
///
/// # Errors
/// When the store refuses.
pub fn start(
    cloud: &Arc<Cloud>,
    execution: Execution,
    is_forgotten: impl FnOnce(&Record) -> bool,
) -> Result<Started, AwsError> {
    let revision = revision(cloud, &execution.meta.revision)?;
    let guard = locked(&cloud.state::<crate::stepfunctions::State>().runner.stepping);
    let meta = &execution.meta;
    let existing =
        cloud.store.read(|connection| records::find(connection, &meta.machine_name, &meta.name))?;
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
        let seq = records::insert(transaction, &created.execution, instead)?;
        // That it runs is told before anything that the first step leads to.
        records::announce(transaction, &begun)?;
        if created.execution.root.is_none() {
            records::announce(transaction, &created.execution.meta)?;
        }
        records::add(transaction, seq, &effects)?;
        revision.settings.log(cloud, transaction, &begun, &effects.events)?;
        Ok(seq)
    })?;
    drop(guard);
    tracing::info!(target: "hop", service = "states", resource = %begun.machine_name, execution = %begun.name, "execution started");
    follow_up(cloud, &created, effects);
    Ok(Started::Created(Box::new(created)))
}

/// What became of a start.
pub enum Started {
    /// A new execution.
    Created(Box<Record>),
    /// There is one of that name.
    Existed(Box<Record>),
}

/// Gives a stimulus to an execution; `false` where nothing waited for it, and `None` where
/// there is no such execution any more.
///
/// # Errors
/// When the store refuses.
pub fn stimulate(cloud: &Arc<Cloud>, seq: i64, stimulus: &Stimulus) -> Result<Option<bool>, AwsError> {
    let guard = locked(&cloud.state::<crate::stepfunctions::State>().runner.stepping);
    let Some(mut record) = cloud.store.read(|connection| records::get(connection, seq))? else {
        return Ok(None);
    };
    let revision = revision(cloud, &record.execution.meta.revision)?;
    let effects = step(cloud, &revision, &mut record.execution, stimulus);
    if !effects.taken && effects.events.is_empty() {
        // It came too late, or too early: nothing has changed.
        return Ok(Some(false));
    }
    // One transaction for all that a step makes, its log included.
    cloud.store.write(|transaction| {
        records::update(transaction, &record)?;
        records::add(transaction, seq, &effects)?;
        if effects.status_changed {
            records::announce(transaction, &record.execution.meta)?;
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

/// What a step wants done, after its commit.
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
    let runner = &cloud.state::<crate::stepfunctions::State>().runner;
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
    // The timers look only where they would be late.
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
    if !locked(&cloud.state::<crate::stepfunctions::State>().runner.sent).insert((seq, number)) {
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
            // Sent again at the next start.
            () = cloud.stopping.cancelled() => return,
            outcome = outcome => outcome,
        };
        // A reply that cannot be stored is a lost one; the task's timeout or the next start
        // takes care of it.
        if let Err(error) = stimulate(&cloud, seq, &Stimulus::Answered(number, outcome)) {
            tracing::warn!(target: "hop", service = "states", resource = %execution_arn, %error, "reply not stored");
        }
        locked(&cloud.state::<crate::stepfunctions::State>().runner.sent).remove(&(seq, number));
    });
}

async fn perform(cloud: &Arc<Cloud>, request: Request) -> Result<Reply, AwsError> {
    #[cfg(test)]
    if let Some(stub) = cloud.state::<crate::stepfunctions::State>().runner.stub.get() {
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

/// Starts timers and the publication of status changes, and sends again what was in flight.
pub fn resume(cloud: &Arc<Cloud>) {
    // What became due meanwhile is over: its request is not sent again.
    if let Err(error) = tick(cloud) {
        tracing::error!(%error, "timers of executions failed");
    }
    match cloud.store.read(records::running) {
        Ok(running) => {
            for record in running {
                let open =
                    record.execution.root.as_ref().map(cloud_languages::states::tree::Thread::open_requests);
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
        // Once it stops, nothing more is done, even if there is something to do.
        tokio::select! { biased; () = stopping.cancelled() => {}, () = work => {} }
    });
}

/// One due time for all executions, read from an index; it changes only after a step.
async fn keep_time(cloud: &Arc<Cloud>) {
    let runner = &cloud.state::<crate::stepfunctions::State>().runner;
    loop {
        let changed = runner.timers.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // Whatever comes while this looks is told to it.
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

/// Fires all that is due and gives the next due time. An execution that cannot be advanced
/// is tried again later, and holds up no other.
fn tick(cloud: &Arc<Cloud>) -> Result<Option<i64>, AwsError> {
    let now_ms = cloud.clock.now_ms();
    let mut failed = None;
    for seq in cloud.store.read(|connection| records::due_now(connection, now_ms))? {
        if let Err(error) = stimulate(cloud, seq, &Stimulus::Tick) {
            tracing::error!(%error, "an execution could not be advanced");
            failed = Some(now_ms + 1_000);
        }
    }
    Ok(failed.or(cloud.store.read(records::next_due)?))
}

/// Publishes status changes in order, as many as wait, in one transaction with their removal
/// from here.
async fn publish(cloud: &Arc<Cloud>) {
    loop {
        match drain(cloud).await {
            Ok(true) => {}
            Ok(false) => cloud.state::<crate::stepfunctions::State>().runner.outbox.notified().await,
            Err(error) => {
                tracing::warn!(target: "hop", service = "states", %error, "status change not published yet");
                cloud.clock.sleep_until(cloud.clock.now_ms() + 1_000).await;
            }
        }
    }
}

/// Whether there was something to publish.
async fn drain(cloud: &Arc<Cloud>) -> Result<bool, AwsError> {
    let waiting: Vec<(i64, String, String)> = cloud.store.read(|connection| {
        connection
            .prepare_cached("SELECT id, resource, detail FROM sfn_outbox ORDER BY id LIMIT 100")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    })?;
    let Some(&(last, ..)) = waiting.last() else { return Ok(false) };
    let mut details = Vec::new();
    for (_, resource, detail) in waiting {
        details.push((resource, serde_json::from_str(&detail).map_err(AwsError::internal)?));
    }
    #[cfg(test)]
    if let Some(stub) = cloud.state::<crate::stepfunctions::State>().runner.stub.get() {
        details.iter().for_each(|(_, detail)| stub.published(detail));
    }
    let delete = |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute("DELETE FROM sfn_outbox WHERE id <= ?1", [last]).map(drop)
    };
    let kind = "Step Functions Execution Status Change";
    crate::eventbridge::publish_aws_events(cloud, "aws.states", kind, details, delete).await?;
    Ok(true)
}

/// Forgets parsed definitions, after a machine is deployed or deleted.
pub fn forget_definitions(cloud: &Cloud) {
    locked(&cloud.state::<crate::stepfunctions::State>().runner.definitions).clear();
}

#[cfg(test)]
pub mod tests;
