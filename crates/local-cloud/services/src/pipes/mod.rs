//! EventBridge Pipes from a table stream to a bus: filter, input template, PutEvents. The
//! stream reader owns order, retries, bisecting and checkpoints; a pipe never loses a record
//! silently, and may publish one twice. Enrichment, other sources and other targets are
//! refused by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Action, Deploy, Identity, Protocol, Service, Type};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud, later};
use rusqlite::{OptionalExtension, params};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::event_source::stream;

mod model;
#[cfg(test)]
mod tests;
mod transfer;

use model::{Pipe, Props};
use transfer::Transfer;

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Rest { owns: |path| path.starts_with("/v1/pipes") }],
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    start: start,
    actions: ACTIONS,
    types: TYPES,
    ..Service::new("pipes")
};

/// What an operator asked for outlives a restart, until the template asks for something else.
const TABLES: &str = "CREATE TABLE IF NOT EXISTS pipes (
    name TEXT PRIMARY KEY, declared_state TEXT NOT NULL, desired_state TEXT NOT NULL, created_ms INTEGER NOT NULL);";

/// What the service keeps besides its table.
#[derive(Debug, Default)]
pub struct State {
    pipes: Mutex<BTreeMap<String, Deployed>>,
}

/// A pipe of this run.
#[derive(Debug, Clone)]
struct Deployed {
    pipe: Arc<Pipe>,
    view: Value,
    tags: Map<String, Value>,
    /// Ends the reader, while it runs.
    running: Option<CancellationToken>,
    /// Held by the reader until it has ended: no two of them work on one checkpoint.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl State {
    /// Creates the service's tables.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(TABLES)?;
        Ok(Self::default())
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Deployed>) -> T) -> T {
        change(&mut self.pipes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Deploys one resource of this service.
///
/// # Errors
/// Names what is not emulated.
async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let props: Props = resource.read()?;
    let name = props.name.clone().unwrap_or_else(|| resource.physical_id.clone());
    let declared = props.desired_state.clone().unwrap_or_else(|| "RUNNING".into());
    if !["RUNNING", "STOPPED"].contains(&declared.as_str()) {
        return Err(refuse("DesiredState", format!("`{declared}` is not RUNNING or STOPPED")));
    }
    let (tags, view) = (props.tags.clone(), view(resource, &props));
    let pipe = Pipe::parse(cloud, &name, props).map_err(|(path, reason)| refuse(path, reason))?;
    cloud
        .call("events", "DescribeEventBus", json!({ "Name": pipe.target }))
        .await
        .map_err(|error| refuse("Target", error.message))?;
    stream::establish(cloud, &pipe.stream).await.map_err(|error| refuse("Source", error.to_string()))?;
    cloud
        .store
        .write(|tx| {
            tx.execute(
                "INSERT INTO pipes VALUES (?1, ?2, ?2, ?3) ON CONFLICT (name) DO UPDATE SET
                 desired_state = iif(declared_state = ?2, desired_state, ?2), declared_state = ?2",
                params![name, declared, cloud.clock.now_ms()],
            )
        })
        .map_err(|error| refuse("Name", error.to_string()))?;
    cloud.state::<State>().with(|pipes| {
        let reading = pipes.get(&name).map(|before| before.reading.clone()).unwrap_or_default();
        pipes.insert(name, Deployed { pipe: Arc::new(pipe), view, tags, running: None, reading })
    });
    Ok(())
}

/// The members of DescribePipe that repeat the template.
fn view(resource: &Resource, props: &Props) -> Value {
    let mut view = json!({ "Source": props.source, "Target": props.target, "RoleArn": props.role_arn });
    if let Some(description) = &props.description {
        view["Description"] = description.clone().into();
    }
    for name in ["SourceParameters", "TargetParameters", "LogConfiguration", "Tags"] {
        if let Some(property) = resource.properties.get(name) {
            view[name] = property.clone();
        }
    }
    view
}

/// Starts the background tasks, after every resource is deployed; they end when `cloud.stopping` is cancelled.
pub fn start(cloud: &Arc<Cloud>) {
    let names: Vec<String> = cloud.state::<State>().with(|pipes| pipes.keys().cloned().collect());
    for name in names {
        match states(cloud, &name) {
            Ok((desired, _)) if desired == "RUNNING" => run(cloud, &name),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, pipe = %name, "the state of a pipe could not be read"),
        }
    }
}

/// Forgets a pipe that the template has no more, and how far it was in its stream.
pub(crate) fn forget(cloud: &Cloud, arn: &str) -> Result<(), StoreError> {
    let name = arn.rsplit('/').next().unwrap_or(arn);
    cloud.state::<State>().with(|pipes| pipes.remove(name));
    cloud.store.write(|tx| {
        stream::forget(tx, arn)?;
        tx.execute("DELETE FROM pipes WHERE name = ?1", [name]).map(drop)
    })
}

/// The desired state of a pipe, and when it was created.
fn states(cloud: &Cloud, name: &str) -> Result<(String, i64), AwsError> {
    let row = cloud.store.read(|db| {
        db.query_row("SELECT desired_state, created_ms FROM pipes WHERE name = ?1", [name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
    })?;
    row.ok_or_else(|| not_found(name))
}

fn run(cloud: &Arc<Cloud>, name: &str) {
    let stop = CancellationToken::new();
    let deployed = cloud.state::<State>().with(|pipes| {
        let deployed = pipes.get_mut(name).filter(|deployed| deployed.running.is_none())?;
        deployed.running = Some(stop.clone());
        Some((deployed.pipe.clone(), deployed.reading.clone()))
    });
    let Some((pipe, reading)) = deployed else { return };
    let cloud = cloud.clone();
    tokio::spawn(async move {
        // The reader before it may still have a delivery under way.
        let _reading = reading.lock().await;
        if !stop.is_cancelled() {
            let transfer = Transfer { cloud: cloud.clone(), pipe: pipe.clone() };
            stream::run_until(cloud, pipe.stream.clone(), transfer, &stop).await;
        }
    });
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OfName {
    name: String,
}

fn set_state(cloud: &Arc<Cloud>, input: Value, desired: &str) -> Result<Value, AwsError> {
    let OfName { name } = read_input(input)?;
    find(cloud, &name)?;
    cloud.store.write(|tx| {
        tx.execute("UPDATE pipes SET desired_state = ?2 WHERE name = ?1", params![name, desired])
    })?;
    if desired == "RUNNING" {
        run(cloud, &name);
    } else if let Some(stop) =
        cloud.state::<State>().with(|pipes| pipes.get_mut(&name).and_then(|deployed| deployed.running.take()))
    {
        stop.cancel();
    }
    summary(cloud, &name)
}

fn describe(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let OfName { name } = read_input(input)?;
    let deployed = find(cloud, &name)?;
    let mut answer = summary(cloud, &name)?;
    if let (Value::Object(answer), Value::Object(view)) = (&mut answer, deployed.view) {
        answer.extend(view);
    }
    Ok(answer)
}

fn summary(cloud: &Cloud, name: &str) -> Result<Value, AwsError> {
    let deployed = find(cloud, name)?;
    let (desired, created_ms) = states(cloud, name)?;
    let created = created_ms as f64 / 1000.0;
    Ok(json!({
        "Name": name,
        "Arn": deployed.pipe.arn,
        "DesiredState": desired,
        "CurrentState": if deployed.running.is_some() { "RUNNING" } else { "STOPPED" },
        "CreationTime": created,
        "LastModifiedTime": created,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    name_prefix: Option<String>,
    desired_state: Option<String>,
    current_state: Option<String>,
    source_prefix: Option<String>,
    target_prefix: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

fn list(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    let limit = input.limit.unwrap_or(100);
    if !(1..=100).contains(&limit) {
        return Err(invalid("Limit must be between 1 and 100."));
    }
    let prefixed =
        |prefix: &Option<String>, text: &str| prefix.as_ref().is_none_or(|prefix| text.starts_with(prefix));
    let equal = |wanted: &Option<String>, state: &Value| wanted.as_ref().is_none_or(|wanted| state == wanted);
    let pipes: Vec<Deployed> = cloud.state::<State>().with(|pipes| pipes.values().cloned().collect());
    let mut found = Vec::new();
    for deployed in pipes {
        let pipe = &deployed.pipe;
        let mut summary = summary(cloud, &pipe.name)?;
        summary["Source"] = pipe.source.clone().into();
        summary["Target"] = pipe.target.clone().into();
        let wanted = prefixed(&input.name_prefix, &pipe.name)
            && prefixed(&input.source_prefix, &pipe.source)
            && prefixed(&input.target_prefix, &pipe.target)
            && equal(&input.desired_state, &summary["DesiredState"])
            && equal(&input.current_state, &summary["CurrentState"])
            && input.next_token.as_ref().is_none_or(|token| pipe.name > *token);
        if wanted {
            found.push(summary);
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let mut answer = json!({ "Pipes": found });
    if let (true, Some(last)) = (more, found.last()) {
        answer["NextToken"] = last["Name"].clone();
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfArn {
    #[serde(rename = "resourceArn")]
    arn: String,
}

fn tags(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let OfArn { arn } = read_input(input)?;
    let name = arn.rsplit('/').next().unwrap_or_default();
    Ok(json!({ "tags": find(cloud, name)?.tags }))
}

fn find(cloud: &Cloud, name: &str) -> Result<Deployed, AwsError> {
    cloud.state::<State>().with(|pipes| pipes.get(name).cloned()).ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> AwsError {
    AwsError::new(404, "NotFoundException", format!("Pipe {name} does not exist."))
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", message)
}

fn read_input<T: serde::de::DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| AwsError::unreadable(&error))
}

/// The actions, with the members of AWS's API reference.
const ACTIONS: &[Action] = &[
    Action::new("DescribePipe", |cloud, input| describe(cloud, input)).route("GET", "/v1/pipes/{Name}", 200),
    Action::new("ListPipes", |cloud, input| list(cloud, input)).route("GET", "/v1/pipes", 200),
    Action::new("ListTagsForResource", |cloud, input| tags(cloud, input)).route(
        "GET",
        "/tags/{resourceArn}",
        200,
    ),
    Action::new("StartPipe", |cloud, input| set_state(cloud, input, "RUNNING")).route(
        "POST",
        "/v1/pipes/{Name}/start",
        200,
    ),
    Action::new("StopPipe", |cloud, input| set_state(cloud, input, "STOPPED")).route(
        "POST",
        "/v1/pipes/{Name}/stop",
        200,
    ),
];

const TYPES: &[Type] = &[Type::new(
    "AWS::Pipes::Pipe",
    "from a table stream to a bus",
    Identity::named("Name", 64)
        .arn("arn:aws:pipes:{region}:{account}:pipe/{name}")
        .attributes(&[Identity::ARN]),
    Deploy::Later(later!(deploy)),
)
.remove(|cloud, pipe| Box::pin(async move { Ok(forget(cloud, &pipe.id).map(|()| true)?) }))];
