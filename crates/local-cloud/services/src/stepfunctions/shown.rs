//! An execution as the API and its events show it.

use cloud_languages::states::history::seconds;
use cloud_languages::states::machine::HISTORY_LIMIT;
use cloud_languages::states::tree::{Meta, Status};
use serde_json::{Value, json};

/// How long an execution can be redriven after it ended without success.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html>
const REDRIVABLE_MS: i64 = 14 * 24 * 60 * 60 * 1000;

/// `redriveStatus` and its reason. The action itself, `RedriveExecution`, is not emulated.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html>
pub fn redrive_status(meta: &Meta, now_ms: i64) -> (&'static str, Option<String>) {
    let reason = match meta.status {
        Status::Running | Status::Succeeded => {
            format!("Execution is {} and cannot be redriven", meta.status.name())
        }
        _ if meta.last_event >= HISTORY_LIMIT - 1 => "Execution history event limit exceeded".into(),
        _ if meta.stopped_ms.is_some_and(|stopped| stopped + REDRIVABLE_MS < now_ms) => {
            "Execution redrivable period exceeded".into()
        }
        _ => return ("REDRIVABLE", None),
    };
    ("NOT_REDRIVABLE", Some(reason))
}

/// Bytes of input and output in the event, escaped. The event leaves out the input if both together are
/// larger, and the output if it alone is.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
const DATA_LIMIT: usize = 248 * 1024;

/// The detail of `Step Functions Execution Status Change`; members that do not apply are null.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
pub fn status_change(meta: &Meta) -> Value {
    let escaped = |text: &str| Value::from(text).to_string().len();
    let output_size = meta.output.as_deref().map_or(0, escaped);
    let with_input = escaped(&meta.input) + output_size <= DATA_LIMIT;
    let with_output = output_size <= DATA_LIMIT;
    let failure = meta.failure.as_ref();
    let (redrive_status, redrive_reason) = redrive_status(meta, meta.stopped_ms.unwrap_or(meta.started_ms));
    json!({
        "executionArn": meta.arn,
        "stateMachineArn": meta.machine_arn,
        "name": meta.name,
        "status": meta.status.name(),
        "startDate": meta.started_ms,
        "stopDate": meta.stopped_ms,
        "input": with_input.then_some(&meta.input),
        "output": meta.output.as_ref().filter(|_| with_output),
        "stateMachineVersionArn": null,
        "stateMachineAliasArn": null,
        "redriveCount": 0,
        "redriveDate": null,
        "redriveStatus": redrive_status,
        "redriveStatusReason": redrive_reason,
        "inputDetails": {"included": with_input},
        "outputDetails": meta.output.as_ref().map(|_| json!({"included": with_output})),
        "error": failure.and_then(|failure| failure.error.as_ref()),
        "cause": failure.and_then(|failure| failure.cause.as_ref()),
    })
}

/// The execution as `ListExecutions` shows it.
pub fn summary(meta: &Meta) -> Value {
    let mut item = json!({
        "executionArn": meta.arn,
        "stateMachineArn": meta.machine_arn,
        "name": meta.name,
        "status": meta.status.name(),
        "startDate": seconds(meta.started_ms),
        "redriveCount": 0,
    });
    if let Some(stopped) = meta.stopped_ms {
        item["stopDate"] = seconds(stopped).into();
    }
    item
}

/// The execution as `DescribeExecution` shows it.
pub fn description(meta: Meta, now_ms: i64, with_data: bool) -> Value {
    let mut answer = summary(&meta);
    let (status, reason) = redrive_status(&meta, now_ms);
    answer["redriveStatus"] = status.into();
    let (error, cause) = meta.failure.map_or((None, None), |failure| (failure.error, failure.cause));
    let data = [("input", Some(meta.input)), ("output", meta.output), ("error", error), ("cause", cause)];
    let data = data.into_iter().filter(|_| with_data);
    for (member, text) in
        [("redriveStatusReason", reason), ("traceHeader", meta.trace_header)].into_iter().chain(data)
    {
        let Some(text) = text else { continue };
        answer[member] = text.into();
        if ["input", "output"].contains(&member) {
            answer[format!("{member}Details")] = json!({"included": true});
        }
    }
    answer
}
