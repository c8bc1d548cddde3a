//! Stream records, as GetRecords answers them.

use md5::{Digest, Md5};
use serde_json::{Value, json};

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn sequence_of(record: &Value) -> String {
    text(&record["dynamodb"]["SequenceNumber"])
}

/// Orders sequence numbers: whole numbers of up to 40 digits, so the longer text is the greater.
pub fn order(sequence: Option<&str>) -> Option<(usize, String)> {
    sequence.map(|text| {
        let digits = text.trim_start_matches('0');
        (digits.len(), digits.to_owned())
    })
}

/// When a record was written, in milliseconds since the epoch; the stream has whole seconds.
pub fn created_ms(record: &Value) -> i64 {
    let seconds = record["dynamodb"]["ApproximateCreationDateTime"].as_f64().unwrap_or_default();
    (seconds * 1000.0) as i64
}

/// The lane of a record's item. The hash is a fixed one, since an item stays in its lane over restarts.
/// Concurrent batches keep the order per item: services-dynamodb-eventsourcemapping.
pub fn lane_of(record: &Value, lanes: usize) -> usize {
    if lanes <= 1 {
        return 0;
    }
    let digest = Md5::digest(record["dynamodb"]["Keys"].to_string());
    usize::from(digest[0]) % lanes
}

/// `DDBStreamBatchInfo` of an invocation record: services-dynamodb-errors.
pub fn batch_info(records: &[Value], shard: &str, stream_arn: &str) -> Value {
    let seconds = |record: Option<&Value>| {
        record
            .and_then(|record| jiff::Timestamp::from_second(created_ms(record) / 1000).ok())
            .map(|at| at.to_string())
    };
    json!({
        "shardId": shard,
        "startSequenceNumber": records.first().map(sequence_of),
        "endSequenceNumber": records.last().map(sequence_of),
        "approximateArrivalOfFirstRecord": seconds(records.first()),
        "approximateArrivalOfLastRecord": seconds(records.last()),
        "batchSize": records.len(),
        "streamArn": stream_arn,
    })
}
