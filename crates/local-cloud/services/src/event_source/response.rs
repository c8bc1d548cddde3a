//! A function's answer under `ReportBatchItemFailures`.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    batch_item_failures: Option<Vec<Failure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

/// The identifiers that failed. No answer, null and an empty list mean success. An answer of any other
/// form is an error, for which the whole batch fails (services-sqs-errorhandling,
/// services-ddb-batchfailurereporting).
pub fn failures(payload: &[u8]) -> Result<Vec<String>, String> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let answer: Option<Answer> =
        serde_json::from_slice(payload).map_err(|error| format!("malformed batch response: {error}"))?;
    let failures = answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default();
    if failures.iter().any(|failure| failure.item_identifier.is_empty()) {
        return Err("malformed batch response: an item identifier is empty".into());
    }
    Ok(failures.into_iter().map(|failure| failure.item_identifier).collect())
}
