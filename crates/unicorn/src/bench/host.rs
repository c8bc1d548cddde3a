//! Runs one process of a function over the Lambda Runtime API and times its steps.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::memory_mib;

/// The time limit for a start or an invocation.
const PATIENCE: Duration = Duration::from_secs(10);
const API: &str = "/2018-06-01/runtime";

/// A step of the process.
#[derive(Debug)]
enum Done {
    /// It requested an event.
    Asked(Instant),
    Answered(Instant, Bytes),
    Failed(Bytes),
}

/// The Runtime API of one process.
struct Api {
    events: Mutex<mpsc::Receiver<Bytes>>,
    done: mpsc::UnboundedSender<Done>,
}

/// A process that has requested its first event.
pub(super) struct Process {
    child: Child,
    events: mpsc::Sender<Bytes>,
    done: mpsc::UnboundedReceiver<Done>,
    /// From the spawn to the first request for an event.
    pub start: Duration,
    _server: JoinSet<()>,
}

impl Process {
    /// Spawns a program with these environment variables, and waits until it requests an event.
    pub async fn spawn(program: &Path, variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let (events, waiting) = mpsc::channel(1);
        let (sender, done) = mpsc::unbounded_channel();
        let api = Arc::new(Api { events: Mutex::new(waiting), done: sender });
        let router = Router::new()
            .route(&format!("{API}/invocation/next"), get(next))
            .route(&format!("{API}/invocation/{{id}}/response"), post(answered))
            .route(&format!("{API}/invocation/{{id}}/error"), post(failed))
            .route(&format!("{API}/init/error"), post(failed))
            .with_state(api);
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Ends when the process is dropped.
            let _ = axum::serve(listener, router).await;
        });

        let mut command = Command::new(program);
        command.env_clear().envs(variables).env("AWS_LAMBDA_RUNTIME_API", address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let spawned = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let start = Duration::ZERO;
        let mut process = Self { child, events, done, start, _server: server };
        match process.next().await? {
            Done::Asked(at) => process.start = at - spawned,
            other => bail!("it did not request an event first, but {other:?}"),
        }
        Ok(process)
    }

    /// Gives it an event and returns the time until its answer. It has then requested the next event.
    pub async fn invoke(&mut self, event: &Bytes) -> anyhow::Result<Duration> {
        let given = Instant::now();
        self.events.send(event.clone()).await.context("it no longer takes events")?;
        let (at, answer) = match self.next().await? {
            Done::Answered(at, answer) => (at, answer),
            Done::Failed(error) => bail!("it failed: {}", String::from_utf8_lossy(&error)),
            Done::Asked(_) => bail!("it requested an event before it answered the last one"),
        };
        let failed = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
        let failed = failed["batchItemFailures"].as_array().is_some_and(|failures| !failures.is_empty());
        ensure!(!failed, "it returned the event as failed: {}", String::from_utf8_lossy(&answer));
        match self.next().await? {
            Done::Asked(_) => Ok(at - given),
            other => bail!("it did not request the next event, but {other:?}"),
        }
    }

    async fn next(&mut self) -> anyhow::Result<Done> {
        tokio::select! {
            done = self.done.recv() => done.context("its Runtime API has ended"),
            status = self.child.wait() => bail!("it ended: {}", status?),
            () = tokio::time::sleep(PATIENCE) => bail!("it did nothing within {} s", PATIENCE.as_secs()),
        }
    }

    /// The processor time of all threads so far, from the first figure of each thread's schedstat (nanoseconds,
    /// <https://docs.kernel.org/scheduler/sched-stats.html>).
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let figure = stat.split_whitespace().next().context("an empty schedstat")?;
            nanoseconds += figure.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The peak of resident memory so far, in MiB.
    pub fn peak_mib(&self) -> anyhow::Result<f64> {
        memory_mib(self.pid(), "VmHWM")
    }

    fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }
}

async fn next(State(api): State<Arc<Api>>) -> impl IntoResponse {
    // Fails only after the measurement has ended; the same below.
    let _ = api.done.send(Done::Asked(Instant::now()));
    let Some(event) = api.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = SystemTime::now() + PATIENCE;
    let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
        ),
    ];
    (headers, event).into_response()
}

async fn answered(State(api): State<Arc<Api>>, body: Bytes) -> StatusCode {
    let _ = api.done.send(Done::Answered(Instant::now(), body));
    StatusCode::ACCEPTED
}

async fn failed(State(api): State<Arc<Api>>, body: Bytes) -> StatusCode {
    let _ = api.done.send(Done::Failed(body));
    StatusCode::ACCEPTED
}
