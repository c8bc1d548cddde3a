//! The pipes of this run, and their readers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloud_core::Cloud;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::pipe::Pipe;
use super::store;
use super::transfer::Transfer;
use crate::event_source::stream;

#[derive(Debug, Default)]
pub struct State {
    /// By name.
    pipes: Mutex<BTreeMap<String, Deployed>>,
}

#[derive(Debug, Clone)]
pub struct Deployed {
    pub pipe: Arc<Pipe>,
    /// The members of DescribePipe that repeat the template.
    pub view: Value,
    pub tags: Map<String, Value>,
    /// Ends the reader; `None` while the pipe is stopped.
    running: Option<CancellationToken>,
    /// The reader holds it until it has ended: no two of them use one checkpoint.
    pub reading: Arc<tokio::sync::Mutex<()>>,
}

impl Deployed {
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl State {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Deployed>) -> T) -> T {
        change(&mut cloud_core::lock(&self.pipes))
    }

    pub fn add(&self, pipe: Pipe, view: Value, tags: Map<String, Value>) {
        self.with(|pipes| {
            let reading = pipes.get(&pipe.name).map(|before| before.reading.clone()).unwrap_or_default();
            let name = pipe.name.clone();
            pipes.insert(name, Deployed { pipe: Arc::new(pipe), view, tags, running: None, reading });
        });
    }

    pub fn remove(&self, name: &str) {
        self.with(|pipes| pipes.remove(name));
    }

    pub fn find(&self, name: &str) -> Option<Deployed> {
        self.with(|pipes| pipes.get(name).cloned())
    }

    /// All pipes, by name.
    pub fn all(&self) -> Vec<Deployed> {
        self.with(|pipes| pipes.values().cloned().collect())
    }
}

/// Runs the pipes that shall run. Their readers end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    for Deployed { pipe, .. } in cloud.state::<State>().all() {
        match store::desired(cloud, &pipe.name) {
            Ok(Some((desired, _))) if desired == "RUNNING" => run(cloud, &pipe.name),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, pipe = %pipe.name, "the state of a pipe could not be read"),
        }
    }
}

pub fn run(cloud: &Arc<Cloud>, name: &str) {
    let stop = CancellationToken::new();
    let deployed = cloud.state::<State>().with(|pipes| {
        let deployed = pipes.get_mut(name).filter(|deployed| !deployed.is_running())?;
        deployed.running = Some(stop.clone());
        Some((deployed.pipe.clone(), deployed.reading.clone()))
    });
    let Some((pipe, reading)) = deployed else { return };
    let cloud = cloud.clone();
    tokio::spawn(async move {
        // The last reader may still have a delivery under way.
        let _reading = reading.lock().await;
        if !stop.is_cancelled() {
            let transfer = Transfer { cloud: cloud.clone(), pipe: pipe.clone() };
            stream::run_until(cloud, pipe.stream.clone(), transfer, &stop).await;
        }
    });
}

pub fn stop(cloud: &Cloud, name: &str) {
    let running = cloud.state::<State>().with(|pipes| pipes.get_mut(name)?.running.take());
    if let Some(running) = running {
        running.cancel();
    }
}
