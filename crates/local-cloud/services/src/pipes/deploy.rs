//! Pipes of templates.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Type};
use cloud_core::{Cloud, later};
use cloud_languages::input_template::{Path, Template};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::pipe::{Level, Pipe, RESERVED, Text};
use super::running::State;
use super::store;
use crate::event_source::filters::FilterCriteria;
use crate::event_source::stream::{self, Settings, StartingPosition};
use crate::logs;

pub(super) const TYPES: &[Type] = &[Type::new(
    "AWS::Pipes::Pipe",
    "from a table stream to a bus",
    Identity::named("Name", 64)
        .arn("arn:aws:pipes:{region}:{account}:pipe/{name}")
        .attributes(&[Identity::ARN]),
    Deploy::Later(later!(deploy)),
)
.remove(|cloud, pipe| {
    Box::pin(async move {
        cloud.state::<State>().remove(pipe.name());
        store::delete(cloud, pipe.name(), &pipe.id)?;
        Ok(true)
    })
})];

/// "EventBridge event bus: maximum batch size 10."
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-batching-concurrency.html>
const MAX_BATCH: i64 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Props {
    name: Option<String>,
    /// Shown by DescribePipe.
    #[serde(rename = "Description")]
    _description: Option<String>,
    source: String,
    source_parameters: SourceParameters,
    target: String,
    #[serde(default)]
    target_parameters: TargetParameters,
    desired_state: Option<String>,
    role_arn: String,
    log_configuration: Option<LogConfiguration>,
    #[serde(default)]
    tags: Map<String, Value>,
    /// No effect here: nothing is encrypted at rest.
    #[serde(rename = "KmsKeyIdentifier")]
    _kms_key_identifier: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SourceParameters {
    #[serde(default)]
    filter_criteria: FilterCriteria,
    #[serde(rename = "DynamoDBStreamParameters")]
    stream: StreamParameters,
}

/// <https://docs.aws.amazon.com/eventbridge/latest/pipes-reference/API_PipeSourceDynamoDBStreamParameters.html>
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StreamParameters {
    starting_position: StartingPosition,
    batch_size: Option<i64>,
    #[serde(default)]
    maximum_batching_window_in_seconds: i64,
    maximum_retry_attempts: Option<i64>,
    maximum_record_age_in_seconds: Option<i64>,
    on_partial_batch_item_failure: Option<String>,
    dead_letter_config: Option<DeadLetterConfig>,
    parallelization_factor: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeadLetterConfig {
    arn: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TargetParameters {
    #[serde(default, rename = "EventBridgeEventBusParameters")]
    bus: BusParameters,
    input_template: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BusParameters {
    detail_type: Option<String>,
    source: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    time: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct LogConfiguration {
    level: String,
    cloudwatch_logs_log_destination: Option<LogDestination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct LogDestination {
    log_group_arn: String,
}

async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let refuse = |path: &str, reason: String| resource.refuse(&format!("Properties.{path}"), reason);
    let props: Props = resource.read()?;
    let name = props.name.clone().unwrap_or_else(|| resource.physical_id.clone());
    let declared = props.desired_state.clone().unwrap_or_else(|| "RUNNING".into());
    if !["RUNNING", "STOPPED"].contains(&declared.as_str()) {
        return Err(refuse("DesiredState", format!("`{declared}` is not RUNNING or STOPPED")));
    }
    let (tags, view) = (props.tags.clone(), view(resource, &props));
    let pipe = props.pipe(cloud, &name).map_err(|(path, reason)| refuse(path, reason))?;
    cloud
        .call("events", "DescribeEventBus", json!({ "Name": pipe.target }))
        .await
        .map_err(|error| refuse("Target", error.message))?;
    stream::establish(cloud, &pipe.stream).await.map_err(|error| refuse("Source", error.to_string()))?;
    store::declare(cloud, &name, &declared).map_err(|error| refuse("Name", error.to_string()))?;
    cloud.state::<State>().add(pipe, view, tags);
    Ok(())
}

/// The members of DescribePipe that repeat the template.
fn view(resource: &Resource, props: &Props) -> Value {
    let mut view = json!({ "Source": props.source, "Target": props.target, "RoleArn": props.role_arn });
    for name in ["Description", "SourceParameters", "TargetParameters", "LogConfiguration", "Tags"] {
        if let Some(property) = resource.properties.get(name) {
            view[name] = property.clone();
        }
    }
    view
}

impl Props {
    /// Checks and parses a pipe; the error is the property and a sentence.
    pub fn pipe(self, cloud: &Cloud, name: &str) -> Result<Pipe, (&'static str, String)> {
        if !self.source.contains(":dynamodb:") || !self.source.contains("/stream/") {
            return Err(("Source", format!("`{}` is not a table stream", self.source)));
        }
        if !self.target.contains(":event-bus/") {
            return Err(("Target", format!("`{}` is not an event bus", self.target)));
        }
        let arn = cloud.arn("pipes", &format!("pipe/{name}"));
        let SourceParameters { filter_criteria, stream } = self.source_parameters;
        let filters = filter_criteria
            .parse(check_pattern)
            .map_err(|reason| ("SourceParameters.FilterCriteria", reason))?;
        let at_stream = |reason| ("SourceParameters.DynamoDBStreamParameters", reason);
        let dead_letter_queue = stream.dead_letter_queue().map_err(at_stream)?;
        let stream = stream.settings(&arn, &self.source).map_err(at_stream)?;
        let TargetParameters { bus, input_template } = self.target_parameters;
        let template = input_template.as_deref().map(parse_template).transpose();
        let at_bus = |reason| ("TargetParameters.EventBridgeEventBusParameters", reason);
        let text = |text: String| Text::parse(text).map_err(at_bus);
        Ok(Pipe {
            filters,
            stream,
            dead_letter_queue,
            template: template.map_err(|reason| ("TargetParameters.InputTemplate", reason))?,
            // AWS's defaults, seen in its events, not documented.
            detail_type: text(bus.detail_type.unwrap_or_else(|| "Event from aws:dynamodb".into()))?,
            event_source: text(bus.source.unwrap_or_else(|| format!("Pipe {name}")))?,
            resources: bus.resources.into_iter().map(text).collect::<Result<_, _>>()?,
            time: bus.time.map(text).transpose()?,
            log: self.log_configuration.map_or(Ok(None), LogConfiguration::parse)?,
            name: name.to_owned(),
            arn,
            source: self.source,
            target: self.target,
        })
    }
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html>
fn check_pattern(pattern: &Value) -> Result<(), String> {
    match negates_an_operator(pattern) {
        true => Err("pipes do not support anything-but with an operator inside".into()),
        false => Ok(()),
    }
}

fn negates_an_operator(pattern: &Value) -> bool {
    match pattern {
        Value::Object(members) => members.iter().any(|(name, member)| {
            (name == "anything-but" && member.is_object()) || negates_an_operator(member)
        }),
        Value::Array(elements) => elements.iter().any(negates_an_operator),
        _ => false,
    }
}

fn parse_template(text: &str) -> Result<Template, String> {
    // https://docs.aws.amazon.com/eventbridge/latest/pipes-reference/API_PipeTargetParameters.html
    if text.len() > 8192 {
        return Err("it is longer than 8192 characters".into());
    }
    let template = Template::parse(text);
    for name in template.names() {
        if !RESERVED.contains(&name) {
            Path::parse(name)?;
        }
    }
    Ok(template)
}

impl StreamParameters {
    fn dead_letter_queue(&self) -> Result<Option<String>, String> {
        let Some(config) = &self.dead_letter_config else { return Ok(None) };
        match config.arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", _, "sqs", _, _, name] => Ok(Some(name.to_owned())),
            _ => Err(format!("DeadLetterConfig: `{}` is not the ARN of a queue", config.arn)),
        }
    }

    fn settings(self, pipe_arn: &str, stream_arn: &str) -> Result<Settings, String> {
        // https://docs.aws.amazon.com/cdk/api/v2/python/aws_cdk.aws_pipes_sources_alpha/DynamoDBSource.html
        let retries = bound("MaximumRetryAttempts", self.maximum_retry_attempts, 0..=10_000)?;
        let max_age = bound("MaximumRecordAgeInSeconds", self.maximum_record_age_in_seconds, 60..=604_800)?;
        let window =
            between("MaximumBatchingWindowInSeconds", self.maximum_batching_window_in_seconds, 0..=300)?;
        let bisect = match self.on_partial_batch_item_failure.as_deref() {
            None => false,
            Some("AUTOMATIC_BISECT") => true,
            Some(other) => return Err(format!("OnPartialBatchItemFailure does not take `{other}`")),
        };
        Ok(Settings {
            consumer: pipe_arn.to_owned(),
            stream_arn: stream_arn.to_owned(),
            start: self.starting_position,
            batch_size: between("BatchSize", self.batch_size.unwrap_or(1), 1..=MAX_BATCH)? as usize,
            window: Duration::from_secs(window.unsigned_abs()),
            lanes: between("ParallelizationFactor", self.parallelization_factor.unwrap_or(1), 1..=10)?
                as usize,
            retries: retries.map(|attempts| attempts as u32),
            max_age: max_age.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
            bisect,
        })
    }
}

fn between(property: &str, value: i64, range: RangeInclusive<i64>) -> Result<i64, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("{property} must be between {} and {}", range.start(), range.end()))
}

/// A number for which -1 means no bound.
fn bound(property: &str, value: Option<i64>, range: RangeInclusive<i64>) -> Result<Option<i64>, String> {
    match value.filter(|value| *value != -1) {
        None => Ok(None),
        Some(value) => between(property, value, range).map(Some),
    }
}

impl LogConfiguration {
    fn parse(self) -> Result<Option<(String, Level)>, (&'static str, String)> {
        let level = match self.level.as_str() {
            "OFF" => return Ok(None),
            "ERROR" => Level::Error,
            "INFO" => Level::Info,
            other => return Err(("LogConfiguration.Level", format!("the level {other} is not emulated"))),
        };
        match self.cloudwatch_logs_log_destination {
            Some(to) => Ok(Some((logs::group_name(&to.log_group_arn).to_owned(), level))),
            None => Err(("LogConfiguration", "CloudwatchLogsLogDestination is missing".into())),
        }
    }
}
