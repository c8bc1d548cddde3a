//! What a mapping says, with the limits of API_CreateEventSourceMapping.

use std::sync::Mutex;
use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use cloud_languages::event_pattern::Pattern;
use serde::Deserialize;
use serde_json::{Value, json};

use super::stream::{self, StartingPosition};
use crate::lambda::{bounded, name_of};

/// One mapping from a source to a function.
#[derive(Debug)]
pub(super) struct Mapping {
    pub uuid: String,
    pub function: String,
    pub function_arn: String,
    pub source_arn: String,
    pub source: Source,
    /// ReportBatchItemFailures.
    pub partial: bool,
    filters: Vec<Pattern>,
    /// A queue's ARN.
    pub on_failure: Option<String>,
    pub enabled: bool,
    /// What became of the last batch of a stream, as the API tells it.
    pub last_result: Mutex<&'static str>,
    pub modified_ms: i64,
    /// With the properties as they are now, which an update changes.
    pub resource: Resource,
}

/// How the source is polled.
#[derive(Debug)]
pub(super) enum Source {
    Queue(Polling),
    Table(stream::Settings),
}

/// How a queue is polled.
#[derive(Debug)]
pub(super) struct Polling {
    pub batch_size: usize,
    pub window: Duration,
    pub concurrency: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    function_name: String,
    event_source_arn: String,
    enabled: Option<Value>,
    batch_size: Option<Value>,
    maximum_batching_window_in_seconds: Option<Value>,
    function_response_types: Option<Vec<String>>,
    filter_criteria: Option<FilterCriteria>,
    scaling_config: Option<ScalingConfig>,
    starting_position: Option<String>,
    parallelization_factor: Option<Value>,
    bisect_batch_on_function_error: Option<Value>,
    maximum_retry_attempts: Option<Value>,
    maximum_record_age_in_seconds: Option<Value>,
    tumbling_window_in_seconds: Option<Value>,
    destination_config: Option<DestinationConfig>,
    // Management only: no effect here.
    #[serde(rename = "Tags")]
    _tags: Option<Value>,
    #[serde(rename = "KmsKeyArn")]
    _kms_key_arn: Option<Value>,
    #[serde(rename = "MetricsConfig")]
    _metrics_config: Option<Value>,
}

#[derive(Deserialize)]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ScalingConfig {
    maximum_concurrency: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DestinationConfig {
    on_failure: Option<OnFailure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OnFailure {
    destination: Option<String>,
}

/// Lambda begins with five batches at once (services-sqs-scaling); without a maximum of
/// its own a mapping here stays there.
const CONCURRENCY: u64 = 5;

/// Filters of a mapping, and characters of a pattern (invocation-eventfiltering, API_Filter).
const FILTERS: usize = 5;
const PATTERN_BYTES: usize = 4_096;

/// The name of the checkpoint of a function in a stream.
pub(super) fn consumer(function: &str, stream_arn: &str) -> String {
    format!("lambda {function} {stream_arn}")
}

/// Reads the properties of a mapping that were last changed at `modified_ms`.
pub(super) fn read(cloud: &Cloud, resource: &Resource, modified_ms: i64) -> Result<Mapping, Refusal> {
    let given: Properties = resource.read()?;
    let refuse = |property: &str, reason: String| resource.refuse(&format!("Properties.{property}"), reason);
    let number = |value: &Option<Value>, property: &str, default, least, most| {
        bounded(value.as_ref(), default, least, most).map_err(|reason| refuse(property, reason))
    };
    if given.tumbling_window_in_seconds.as_ref().is_some_and(|window| *window != 0) {
        return Err(refuse("TumblingWindowInSeconds", "tumbling windows are not emulated".into()));
    }
    let partial = match given.function_response_types.as_deref() {
        None | Some([]) => false,
        Some([kind]) if kind == "ReportBatchItemFailures" => true,
        Some(other) => return Err(refuse("FunctionResponseTypes", format!("{other:?} is not known"))),
    };
    let window =
        number(&given.maximum_batching_window_in_seconds, "MaximumBatchingWindowInSeconds", 0, 0, 300)?;
    let window = Duration::from_secs(window);
    let function = name_of(&given.function_name);
    let on_failure = given.destination_config.as_ref().and_then(|config| config.on_failure.as_ref());
    let on_failure = on_failure.and_then(|destination| destination.destination.clone());
    let on_failure = on_failure.filter(|arn| !arn.is_empty());
    let service = given.event_source_arn.split(':').nth(2).unwrap_or_default().to_owned();
    let source = match service.as_str() {
        "sqs" => {
            let stream_only = [
                ("StartingPosition", given.starting_position.is_some()),
                ("ParallelizationFactor", given.parallelization_factor.is_some()),
                ("BisectBatchOnFunctionError", given.bisect_batch_on_function_error.is_some()),
                ("MaximumRetryAttempts", given.maximum_retry_attempts.is_some()),
                ("MaximumRecordAgeInSeconds", given.maximum_record_age_in_seconds.is_some()),
                ("DestinationConfig", on_failure.is_some()),
            ];
            if let Some((property, _)) = stream_only.iter().find(|(_, given)| *given) {
                let reason = match *property {
                    "StartingPosition" => "StartingPosition is not valid for SQS event sources.".into(),
                    other => format!("{other} isn't supported for this event source type"),
                };
                return Err(refuse(property, reason));
            }
            let batch_size = number(&given.batch_size, "BatchSize", 10, 1, 10_000)? as usize;
            if batch_size > 10 && window.is_zero() {
                let reason = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10";
                return Err(refuse("BatchSize", reason.into()));
            }
            let most = given.scaling_config.as_ref().and_then(|config| config.maximum_concurrency.clone());
            let concurrency =
                number(&most, "ScalingConfig.MaximumConcurrency", CONCURRENCY, 2, 1_000)? as usize;
            Source::Queue(Polling { batch_size, window, concurrency })
        }
        "dynamodb" => {
            if given.scaling_config.is_some() {
                return Err(refuse("ScalingConfig", "is for queues, not for streams".into()));
            }
            if let Some(target) = on_failure.as_deref().filter(|arn| !arn.contains(":sqs:")) {
                let reason = format!("{target} is not a queue; only queues are emulated");
                return Err(refuse("DestinationConfig.OnFailure", reason));
            }
            let start = match given.starting_position.as_deref() {
                Some("TRIM_HORIZON") => StartingPosition::TrimHorizon,
                Some("LATEST") => StartingPosition::Latest,
                _ => return Err(refuse("StartingPosition", "must be TRIM_HORIZON or LATEST".into())),
            };
            // -1 is without bound, for both.
            let bound = |value: &Option<Value>, property: &str, least, most| match value {
                None => Ok(None),
                Some(value) if *value == -1 || *value == "-1" => Ok(None),
                Some(_) => number(value, property, 0, least, most).map(Some),
            };
            Source::Table(stream::Settings {
                consumer: consumer(&function, &given.event_source_arn),
                stream_arn: given.event_source_arn.clone(),
                start,
                batch_size: number(&given.batch_size, "BatchSize", 100, 1, 10_000)? as usize,
                window,
                lanes: number(&given.parallelization_factor, "ParallelizationFactor", 1, 1, 10)? as usize,
                retries: bound(&given.maximum_retry_attempts, "MaximumRetryAttempts", 0, 10_000)?
                    .map(|n| n as u32),
                max_age: bound(
                    &given.maximum_record_age_in_seconds,
                    "MaximumRecordAgeInSeconds",
                    60,
                    604_800,
                )?
                .map(Duration::from_secs),
                bisect: given.bisect_batch_on_function_error.as_ref().is_some_and(is_true),
            })
        }
        other => return Err(refuse("EventSourceArn", format!("{other} as an event source is not emulated"))),
    };
    let filters = given.filter_criteria.map(|criteria| criteria.filters).unwrap_or_default();
    if filters.len() > FILTERS {
        return Err(refuse("FilterCriteria", format!("a mapping has {FILTERS} filters at most")));
    }
    let filters = filters.iter().map(|filter| {
        if filter.pattern.len() > PATTERN_BYTES {
            let reason = format!("a pattern has {PATTERN_BYTES} characters at most");
            return Err(refuse("FilterCriteria", reason));
        }
        let pattern = serde_json::from_str(&filter.pattern).map_err(|error| error.to_string());
        pattern.and_then(|pattern| Pattern::parse(&pattern)).map_err(|reason| {
            refuse("FilterCriteria", format!("Invalid filter pattern definition. {reason}"))
        })
    });
    Ok(Mapping {
        uuid: resource.physical_id.clone(),
        function_arn: cloud.arn("lambda", &format!("function:{function}")),
        source_arn: given.event_source_arn,
        source,
        partial,
        filters: filters.collect::<Result<_, _>>()?,
        on_failure,
        enabled: given.enabled.as_ref().is_none_or(is_true),
        last_result: Mutex::new("No records processed"),
        modified_ms,
        resource: resource.clone(),
        function,
    })
}

fn is_true(value: &Value) -> bool {
    *value == true || *value == "true"
}

impl Mapping {
    /// Whether one of the filters matches; without filters everything is wanted.
    pub fn wants(&self, record: &Value) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(record))
    }

    /// An EventSourceMappingConfiguration.
    pub fn describe(&self, cloud: &Cloud, state: &str) -> Value {
        let is_queue = matches!(self.source, Source::Queue(_));
        let mut answer = json!({
            "UUID": self.uuid,
            "EventSourceMappingArn": cloud.arn("lambda", &format!("event-source-mapping:{}", self.uuid)),
            "EventSourceArn": self.source_arn,
            "FunctionArn": self.function_arn,
            "State": state,
            "StateTransitionReason": if is_queue { "USER_INITIATED" } else { "User action" },
            "LastModified": self.modified_ms as f64 / 1_000.0,
            "FunctionResponseTypes": if self.partial { json!(["ReportBatchItemFailures"]) } else { json!([]) },
        });
        for name in ["FilterCriteria", "ScalingConfig", "StartingPosition"] {
            // An empty object took away what was there.
            let value = self.resource.properties.get(name).filter(|value| **value != json!({}));
            if let Some(value) = value {
                answer[name] = value.clone();
            }
        }
        match &self.source {
            Source::Queue(polling) => {
                answer["BatchSize"] = polling.batch_size.into();
                answer["MaximumBatchingWindowInSeconds"] = polling.window.as_secs().into();
            }
            Source::Table(settings) => {
                answer["BatchSize"] = settings.batch_size.into();
                answer["MaximumBatchingWindowInSeconds"] = settings.window.as_secs().into();
                answer["ParallelizationFactor"] = settings.lanes.into();
                answer["BisectBatchOnFunctionError"] = settings.bisect.into();
                answer["MaximumRetryAttempts"] = settings.retries.map_or(-1, i64::from).into();
                answer["MaximumRecordAgeInSeconds"] =
                    settings.max_age.map_or(-1, |age| age.as_secs() as i64).into();
                answer["LastProcessingResult"] = (*super::lock(&self.last_result)).into();
                answer["TumblingWindowInSeconds"] = 0.into();
                answer["DestinationConfig"] = match &self.on_failure {
                    Some(queue) => json!({ "OnFailure": { "Destination": queue } }),
                    None => json!({ "OnFailure": {} }),
                };
            }
        }
        answer
    }
}
