//! A mapping's properties, with the limits of API_CreateEventSourceMapping.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use serde::Deserialize;
use serde_json::{Value, json};

use super::filters::{FilterCriteria, Filters};
use super::stream::{self, StartingPosition};
use crate::lambda::{bounded, name_of};

#[derive(Debug)]
pub struct Mapping {
    pub uuid: String,
    pub function: String,
    pub function_arn: String,
    pub source_arn: String,
    pub source: Source,
    /// ReportBatchItemFailures.
    pub partial: bool,
    pub filters: Filters,
    /// A queue's ARN.
    pub on_failure: Option<String>,
    pub enabled: bool,
    /// The API's `LastProcessingResult` of a stream.
    pub last_result: Mutex<&'static str>,
    pub modified_ms: i64,
    /// The template's resource, with the properties that are valid now.
    pub resource: Resource,
}

#[derive(Debug)]
pub enum Source {
    Queue(Polling),
    Table(stream::Settings),
}

/// How to poll a queue.
#[derive(Debug)]
pub struct Polling {
    pub batch_size: usize,
    pub window: Duration,
    /// Batches with the function at once.
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
    #[serde(default)]
    filter_criteria: FilterCriteria,
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

/// Lambda begins with five batches at once (services-sqs-scaling). Without a maximum of its own, a mapping
/// here does not go beyond.
const CONCURRENCY: u64 = 5;

/// The name of a function's checkpoint in a stream.
pub fn consumer(function: &str, stream_arn: &str) -> String {
    format!("lambda {function} {stream_arn}")
}

/// A property, and why it is refused.
type Refused = (&'static str, String);

fn refused<T>(property: &'static str, reason: impl Into<String>) -> Result<T, Refused> {
    Err((property, reason.into()))
}

fn number(
    property: &'static str,
    value: Option<&Value>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, Refused> {
    bounded(value, default, *range.start(), *range.end()).map_err(|reason| (property, reason))
}

/// A number for which -1 means no bound.
fn bound(
    property: &'static str,
    value: Option<&Value>,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, Refused> {
    match value.filter(|value| **value != -1 && **value != "-1") {
        None => Ok(None),
        value => number(property, value, 0, range).map(Some),
    }
}

fn is_true(value: &Value) -> bool {
    *value == true || *value == "true"
}

/// Reads the properties of a mapping that were last changed at `modified_ms`.
pub fn read(cloud: &Cloud, resource: &Resource, modified_ms: i64) -> Result<Mapping, Refusal> {
    let given: Properties = resource.read()?;
    given
        .mapping(cloud, resource, modified_ms)
        .map_err(|(property, reason)| resource.refuse(&format!("Properties.{property}"), reason))
}

impl Properties {
    fn mapping(self, cloud: &Cloud, resource: &Resource, modified_ms: i64) -> Result<Mapping, Refused> {
        if self.tumbling_window_in_seconds.as_ref().is_some_and(|window| *window != 0) {
            return refused("TumblingWindowInSeconds", "tumbling windows are not emulated");
        }
        let partial = match self.function_response_types.as_deref() {
            None | Some([]) => false,
            Some([kind]) if kind == "ReportBatchItemFailures" => true,
            Some(other) => return refused("FunctionResponseTypes", format!("{other:?} is not known")),
        };
        let source = match self.event_source_arn.split(':').nth(2).unwrap_or_default() {
            "sqs" => Source::Queue(self.polling()?),
            "dynamodb" => Source::Table(self.settings()?),
            other => {
                return refused("EventSourceArn", format!("{other} as an event source is not emulated"));
            }
        };
        let filters = self.filter_criteria.parse(|_| Ok(()));
        let function = name_of(&self.function_name);
        Ok(Mapping {
            uuid: resource.physical_id.clone(),
            function_arn: cloud.arn("lambda", &format!("function:{function}")),
            source,
            partial,
            filters: filters.map_err(|reason| ("FilterCriteria", reason))?,
            on_failure: self.on_failure().map(str::to_owned),
            source_arn: self.event_source_arn,
            enabled: self.enabled.as_ref().is_none_or(is_true),
            last_result: Mutex::new("No records processed"),
            modified_ms,
            resource: resource.clone(),
            function,
        })
    }

    fn window(&self) -> Result<Duration, Refused> {
        let window = self.maximum_batching_window_in_seconds.as_ref();
        number("MaximumBatchingWindowInSeconds", window, 0, 0..=300).map(Duration::from_secs)
    }

    fn on_failure(&self) -> Option<&str> {
        let destination = self.destination_config.as_ref()?.on_failure.as_ref()?.destination.as_deref();
        destination.filter(|arn| !arn.is_empty())
    }

    fn polling(&self) -> Result<Polling, Refused> {
        if self.starting_position.is_some() {
            return refused("StartingPosition", "StartingPosition is not valid for SQS event sources.");
        }
        let stream_only = [
            ("ParallelizationFactor", self.parallelization_factor.is_some()),
            ("BisectBatchOnFunctionError", self.bisect_batch_on_function_error.is_some()),
            ("MaximumRetryAttempts", self.maximum_retry_attempts.is_some()),
            ("MaximumRecordAgeInSeconds", self.maximum_record_age_in_seconds.is_some()),
            ("DestinationConfig", self.on_failure().is_some()),
        ];
        if let Some((property, _)) = stream_only.into_iter().find(|(_, given)| *given) {
            return refused(property, format!("{property} isn't supported for this event source type"));
        }
        let window = self.window()?;
        let batch_size = number("BatchSize", self.batch_size.as_ref(), 10, 1..=10_000)? as usize;
        if batch_size > 10 && window.is_zero() {
            return refused(
                "BatchSize",
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
            );
        }
        let maximum = self.scaling_config.as_ref().and_then(|config| config.maximum_concurrency.as_ref());
        let concurrency = number("ScalingConfig.MaximumConcurrency", maximum, CONCURRENCY, 2..=1_000)?;
        Ok(Polling { batch_size, window, concurrency: concurrency as usize })
    }

    fn settings(&self) -> Result<stream::Settings, Refused> {
        if self.scaling_config.is_some() {
            return refused("ScalingConfig", "is for queues, not for streams");
        }
        if let Some(target) = self.on_failure().filter(|arn| !arn.contains(":sqs:")) {
            let reason = format!("{target} is not a queue; only queues are emulated");
            return refused("DestinationConfig.OnFailure", reason);
        }
        let start = match self.starting_position.as_deref() {
            Some("TRIM_HORIZON") => StartingPosition::TrimHorizon,
            Some("LATEST") => StartingPosition::Latest,
            _ => return refused("StartingPosition", "must be TRIM_HORIZON or LATEST"),
        };
        let lanes = number("ParallelizationFactor", self.parallelization_factor.as_ref(), 1, 1..=10)?;
        let retries = bound("MaximumRetryAttempts", self.maximum_retry_attempts.as_ref(), 0..=10_000)?;
        let max_age = self.maximum_record_age_in_seconds.as_ref();
        Ok(stream::Settings {
            consumer: consumer(&name_of(&self.function_name), &self.event_source_arn),
            stream_arn: self.event_source_arn.clone(),
            start,
            batch_size: number("BatchSize", self.batch_size.as_ref(), 100, 1..=10_000)? as usize,
            window: self.window()?,
            lanes: lanes as usize,
            retries: retries.map(|attempts| attempts as u32),
            max_age: bound("MaximumRecordAgeInSeconds", max_age, 60..=604_800)?.map(Duration::from_secs),
            bisect: self.bisect_batch_on_function_error.as_ref().is_some_and(is_true),
        })
    }
}

impl Mapping {
    /// An EventSourceMappingConfiguration.
    pub fn view(&self, cloud: &Cloud, state: &str) -> Value {
        let is_queue = matches!(self.source, Source::Queue(_));
        let mut view = json!({
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
            // An update with an empty object removes the property.
            let value = self.resource.properties.get(name).filter(|value| **value != json!({}));
            if let Some(value) = value {
                view[name] = value.clone();
            }
        }
        let (batch_size, window) = match &self.source {
            Source::Queue(polling) => (polling.batch_size, polling.window),
            Source::Table(settings) => (settings.batch_size, settings.window),
        };
        view["BatchSize"] = batch_size.into();
        view["MaximumBatchingWindowInSeconds"] = window.as_secs().into();
        if let Source::Table(settings) = &self.source {
            let max_age = settings.max_age.map_or(-1, |age| age.as_secs() as i64);
            view["ParallelizationFactor"] = settings.lanes.into();
            view["BisectBatchOnFunctionError"] = settings.bisect.into();
            view["MaximumRetryAttempts"] = settings.retries.map_or(-1, i64::from).into();
            view["MaximumRecordAgeInSeconds"] = max_age.into();
            view["LastProcessingResult"] = (*cloud_core::lock(&self.last_result)).into();
            view["TumblingWindowInSeconds"] = 0.into();
            view["DestinationConfig"] = match &self.on_failure {
                Some(queue) => json!({ "OnFailure": { "Destination": queue } }),
                None => json!({ "OnFailure": {} }),
            };
        }
        view
    }
}
