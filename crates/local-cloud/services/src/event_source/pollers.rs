//! The mappings of this run, and the poller of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloud_core::{AwsError, Cloud, lock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::mapping::{Mapping, Source};
use super::{queue, stream, table};

type Poller = watch::Sender<Deployed>;

#[derive(Debug, Default)]
pub struct State {
    /// By UUID.
    mappings: Mutex<BTreeMap<String, Arc<Poller>>>,
    /// Held during an update, because updates must run one at a time.
    pub updating: tokio::sync::Mutex<()>,
}

/// The desired mapping, and how far its poller is.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub mapping: Arc<Mapping>,
    /// `Enabling`, `Disabling` or `Updating` until the poller uses the mapping; then `Enabled` or `Disabled`.
    pub state: &'static str,
}

impl Deployed {
    fn settled(mapping: Arc<Mapping>) -> Self {
        let state = if mapping.enabled { "Enabled" } else { "Disabled" };
        Self { mapping, state }
    }

    pub fn is_changing(&self) -> bool {
        !matches!(self.state, "Enabled" | "Disabled")
    }
}

impl State {
    pub fn add(&self, mapping: Mapping) {
        let uuid = mapping.uuid.clone();
        let poller = Poller::new(Deployed::settled(Arc::new(mapping)));
        lock(&self.mappings).insert(uuid, Arc::new(poller));
    }

    pub fn remove(&self, uuid: &str) {
        lock(&self.mappings).remove(uuid);
    }

    pub fn all(&self) -> Vec<Arc<Poller>> {
        lock(&self.mappings).values().cloned().collect()
    }

    pub fn find(&self, uuid: &str) -> Result<Arc<Poller>, AwsError> {
        lock(&self.mappings).get(uuid).cloned().ok_or_else(|| {
            AwsError::new(404, "ResourceNotFoundException", "The resource you requested does not exist.")
        })
    }

    /// Whether a mapping of this run reads a stream with this checkpoint.
    pub fn reads(&self, consumer: &str) -> bool {
        lock(&self.mappings).values().any(|poller| match &poller.borrow().mapping.source {
            Source::Table(settings) => settings.consumer == consumer,
            Source::Queue(_) => false,
        })
    }
}

/// Starts the pollers. They end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    let pollers = cloud.state::<State>().all();
    // All queues first: two mappings may share a queue, and received messages stay hidden.
    for poller in &pollers {
        let mapping = poller.borrow().mapping.clone();
        if matches!(mapping.source, Source::Queue(_))
            && let Err(error) = crate::sqs::release(cloud, &mapping.source_arn)
        {
            tracing::error!(%error, "what was in flight shows again when its visibility timeout ends");
        }
    }
    for poller in pollers {
        let cloud = cloud.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = cloud.stopping.cancelled() => {}
                () = run(&cloud, &poller) => {}
            }
        });
    }
}

/// Polls by the mapping. After a change the next poller starts when the one before has ended, so that no
/// two of them read one stream.
async fn run(cloud: &Arc<Cloud>, poller: &Poller) {
    let mut changes = poller.subscribe();
    loop {
        poller.send_modify(|deployed| *deployed = Deployed::settled(deployed.mapping.clone()));
        let mapping = poller.borrow().mapping.clone();
        let stop = CancellationToken::new();
        let polling = async {
            if mapping.enabled {
                poll(cloud, &mapping, &stop).await;
            }
        };
        let changed = async {
            // It cannot fail: `poller` is the sender.
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
