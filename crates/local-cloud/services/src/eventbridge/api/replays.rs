//! Actions on replays.

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{already_exists, archives, invalid, not_found, page, seconds, with_texts};
use crate::eventbridge::event::time_ms;
use crate::eventbridge::names::{self, archive_arn, bus_arn, bus_name, find_bus, replay_arn};
use crate::eventbridge::{replay, store};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Start {
    replay_name: String,
    description: Option<String>,
    event_source_arn: String,
    event_start_time: Value,
    event_end_time: Value,
    destination: Destination,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Destination {
    arn: String,
    #[serde(default)]
    filter_arns: Vec<String>,
}

fn invalid_parameter(name: &str, reason: &str) -> AwsError {
    invalid(format!("Parameter {name} is not valid. Reason: {reason}"))
}

pub fn start(cloud: &Arc<Cloud>, input: Start) -> Result<Value, AwsError> {
    names::check("replayName", &input.replay_name, 64).map_err(invalid)?;
    if !input.destination.arn.contains(":event-bus/") {
        return Err(invalid_parameter("Destination.Arn", "Must contain an event bus ARN."));
    }
    find_bus(cloud, Some(&input.destination.arn))?;
    let archive = input.event_source_arn.rsplit('/').next().unwrap_or_default();
    let archive = archives::find(cloud, archive)
        .map_err(|error| invalid_parameter("EventSourceArn", &error.message))?;
    // "You can replay events only to the same event bus."
    if bus_name(Some(&input.destination.arn)) != archive.bus {
        return Err(invalid_parameter("Destination.Arn", "Cross event bus replay is not permitted."));
    }
    let time = |time: &Value, name: &str| {
        time_ms(time).ok_or_else(|| invalid(format!("Parameter {name} is not valid.")))
    };
    let from_ms = time(&input.event_start_time, "EventStartTime")?;
    let until_ms = time(&input.event_end_time, "EventEndTime")?;
    if until_ms <= from_ms {
        return Err(invalid_parameter("EventEndTime", "EventStartTime must be before EventEndTime."));
    }
    let replay = store::Replay {
        name: input.replay_name,
        description: input.description,
        archive: archive.name,
        bus: archive.bus,
        filters: input.destination.filter_arns,
        from_ms,
        until_ms,
        state: "STARTING".into(),
        at: None,
        started_ms: cloud.clock.now_ms(),
        ended_ms: None,
    };
    if !cloud.store.write(|tx| store::add_replay(tx, &replay))? {
        return Err(already_exists("Replay", &replay.name));
    }
    tokio::spawn(replay::run(cloud.clone(), replay.name.clone()));
    Ok(json!({
        "ReplayArn": replay_arn(cloud, &replay.name),
        "State": replay.state,
        "ReplayStartTime": seconds(replay.started_ms),
    }))
}

fn view(cloud: &Cloud, replay: &store::Replay) -> Value {
    let mut view = json!({
        "ReplayName": replay.name,
        "EventSourceArn": archive_arn(cloud, &replay.archive),
        "State": replay.state,
        "EventStartTime": seconds(replay.from_ms),
        "EventEndTime": seconds(replay.until_ms),
        "ReplayStartTime": seconds(replay.started_ms),
    });
    let replayed_ms = replay.at.map(|(at_ms, _)| at_ms);
    for (member, time_ms) in [("EventLastReplayedTime", replayed_ms), ("ReplayEndTime", replay.ended_ms)] {
        if let Some(time_ms) = time_ms {
            view[member] = seconds(time_ms).into();
        }
    }
    view
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct OneReplay {
    replay_name: String,
}

pub fn describe(cloud: &Cloud, input: OneReplay) -> Result<Value, AwsError> {
    let replay = cloud.store.read(|db| store::replay(db, &input.replay_name))?;
    let replay = replay.ok_or_else(|| not_found("Replay", &input.replay_name))?;
    let mut view = view(cloud, &replay);
    view["ReplayArn"] = replay_arn(cloud, &replay.name).into();
    view["Destination"] = json!({ "Arn": bus_arn(cloud, &replay.bus), "FilterArns": replay.filters });
    Ok(with_texts(view, [("Description", replay.description)]))
}

const STATES: [&str; 6] = ["CANCELLED", "CANCELLING", "COMPLETED", "FAILED", "RUNNING", "STARTING"];

pub fn list(cloud: &Cloud, input: archives::List) -> Result<Value, AwsError> {
    input.check("ListReplays", &STATES)?;
    let replays = cloud.store.read(store::replays)?;
    let replays = replays
        .iter()
        .filter(|replay| input.wants(&replay.name, &archive_arn(cloud, &replay.archive), &replay.state));
    let replays = replays.map(|replay| (replay.name.clone(), view(cloud, replay))).collect();
    page("Replays", replays, input.next_token, input.limit)
}
