//! The envelope of an event, and its time.

use cloud_core::Cloud;
use cloud_core::clock::rfc3339_seconds;
use serde_json::{Value, json};

/// The envelope of an event; `time_ms` is cut to seconds, as EventBridge does.
pub fn envelope(
    cloud: &Cloud,
    source: &str,
    detail_type: &str,
    time_ms: i64,
    resources: Value,
    detail: Value,
) -> Value {
    json!({
        "version": "0",
        "id": cloud.random.uuid(),
        "detail-type": detail_type,
        "source": source,
        "account": cloud.settings.account,
        "time": rfc3339_seconds(time_ms),
        "region": cloud.settings.region,
        "resources": resources,
        "detail": detail,
    })
}

/// A timestamp in milliseconds since the epoch: the JSON protocol sends seconds with a fraction; text is
/// RFC 3339.
pub fn time_ms(time: &Value) -> Option<i64> {
    match time {
        Value::Number(seconds) => seconds.as_f64().map(|seconds| (seconds * 1000.0).round() as i64),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond()),
        _ => None,
    }
}
