//! PutEvents accepts or refuses each entry on its own.

use std::sync::Arc;

use cloud_core::api::violated;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::invalid;
use crate::eventbridge::event::{envelope, time_ms};
use crate::eventbridge::names::bus_name;
use crate::eventbridge::routing::{self, Origin};
use crate::eventbridge::store;

/// "The total entry size must be less than 1 MB." (PutEvents API reference)
const MAX_BYTES: usize = 1_048_576;
/// The size of a given `Time`. <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html#eb-putevent-size>
const TIME_BYTES: usize = 14;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Input {
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

/// The answer has one result per entry, in their order.
pub fn put(cloud: &Arc<Cloud>, input: Input) -> Result<Value, AwsError> {
    check(&input.entries)?;
    let mut accepted: Vec<(String, Vec<Value>)> = Vec::new();
    let mut results = Vec::new();
    for entry in input.entries {
        if cloud.faults.refuses_entry() {
            results.push(json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded" }));
            continue;
        }
        let bus = bus_name(entry.event_bus_name.as_deref());
        match entry.into_event(cloud) {
            Ok(event) => {
                results.push(json!({ "EventId": event["id"] }));
                add(cloud, &mut accepted, bus, event)?;
            }
            Err((code, message)) => {
                tracing::warn!(target: "hop", service = "events", resource = %bus, "an entry was refused: {code}: {message}");
                results.push(json!({ "ErrorCode": code, "ErrorMessage": message }));
            }
        }
    }
    let batches: Vec<(&str, &[Value])> =
        accepted.iter().map(|(bus, events)| (bus.as_str(), events.as_slice())).collect();
    routing::publish(cloud, &batches, Origin::Put, |_| Ok(()))?;
    let failed = results.iter().filter(|result| result.get("ErrorCode").is_some()).count();
    Ok(json!({ "FailedEntryCount": failed, "Entries": results }))
}

/// Checks the batch as a whole.
fn check(entries: &[Entry]) -> Result<(), AwsError> {
    let bound = match entries.len() {
        0 => "greater than or equal to 1",
        1..=10 if entries.iter().map(Entry::size).sum::<usize>() >= MAX_BYTES => {
            return Err(invalid("Total size of the entries in the request is over the limit."));
        }
        1..=10 => return Ok(()),
        _ => "less than or equal to 10",
    };
    let shown: Vec<String> = entries.iter().map(Entry::shown).collect();
    let constraint = format!("Member must have length {bound}");
    Err(violated(format!("[{}]", shown.join(", ")), "entries", &constraint))
}

/// Adds an event to those of its bus.
fn add(
    cloud: &Cloud,
    accepted: &mut Vec<(String, Vec<Value>)>,
    bus: String,
    event: Value,
) -> Result<(), AwsError> {
    let text = |member: &str| event[member].as_str().unwrap_or_default();
    let (id, source, kind) = (text("id"), text("source"), text("detail-type"));
    let known = accepted.iter().position(|(name, _)| *name == bus);
    if known.is_none() && cloud.store.read(|db| store::bus(db, &bus))?.is_none() {
        // AWS answers with an event id all the same, and the event is lost.
        tracing::warn!(target: "hop", service = "events", resource = %bus, "{source} {kind} was put onto a bus that does not exist");
        return Ok(());
    }
    tracing::info!(target: "hop", service = "events", resource = %bus, event = %id, "{source} {kind} accepted");
    match known {
        Some(index) => accepted[index].1.push(event),
        None => accepted.push((bus, vec![event])),
    }
    Ok(())
}

impl Entry {
    /// The entry as AWS shows it in a refusal.
    fn shown(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".into());
        let resources = match &self.resources[..] {
            [] => "null".into(),
            resources => format!("[{}]", resources.join(", ")),
        };
        format!(
            "PutEventsRequestEntry(time={}, source={}, resources={resources}, detailType={}, detail={}, eventBusName={}, traceHeader={})",
            self.time.clone().unwrap_or_default(),
            text(&self.source),
            text(&self.detail_type),
            text(&self.detail),
            text(&self.event_bus_name),
            text(&self.trace_header),
        )
    }

    fn size(&self) -> usize {
        let texts = [&self.source, &self.detail_type, &self.detail].into_iter().flatten();
        texts.chain(&self.resources).map(String::len).sum::<usize>()
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
        let detail: Option<Value> = serde_json::from_str(&detail).ok().filter(Value::is_object);
        let detail = detail.ok_or_else(|| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
        let time_ms = match &self.time {
            None => cloud.clock.now_ms(),
            Some(time) => {
                time_ms(time).ok_or_else(|| ("InvalidArgument", "Parameter Time is not valid.".to_owned()))?
            }
        };
        Ok(envelope(cloud, &source, &detail_type, time_ms, self.resources.into(), detail))
    }
}
