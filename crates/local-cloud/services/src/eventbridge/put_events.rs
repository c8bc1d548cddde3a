//! PutEvents: each entry is accepted or refused on its own.

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{invalid, read_input, violated};
use super::bus::{self, Origin};

/// "The total entry size must be less than 1 MB." (PutEvents API reference)
const MAX_BYTES: usize = 1_048_576;
/// What a given `Time` counts. <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html#eb-putevent-size>
const TIME_BYTES: usize = 14;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Entry {
    source: Option<String>,
    detail_type: Option<String>,
    detail: Option<String>,
    event_bus_name: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    time: Option<Value>,
    /// No effect here: there is no X-Ray.
    trace_header: Option<String>,
}

/// Accepts a batch of entries; the answer has one result per entry, in their order.
///
/// # Errors
/// `ValidationException` for the batch as a whole.
pub fn put_events(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let input: Input = read_input(input)?;
    let bound = match input.entries.len() {
        0 => Some("greater than or equal to 1"),
        1..=10 => None,
        _ => Some("less than or equal to 10"),
    };
    if let Some(bound) = bound {
        let shown: Vec<String> = input.entries.iter().map(Entry::shown).collect();
        let constraint = format!("Member must have length {bound}");
        return Err(violated(format!("[{}]", shown.join(", ")), "entries", &constraint));
    }
    if input.entries.iter().map(Entry::size).sum::<usize>() >= MAX_BYTES {
        return Err(invalid("Total size of the entries in the request is over the limit."));
    }
    let mut accepted: Vec<(String, Vec<Value>)> = Vec::new();
    let mut results = Vec::new();
    for entry in input.entries {
        let bus = bus::bus_name(entry.event_bus_name.as_deref());
        if cloud.faults.refuses_entry() {
            results.push(json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded" }));
            continue;
        }
        match entry.into_event(cloud) {
            Ok(event) => {
                results.push(json!({ "EventId": event["id"] }));
                let text = |member: &str| event[member].as_str().unwrap_or_default();
                let (id, source, kind) = (text("id"), text("source"), text("detail-type"));
                let put_before = accepted.iter().any(|(name, _)| *name == bus);
                if !put_before && cloud.store.read(|db| super::store::bus(db, &bus))?.is_none() {
                    // AWS answers with an event id all the same, and the event is lost.
                    tracing::warn!(target: "hop", service = "events", resource = %bus, "{source} {kind} was put onto a bus that does not exist");
                    continue;
                }
                tracing::info!(target: "hop", service = "events", resource = %bus, event = %id, "{source} {kind} accepted");
                match accepted.iter_mut().find(|(name, _)| *name == bus) {
                    Some((_, events)) => events.push(event),
                    None => accepted.push((bus, vec![event])),
                }
            }
            Err((code, message)) => {
                tracing::warn!(target: "hop", service = "events", resource = %bus, "an entry was refused: {code}: {message}");
                results.push(json!({ "ErrorCode": code, "ErrorMessage": message }));
            }
        }
    }
    let batches: Vec<(&str, &[Value])> =
        accepted.iter().map(|(bus, events)| (bus.as_str(), events.as_slice())).collect();
    bus::publish_with(cloud, &batches, Origin::Put, |_| Ok(()))?;
    let failed = results.iter().filter(|result| result.get("ErrorCode").is_some()).count();
    Ok(json!({ "FailedEntryCount": failed, "Entries": results }))
}

impl Entry {
    /// The entry as AWS shows it in a refusal.
    fn shown(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".into());
        format!(
            "PutEventsRequestEntry(time={}, source={}, resources={}, detailType={}, detail={}, eventBusName={}, traceHeader={})",
            self.time.clone().unwrap_or_default(),
            text(&self.source),
            if self.resources.is_empty() {
                "null".into()
            } else {
                format!("[{}]", self.resources.join(", "))
            },
            text(&self.detail_type),
            text(&self.detail),
            text(&self.event_bus_name),
            text(&self.trace_header),
        )
    }

    fn size(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        length(&self.source)
            + length(&self.detail_type)
            + length(&self.detail)
            + self.resources.iter().map(String::len).sum::<usize>()
            + if self.time.is_some() { TIME_BYTES } else { 0 }
    }

    fn into_event(self, cloud: &Cloud) -> Result<Value, (&'static str, String)> {
        let required = |member: Option<String>, name: &str| {
            member.filter(|text| !text.is_empty()).ok_or_else(|| {
                let reason = format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
                ("InvalidArgument", reason)
            })
        };
        let source = required(self.source, "Source")?;
        let detail_type = required(self.detail_type, "DetailType")?;
        let detail = required(self.detail, "Detail")?;
        // Only AWS services may use `aws.`.
        // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
        if source.starts_with("aws.") {
            return Err(("NotAuthorizedForSourceException", "Not authorized for the source.".into()));
        }
        let detail: Value = serde_json::from_str(&detail)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
        let time_ms = match &self.time {
            None => cloud.clock.now_ms(),
            Some(time) => super::api::time_ms(time)
                .ok_or_else(|| ("InvalidArgument", "Parameter Time is not valid.".to_owned()))?,
        };
        Ok(bus::envelope(cloud, &source, &detail_type, time_ms, self.resources.into(), detail))
    }
}
