//! The API actions of Pipes.

use std::sync::Arc;

use cloud_core::api::{self, check_number, key_of, with_token};
use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::running::{self, Deployed, State};
use super::store;

#[rustfmt::skip]
pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribePipe", |cloud, input| describe(cloud, read(input)?))
        .route("GET", "/v1/pipes/{Name}", 200),
    Action::new("ListPipes", |cloud, input| list(cloud, &read(input)?))
        .route("GET", "/v1/pipes", 200),
    Action::new("ListTagsForResource", |cloud, input| list_tags(cloud, &read(input)?))
        .route("GET", "/tags/{resourceArn}", 200),
    Action::new("StartPipe", |cloud, input| set_state(cloud, read(input)?, "RUNNING"))
        .route("POST", "/v1/pipes/{Name}/start", 200),
    Action::new("StopPipe", |cloud, input| set_state(cloud, read(input)?, "STOPPED"))
        .route("POST", "/v1/pipes/{Name}/stop", 200),
];

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read(input, "ValidationException")
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationException", message)
}

fn not_found(name: &str) -> AwsError {
    AwsError::new(404, "NotFoundException", format!("Pipe {name} does not exist."))
}

fn find(cloud: &Cloud, name: &str) -> Result<Deployed, AwsError> {
    cloud.state::<State>().find(name).ok_or_else(|| not_found(name))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OnePipe {
    name: String,
}

fn set_state(cloud: &Arc<Cloud>, OnePipe { name }: OnePipe, desired: &str) -> Result<Value, AwsError> {
    find(cloud, &name)?;
    store::set_desired(cloud, &name, desired)?;
    match desired {
        "RUNNING" => running::run(cloud, &name),
        _ => running::stop(cloud, &name),
    }
    summary(cloud, &find(cloud, &name)?)
}

fn describe(cloud: &Cloud, OnePipe { name }: OnePipe) -> Result<Value, AwsError> {
    let deployed = find(cloud, &name)?;
    let mut answer = summary(cloud, &deployed)?;
    if let (Value::Object(answer), Value::Object(view)) = (&mut answer, deployed.view) {
        answer.extend(view);
    }
    Ok(answer)
}

fn summary(cloud: &Cloud, deployed: &Deployed) -> Result<Value, AwsError> {
    let name = &deployed.pipe.name;
    let (desired, created_ms) = store::desired(cloud, name)?.ok_or_else(|| not_found(name))?;
    let created = created_ms as f64 / 1000.0;
    Ok(json!({
        "Name": name,
        "Arn": deployed.pipe.arn,
        "DesiredState": desired,
        "CurrentState": if deployed.is_running() { "RUNNING" } else { "STOPPED" },
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
    limit: Option<i64>,
}

impl List {
    fn wants(&self, pipe: &Value) -> bool {
        let begins = |prefix: &Option<String>, member: &str| {
            prefix.as_ref().is_none_or(|prefix| pipe[member].as_str().unwrap_or_default().starts_with(prefix))
        };
        let is = |wanted: &Option<String>, member: &str| {
            wanted.as_ref().is_none_or(|wanted| pipe[member] == *wanted)
        };
        begins(&self.name_prefix, "Name")
            && begins(&self.source_prefix, "Source")
            && begins(&self.target_prefix, "Target")
            && is(&self.desired_state, "DesiredState")
            && is(&self.current_state, "CurrentState")
    }
}

fn list(cloud: &Cloud, input: &List) -> Result<Value, AwsError> {
    let limit = input.limit.unwrap_or(100);
    check_number("limit", limit, 1..=100).map_err(invalid)?;
    let read = |token: &String| key_of(token).ok_or_else(|| invalid("NextToken is not valid."));
    let after = input.next_token.as_ref().map(read).transpose()?;
    let mut found = Vec::new();
    for deployed in cloud.state::<State>().all() {
        let mut summary = summary(cloud, &deployed)?;
        summary["Source"] = deployed.pipe.source.clone().into();
        summary["Target"] = deployed.pipe.target.clone().into();
        if input.wants(&summary) {
            found.push((deployed.pipe.name.clone(), summary));
        }
    }
    let (pipes, next) = api::page(found, after.as_deref(), limit as usize);
    Ok(with_token(json!({ "Pipes": pipes }), "NextToken", next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListTags {
    #[serde(rename = "resourceArn")]
    arn: String,
}

fn list_tags(cloud: &Cloud, ListTags { arn }: &ListTags) -> Result<Value, AwsError> {
    let name = arn.rsplit('/').next().unwrap_or_default();
    Ok(json!({ "tags": find(cloud, name)?.tags }))
}
