//! Moves the records of one pipe: filters them, makes entries, and puts them onto the bus.

use std::sync::Arc;

use cloud_core::{AwsError, Cloud, calls};
use cloud_languages::input_template::Path;
use serde_json::{Value, json};

use super::pipe::{Level, Pipe};
use crate::event_source::stream::{Abandoned, Consumer, Delivery, sequence_of};
use crate::logs;

pub struct Transfer {
    pub cloud: Arc<Cloud>,
    pub pipe: Arc<Pipe>,
}

impl Consumer for Transfer {
    fn wants(&self, record: &Value) -> bool {
        self.pipe.filters.want(record)
    }

    async fn deliver(&self, records: Vec<Value>) -> Delivery {
        let name = &self.pipe.name;
        let execution = self.cloud.random.uuid();
        self.log(&execution, Level::Info, &["ExecutionStarted", "TargetStageEntered"], None);
        let now = self.cloud.clock.timestamp();
        let entries: Vec<Value> = records.iter().map(|record| entry(&self.pipe, record, &now)).collect();
        let put = self.cloud.call("events", "PutEvents", json!({ "Entries": entries }));
        let answer = calls::by(self.pipe.arn.as_str(), put).await;
        let status = answer.as_ref().map_or_else(|error| error.status, |_| 200);
        let delivery = match answer {
            Err(error) if error.is_server_fault() => Delivery::NotStarted { reason: error.to_string() },
            Err(error) => Delivery::Failed { reason: error.to_string() },
            Ok(answer) => outcome(&records, &answer),
        };
        match &delivery {
            Delivery::Done => {
                tracing::info!(target: "hop", service = "pipes", resource = %name, "{} records moved", records.len());
                self.log(&execution, Level::Info, &["TargetStageSucceeded", "ExecutionSucceeded"], None);
            }
            Delivery::Failed { reason }
            | Delivery::FailedFrom { reason, .. }
            | Delivery::NotStarted { reason } => {
                tracing::warn!(target: "hop", service = "pipes", resource = %name, "not moved: {reason}");
                let steps = match &delivery {
                    Delivery::FailedFrom { .. } => PARTIALLY_FAILED,
                    _ => FAILED,
                };
                let error = json!({
                    "httpStatusCode": status,
                    "message": reason,
                    "details": "",
                    "awsService": "events",
                    "requestId": self.cloud.random.uuid(),
                });
                self.log(&execution, Level::Error, &steps, Some(&error));
            }
        }
        delivery
    }

    async fn abandon(&self, batch: Abandoned) -> Result<(), AwsError> {
        let name = &self.pipe.name;
        tracing::warn!(target: "hop", service = "pipes", resource = %name, "{} records given up: {}", batch.records.len(), batch.reason);
        let Some(queue) = &self.pipe.dead_letter_queue else { return Ok(()) };
        // The message says where the records are in the stream; it does not contain them.
        // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-error-troubleshooting.html
        let message = json!({
            "context": {
                "partnerResourceArn": self.pipe.arn,
                "condition": batch.condition,
                "approximateInvokeCount": batch.attempts,
            },
            "version": "1.0",
            "timestamp": self.cloud.clock.timestamp(),
            "DDBStreamBatchInfo": batch.batch_info,
        });
        let url = self.cloud.call("sqs", "GetQueueUrl", json!({ "QueueName": queue })).await?;
        let input = json!({ "QueueUrl": url["QueueUrl"], "MessageBody": message.to_string() });
        self.cloud.call("sqs", "SendMessage", input).await.map(drop)
    }
}

/// The log records of a failed execution, one for each step that fails. The guide lists them in words;
/// LocalStack recorded their spelling on AWS (esm_event_processor.py).
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-logs.html#eb-pipes-logs-level>
const FAILED: [&str; 3] = ["TargetInvocationFailed", "TargetStageFailed", "ExecutionFailed"];
const PARTIALLY_FAILED: [&str; 3] =
    ["TargetInvocationPartiallyFailed", "TargetStagePartiallyFailed", "ExecutionPartiallyFailed"];

impl Transfer {
    /// Writes a log record for each step. The stream's data would need IncludeExecutionData.
    /// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-logs-schema.html>
    fn log(&self, execution: &str, level: Level, steps: &[&str], error: Option<&Value>) {
        let Some((group, wanted)) = &self.pipe.log else { return };
        if level > *wanted {
            return;
        }
        let now_ms = self.cloud.clock.now_ms();
        for step in steps {
            let mut record = json!({
                "executionId": execution,
                "timestamp": now_ms,
                "messageType": step,
                "resourceArn": self.pipe.arn,
                "logLevel": if level == Level::Error { "ERROR" } else { "INFO" },
            });
            if let Some(error) = error {
                record["error"] = error.clone();
            }
            if let Err(error) = logs::append(&self.cloud, group, &self.pipe.name, now_ms, &record.to_string())
            {
                tracing::error!(%error, "a pipe could not write its log");
            }
        }
    }
}

/// The records before the first failed one are done; the others are tried again.
fn outcome(records: &[Value], answer: &Value) -> Delivery {
    let failed =
        answer["Entries"].as_array().into_iter().flatten().zip(records).find_map(|(entry, record)| {
            let code = entry.get("ErrorCode")?.as_str()?;
            let reason = format!("{code}: {}", entry["ErrorMessage"].as_str().unwrap_or_default());
            Some((sequence_of(record), reason))
        });
    match failed {
        None => Delivery::Done,
        Some((sequence, reason)) => Delivery::FailedFrom { sequence, reason },
    }
}

/// The PutEvents entry for a record. It leaves out a member without a value, so that PutEvents refuses
/// the entry and says why.
fn entry(pipe: &Pipe, record: &Value, now: &str) -> Value {
    let detail = match &pipe.template {
        None => record.to_string(),
        Some(template) => template.render(|name| match name {
            "aws.pipes.pipe-arn" => Some(pipe.arn.as_str().into()),
            "aws.pipes.pipe-name" => Some(pipe.name.as_str().into()),
            "aws.pipes.source-arn" => Some(pipe.source.as_str().into()),
            "aws.pipes.target-arn" => Some(pipe.target.as_str().into()),
            // There is no enrichment.
            "aws.pipes.enrichment-arn" => None,
            "aws.pipes.event.ingestion-time" => Some(now.into()),
            "aws.pipes.event" => Some(record.to_string().into()),
            "aws.pipes.event.json" => Some(record.clone()),
            path => Path::parse(path).ok()?.find(record).cloned(),
        }),
    };
    let mut entry = json!({
        "EventBusName": pipe.target,
        "Detail": detail,
        "Resources": pipe.resources.iter().filter_map(|resource| resource.of(record)).collect::<Vec<_>>(),
    });
    let dynamic = [
        ("Source", Some(&pipe.event_source)),
        ("DetailType", Some(&pipe.detail_type)),
        ("Time", pipe.time.as_ref()),
    ];
    for (name, text) in dynamic {
        if let Some(text) = text.and_then(|text| text.of(record)) {
            entry[name] = text.into();
        }
    }
    entry
}
