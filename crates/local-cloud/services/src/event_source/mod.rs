//! Event source mappings: queues and table streams that invoke functions. A mapping polls
//! its source, filters, batches, invokes, and settles what the function answered, in the
//! way that the Lambda guide describes per source.

mod api;
mod mapping;
mod queue;
pub mod stream;
mod table;
mod update;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Service, Type};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud, later};
use mapping::{Mapping, Source};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use update::Update;

/// Event source mappings, a part of the service `lambda`.
pub static SERVICE: Service = Service {
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    start: start,
    actions: api::ACTIONS,
    types: TYPES,
    ..Service::new("lambda")
};

/// What the service keeps.
#[derive(Debug, Default)]
pub struct State {
    mappings: Mutex<BTreeMap<String, Arc<watch::Sender<Deployed>>>>,
    /// Held while a mapping is changed: one change after the other.
    changing: tokio::sync::Mutex<()>,
}

/// A mapping as it is to be, and how far its poller is with that.
#[derive(Debug, Clone)]
struct Deployed {
    mapping: Arc<Mapping>,
    /// `Enabling`, `Disabling` or `Updating` until the poller has taken the mapping up.
    state: &'static str,
}

impl Deployed {
    fn settled(mapping: Arc<Mapping>) -> Self {
        let state = if mapping.enabled { "Enabled" } else { "Disabled" };
        Self { mapping, state }
    }

    fn is_changing(&self) -> bool {
        !matches!(self.state, "Enabled" | "Disabled")
    }
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(stream::TABLES)?;
        store.migrate(update::TABLES)?;
        Ok(Self::default())
    }

    fn all(&self) -> Vec<Arc<watch::Sender<Deployed>>> {
        lock(&self.mappings).values().cloned().collect()
    }

    fn find(&self, uuid: &str) -> Result<Arc<watch::Sender<Deployed>>, AwsError> {
        lock(&self.mappings).get(uuid).cloned().ok_or_else(|| {
            AwsError::new(404, "ResourceNotFoundException", "The resource you requested does not exist.")
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let now = cloud.clock.now_ms();
    let template = mapping::read(cloud, resource, now)?;
    let (changed, modified_ms) = update::deployed(cloud, resource)
        .map_err(|error| resource.refuse("Properties.EventSourceArn", error.to_string()))?;
    let mut mapping = match ready(cloud, &changed, modified_ms).await {
        // Such as one to a function that the template has no more.
        Err(refusal) if changed.properties != resource.properties => {
            tracing::warn!(target: "hop", service = "lambda", resource = %template.function, "{} runs as its template says: what was changed through the API cannot be deployed any more: {refusal}", resource.logical_id);
            ready(cloud, resource, now).await?
        }
        ready => ready?,
    };
    if let Source::Table(settings) = &mut mapping.source {
        if let Source::Table(template) = template.source {
            settings.consumer = template.consumer;
        }
        stream::establish(cloud, settings)
            .await
            .map_err(|error| resource.refuse("Properties.EventSourceArn", error.message))?;
    }
    let uuid = mapping.uuid.clone();
    let deployed = watch::Sender::new(Deployed::settled(Arc::new(mapping)));
    lock(&cloud.state::<State>().mappings).insert(uuid, Arc::new(deployed));
    Ok(())
}

/// A mapping whose function is there, and fits its queue.
async fn ready(cloud: &Arc<Cloud>, resource: &Resource, modified_ms: i64) -> Result<Mapping, Refusal> {
    let mapping = mapping::read(cloud, resource, modified_ms)?;
    let (property, checked) = match mapping.source {
        Source::Queue(_) => ("EventSourceArn", queue::check(cloud, &mapping).await),
        Source::Table(_) => ("FunctionName", crate::lambda::timeout_s(cloud, &mapping.function).map(drop)),
    };
    checked.map_err(|error| resource.refuse(&format!("Properties.{property}"), error.message))?;
    Ok(mapping)
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    let mappings = cloud.state::<State>().all();
    // All of them first: two mappings may have one queue, and what a poller has received stays hidden.
    for deployed in &mappings {
        let mapping = deployed.borrow().mapping.clone();
        if matches!(mapping.source, Source::Queue(_))
            && let Err(error) = crate::sqs::release(cloud, &mapping.source_arn)
        {
            tracing::error!(%error, "what was in flight shows again when its visibility timeout ends");
        }
    }
    for deployed in mappings {
        let cloud = cloud.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = cloud.stopping.cancelled() => {}
                () = run(&cloud, &deployed) => {}
            }
        });
    }
}

/// Polls as the mapping says, and takes each change up when the poller before it has ended:
/// no two of them work on one stream.
async fn run(cloud: &Arc<Cloud>, deployed: &watch::Sender<Deployed>) {
    let mut changes = deployed.subscribe();
    loop {
        deployed.send_modify(|deployed| *deployed = Deployed::settled(deployed.mapping.clone()));
        let mapping = deployed.borrow().mapping.clone();
        let stop = CancellationToken::new();
        let polling = async {
            if mapping.enabled {
                poll(cloud, &mapping, &stop).await;
            }
        };
        let changed = async {
            // The sender is `deployed` itself.
            let _ = changes.wait_for(Deployed::is_changing).await;
            stop.cancel();
        };
        futures::future::join(polling, changed).await;
    }
}

async fn poll(cloud: &Arc<Cloud>, mapping: &Arc<Mapping>, stop: &CancellationToken) {
    match &mapping.source {
        Source::Queue(settings) => queue::run(cloud, mapping, settings, stop).await,
        Source::Table(settings) => {
            let consumer = table::Functions::new(cloud, mapping);
            stream::run_until(cloud.clone(), settings.clone(), consumer, stop).await;
        }
    }
}

/// Forgets a mapping that the template has no more: what was changed in it, and how far it was in
/// its stream, unless another mapping of this run goes on there.
pub(crate) fn forget(cloud: &Cloud, uuid: &str) -> Result<(), StoreError> {
    let mut mappings = lock(&cloud.state::<State>().mappings);
    mappings.remove(uuid);
    let goes_on = |consumer: &str| {
        mappings.values().any(|deployed| match &deployed.borrow().mapping.source {
            Source::Table(settings) => settings.consumer == consumer,
            Source::Queue(_) => false,
        })
    };
    let consumer = update::consumer(cloud, uuid)?.filter(|consumer| !goes_on(consumer));
    cloud.store.write(|tx| {
        consumer.iter().try_for_each(|consumer| stream::forget(tx, consumer))?;
        tx.execute("DELETE FROM event_source_mappings WHERE uuid = ?1", [uuid]).map(drop)
    })
}

fn describe(cloud: &Cloud, deployed: &watch::Sender<Deployed>) -> Value {
    let Deployed { mapping, state } = deployed.borrow().clone();
    mapping.describe(cloud, state)
}

/// Answers before the poller has taken the change up, as AWS does; until then the mapping
/// cannot be changed again.
async fn change(cloud: &Arc<Cloud>, update: Update) -> Result<Value, AwsError> {
    let _one_by_one = cloud.state::<State>().changing.lock().await;
    let deployed = cloud.state::<State>().find(&update.uuid)?;
    let known = deployed.borrow().clone();
    if known.is_changing() {
        return Err(AwsError::client(
            "ResourceInUseException",
            "Cannot update the event source mapping because it is in use.",
        ));
    }
    let mapping = Arc::new(update.apply(cloud, &known.mapping)?);
    if matches!(mapping.source, Source::Queue(_)) {
        queue::check(cloud, &mapping).await?;
    }
    update::save(cloud, &mapping)?;
    let state = match (known.mapping.enabled, mapping.enabled) {
        (false, true) => "Enabling",
        (true, false) => "Disabling",
        _ => "Updating",
    };
    tracing::info!(target: "hop", service = "lambda", resource = %mapping.function, "event source mapping {}", state.to_lowercase());
    let answer = mapping.describe(cloud, state);
    deployed.send_replace(Deployed { mapping, state });
    Ok(answer)
}

/// AWS retries with a growing pause and does not publish the figures; these are ours.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause after the first failure (0), the second (1), and so on.
async fn pause(cloud: &Cloud, nth: u32) {
    let pause = FIRST_PAUSE.saturating_mul(1 << nth.min(16)).min(LONGEST_PAUSE);
    cloud.clock.sleep_until(cloud.clock.now_ms() + pause.as_millis() as i64).await;
}

/// Now, as the records of invocations and pipes write it.
pub(crate) fn timestamp(cloud: &Cloud) -> String {
    let now = jiff::Timestamp::from_millisecond(cloud.clock.now_ms()).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What a function answered under `ReportBatchItemFailures`: the identifiers that failed.
/// Nothing, null and an empty list are success; whatever else does not fit the form is an
/// error, for which the whole batch fails (services-sqs-errorhandling,
/// services-ddb-batchfailurereporting).
fn failures(payload: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        batch_item_failures: Option<Vec<Failure>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        item_identifier: String,
    }
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let answer: Option<Answer> =
        serde_json::from_slice(payload).map_err(|error| format!("malformed batch response: {error}"))?;
    let failures = answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default();
    if failures.iter().any(|failure| failure.item_identifier.is_empty()) {
        return Err("malformed batch response: an item identifier is empty".into());
    }
    Ok(failures.into_iter().map(|failure| failure.item_identifier).collect())
}

#[cfg(test)]
mod tests;

const TYPES: &[Type] = &[Type::new(
    "AWS::Lambda::EventSourceMapping",
    "queues and table streams",
    Identity::NAME
        .reference("{uuid}")
        .arn("arn:aws:lambda:{region}:{account}:event-source-mapping:{uuid}")
        .attributes(&[("Id", "{uuid}"), ("EventSourceMappingArn", "{arn}")]),
    Deploy::Later(later!(deploy)),
)
.remove(|cloud, mapping| Box::pin(async move { Ok(forget(cloud, mapping.name()).map(|()| true)?) }))];
