//! A harness for tests that use only HTTP and the AWS API. It builds the functions once for each test
//! process. Each test gets its own local cloud, on free ports and in a temporary folder; the harness stops
//! it even if the test panics.

pub mod counts;
pub mod flow;
pub mod permissions;
pub mod policy;
pub mod templates;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, ensure};
use futures::FutureExt;
use local_cloud::Cloud;
use local_cloud::up::{Options, up};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use unicorn::client::{Client, until};

/// The longest time that a step may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The template of the whole application.
pub const ROOT: &str = "template.yaml";

/// The folder of the workspace.
///
/// # Errors
/// When the tests run outside of a checkout.
pub fn project() -> anyhow::Result<PathBuf> {
    unicorn::build::project()
}

/// The folder of the functions' binaries, built once per process.
///
/// # Errors
/// When cargo cannot build them.
pub async fn binaries() -> anyhow::Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || unicorn::build::functions(&project()?, ROOT, "local").await;
    Ok(BUILT.get_or_try_init(build).await?.clone())
}

/// Runs `test` against its own local cloud, which runs the templates of the project.
///
/// # Errors
/// The error of the test, or of a local cloud that does not start.
pub fn on_a_local_cloud(test: impl AsyncFnOnce(&Client) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let project = project()?;
    runtime()?.block_on(with_templates(&project, test))
}

/// The runtime of a test.
///
/// # Errors
/// When the system refuses one.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Runs `test` against a local cloud that runs the templates in `project`.
///
/// # Errors
/// The error of the test, or of a local cloud that does not start.
pub async fn with_templates<T>(
    project: &Path,
    test: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    watched(project, async |client, _| test(client).await).await
}

/// Like [`with_templates`]; the test also gets the services, which count calls.
///
/// # Errors
/// The error of the test, or of a local cloud that does not start.
pub async fn watched<T>(
    project: &Path,
    test: impl AsyncFnOnce(&Client, &Cloud) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let state = tempfile::tempdir()?;
    let running = up(&Options::on_free_ports(project, state.path(), &binaries().await?)).await?;
    let client = Client::new(running.addresses.clone());
    let ended = AssertUnwindSafe(test(&client, &running.cloud)).catch_unwind().await;
    running.stop().await;
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Waits until a command is decided and returns its record.
///
/// # Errors
/// When it has no outcome within `patience`.
pub async fn outcome(
    client: &Client,
    service: &str,
    command: &str,
    patience: Duration,
) -> anyhow::Result<Value> {
    let path = format!("{service}/commands/{command}");
    until(&format!("the outcome of command {command}"), patience, async || {
        let answer = client.get(&path).await?;
        let decided = answer.status.is_success() && answer.body["status"] != "PENDING";
        Ok(decided.then_some(answer.body))
    })
    .await
}

/// Sends a write and waits until it is applied.
///
/// # Errors
/// When it is refused, rejected or not decided in time.
pub async fn apply(client: &Client, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
    let command = client.write(method, path, Some(body)).await?;
    let record = outcome(client, service_of(path), &command, PATIENCE).await?;
    ensure!(record["status"] == "APPLIED", "{path} {body} was rejected: {record}");
    Ok(record)
}

/// The API whose `commands/{id}` has the outcome of a write to `path`.
pub fn service_of(path: &str) -> &'static str {
    if path.starts_with("/contracts") { "/contracts" } else { "/listings" }
}

/// Waits for a message in a queue and returns it with its attributes.
///
/// # Errors
/// When none comes in time.
pub async fn receive(client: &Client, queue_url: &str) -> anyhow::Result<Value> {
    let input = json!({
        "QueueUrl": queue_url, "WaitTimeSeconds": 1,
        "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"],
    });
    until(&format!("a message in {queue_url}"), PATIENCE, async || {
        let mut answer = client.aws("AmazonSQS.ReceiveMessage", &input).await?;
        Ok(Some(answer["Messages"][0].take()).filter(|message| !message.is_null()))
    })
    .await
}

/// Puts one event on a bus.
///
/// # Errors
/// When it is refused.
pub async fn put_event(
    client: &Client,
    bus: &str,
    source: &str,
    detail_type: &str,
    detail: &Value,
) -> anyhow::Result<String> {
    let entry = json!({
        "EventBusName": bus, "Source": source, "DetailType": detail_type, "Detail": detail.to_string(),
    });
    let answer = client.aws("AWSEvents.PutEvents", &json!({"Entries": [entry]})).await?;
    match answer["Entries"][0]["EventId"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => bail!("an event was refused: {answer}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[test]
    fn a_test_that_panics_leaves_nothing_running() {
        let address = Mutex::new(String::new());
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            on_a_local_cloud(async |client| {
                let url = client.addresses.endpoint_url.trim_start_matches("http://");
                std::net::TcpStream::connect(url).unwrap();
                url.clone_into(&mut address.lock().unwrap());
                panic!("this test fails");
            })
        }));
        assert_eq!(ended.unwrap_err().downcast_ref::<&str>(), Some(&"this test fails"));
        let address = address.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(!address.is_empty());
        std::net::TcpStream::connect(address).unwrap_err();
    }
}
