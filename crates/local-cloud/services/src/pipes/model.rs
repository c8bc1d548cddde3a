//! A pipe as its template declares it, checked and parsed once.

use std::time::Duration;

use cloud_core::Cloud;
use cloud_languages::event_pattern::Pattern;
use cloud_languages::input_template::{Path, Template};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::event_source::stream::{Settings, StartingPosition};
use crate::logs;

/// "EventBridge event bus: maximum batch size 10."
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-batching-concurrency.html>
const MAX_BATCH: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Props {
    pub name: Option<String>,
    pub description: Option<String>,
    pub source: String,
    pub source_parameters: SourceParameters,
    pub target: String,
    #[serde(default)]
    pub target_parameters: TargetParameters,
    pub desired_state: Option<String>,
    pub role_arn: String,
    pub log_configuration: Option<LogConfiguration>,
    #[serde(default)]
    pub tags: Map<String, Value>,
    /// No effect here: nothing is encrypted at rest.
    #[serde(rename = "KmsKeyIdentifier")]
    _kms_key_identifier: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct SourceParameters {
    #[serde(default)]
    filter_criteria: FilterCriteria,
    #[serde(rename = "DynamoDBStreamParameters")]
    stream: StreamParameters,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FilterCriteria {
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Filter {
    pattern: String,
}

/// <https://docs.aws.amazon.com/eventbridge/latest/pipes-reference/API_PipeSourceDynamoDBStreamParameters.html>
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StreamParameters {
    starting_position: StartingPosition,
    batch_size: Option<usize>,
    #[serde(default)]
    maximum_batching_window_in_seconds: u64,
    maximum_retry_attempts: Option<i64>,
    maximum_record_age_in_seconds: Option<i64>,
    on_partial_batch_item_failure: Option<String>,
    dead_letter_config: Option<DeadLetterConfig>,
    parallelization_factor: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeadLetterConfig {
    arn: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TargetParameters {
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
pub struct LogConfiguration {
    level: String,
    cloudwatch_logs_log_destination: Option<LogDestination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct LogDestination {
    log_group_arn: String,
}

/// How much a pipe logs; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Failures only.
    Error,
    /// Every batch.
    Info,
}

/// A parsed pipe.
#[derive(Debug)]
pub struct Pipe {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The table stream's ARN.
    pub source: String,
    /// The bus's ARN.
    pub target: String,
    /// Patterns of which a record must match one, where there are any.
    pub filters: Vec<Pattern>,
    /// How the stream is read.
    pub stream: Settings,
    /// The name of the queue that gets what is given up.
    pub dead_letter_queue: Option<String>,
    /// What the event's detail is made of; the whole record where there is none.
    pub template: Option<Template>,
    /// The event's detail-type.
    pub detail_type: Text,
    /// The event's source.
    pub event_source: Text,
    /// The event's resources.
    pub resources: Vec<Text>,
    /// Where the event's time stands in the record.
    pub time: Option<Text>,
    /// The log group, and how much is logged there.
    pub log: Option<(String, Level)>,
}

/// A parameter of a target: a text, or a path into the record.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-event-target.html#pipes-targets-dynamic-parms>
#[derive(Debug)]
pub enum Text {
    /// As it stands.
    Static(String),
    /// What the record has there.
    Dynamic(Path),
}

impl Text {
    fn parse(text: String) -> Result<Self, String> {
        if text.starts_with('$') { Path::parse(&text).map(Self::Dynamic) } else { Ok(Self::Static(text)) }
    }

    /// The text for a record; `None` where the record has nothing there.
    pub fn of(&self, record: &Value) -> Option<String> {
        match self {
            Self::Static(text) => Some(text.clone()),
            Self::Dynamic(path) => match path.find(record)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
        }
    }
}

/// The reserved variables of an input template.
pub const RESERVED: [&str; 8] = [
    "aws.pipes.pipe-arn",
    "aws.pipes.pipe-name",
    "aws.pipes.source-arn",
    "aws.pipes.enrichment-arn",
    "aws.pipes.target-arn",
    "aws.pipes.event.ingestion-time",
    "aws.pipes.event",
    "aws.pipes.event.json",
];

impl Pipe {
    /// Checks and parses a declaration; the error is the property and a sentence.
    pub fn parse(cloud: &Cloud, name: &str, props: Props) -> Result<Self, (&'static str, String)> {
        if !props.source.contains(":dynamodb:") || !props.source.contains("/stream/") {
            return Err(("Source", format!("`{}` is not a table stream", props.source)));
        }
        if !props.target.contains(":event-bus/") {
            return Err(("Target", format!("`{}` is not an event bus", props.target)));
        }
        let arn = cloud.arn("pipes", &format!("pipe/{name}"));
        let SourceParameters { filter_criteria, stream } = props.source_parameters;
        let filters = parse_filters(&filter_criteria.filters)
            .map_err(|reason| ("SourceParameters.FilterCriteria", reason))?;
        let at_stream = |reason| ("SourceParameters.DynamoDBStreamParameters", reason);
        let dead_letter_queue = stream.dead_letter_queue().map_err(at_stream)?;
        let stream = stream.settings(&arn, &props.source).map_err(at_stream)?;
        let TargetParameters { bus, input_template } = props.target_parameters;
        let template = input_template.as_deref().map(parse_template).transpose();
        let at_bus = |reason| ("TargetParameters.EventBridgeEventBusParameters", reason);
        let text = |text: String| Text::parse(text).map_err(at_bus);
        Ok(Self {
            filters,
            stream,
            dead_letter_queue,
            template: template.map_err(|reason| ("TargetParameters.InputTemplate", reason))?,
            // What AWS puts where nothing is given; seen in its events, not documented.
            detail_type: text(bus.detail_type.unwrap_or_else(|| "Event from aws:dynamodb".into()))?,
            event_source: text(bus.source.unwrap_or_else(|| format!("Pipe {name}")))?,
            resources: bus.resources.into_iter().map(text).collect::<Result<_, _>>()?,
            time: bus.time.map(text).transpose()?,
            log: props.log_configuration.map_or(Ok(None), LogConfiguration::parse)?,
            name: name.to_owned(),
            arn,
            source: props.source,
            target: props.target,
        })
    }
}

fn parse_filters(filters: &[Filter]) -> Result<Vec<Pattern>, String> {
    if filters.len() > 5 {
        return Err("a pipe takes at most 5 filters".into());
    }
    let parse = |filter: &Filter| {
        let pattern: Value = serde_json::from_str(&filter.pattern)
            .map_err(|error| format!("the pattern `{}` is not JSON: {error}", filter.pattern))?;
        if negates_an_operator(&pattern) {
            // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
            return Err("pipes do not support anything-but with an operator inside".into());
        }
        Pattern::parse(&pattern)
    };
    filters.iter().map(parse).collect()
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
        let batch_size = self.batch_size.unwrap_or(1);
        if !(1..=MAX_BATCH).contains(&batch_size) {
            return Err(format!(
                "BatchSize must be between 1 and {MAX_BATCH}, the most that a bus takes at once"
            ));
        }
        let lanes = self.parallelization_factor.unwrap_or(1);
        if !(1..=10).contains(&lanes) {
            return Err("ParallelizationFactor must be between 1 and 10".into());
        }
        if self.maximum_batching_window_in_seconds > 300 {
            return Err("MaximumBatchingWindowInSeconds must be between 0 and 300".into());
        }
        let retries = match self.maximum_retry_attempts.unwrap_or(-1) {
            -1 => None,
            attempts @ 0..=10_000 => u32::try_from(attempts).ok(),
            _ => return Err("MaximumRetryAttempts must be between -1 and 10000".into()),
        };
        let max_age = match self.maximum_record_age_in_seconds.unwrap_or(-1) {
            -1 => None,
            seconds @ 60..=604_800 => Some(Duration::from_secs(seconds.unsigned_abs())),
            _ => return Err("MaximumRecordAgeInSeconds must be -1 or between 60 and 604800".into()),
        };
        let bisect = match self.on_partial_batch_item_failure.as_deref() {
            None => false,
            Some("AUTOMATIC_BISECT") => true,
            Some(other) => return Err(format!("OnPartialBatchItemFailure does not take `{other}`")),
        };
        Ok(Settings {
            consumer: pipe_arn.to_owned(),
            stream_arn: stream_arn.to_owned(),
            start: self.starting_position,
            batch_size,
            window: Duration::from_secs(self.maximum_batching_window_in_seconds),
            lanes,
            retries,
            max_age,
            bisect,
        })
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
