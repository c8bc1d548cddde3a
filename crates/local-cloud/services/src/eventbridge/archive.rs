//! Archives and replays. A replay runs in the background, remembers how far it came, and
//! marks its events with `replay-name`.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html>

use std::sync::Arc;

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::params;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{invalid, page, read_input, violated};
use super::bus::{self, Origin, bus_arn};
use super::model::parse_pattern;
use super::rules::invalid_pattern;
use super::store;

/// Events of one step of a replay.
const STEP: usize = 100;

fn archive_arn(cloud: &Cloud, name: &str) -> String {
    cloud.arn("events", &format!("archive/{name}"))
}

fn find(cloud: &Cloud, name: &str) -> Result<store::Archive, AwsError> {
    let archives = cloud.store.read(store::archives)?;
    let archive = archives.into_iter().find(|archive| archive.name == name).ok_or_else(|| {
        AwsError::client("ResourceNotFoundException", format!("Archive {name} does not exist."))
    })?;
    if archive.retention_days > 0 {
        let oldest_ms = cloud.clock.now_ms() - archive.retention_days * 86_400_000;
        cloud.store.write(|tx| {
            tx.execute(
                "DELETE FROM events_archived WHERE archive = ?1 AND time_ms < ?2",
                params![archive.name, oldest_ms],
            )
        })?;
    }
    Ok(archive)
}

fn view(cloud: &Cloud, archive: &store::Archive) -> Result<Value, AwsError> {
    let (count, bytes): (i64, i64) = cloud.store.read(|db| {
        db.query_row(
            "SELECT count(*), coalesce(sum(length(CAST(event AS BLOB))), 0) FROM events_archived WHERE archive = ?1",
            [&archive.name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    })?;
    Ok(json!({
        "ArchiveName": archive.name,
        "EventSourceArn": bus_arn(cloud, &archive.bus),
        "State": "ENABLED",
        "RetentionDays": archive.retention_days,
        "SizeBytes": bytes,
        "EventCount": count,
        "CreationTime": archive.created_ms as f64 / 1000.0,
    }))
}

/// An answer of CreateArchive and UpdateArchive.
fn accepted(cloud: &Cloud, archive: &store::Archive) -> Value {
    json!({
        "ArchiveArn": archive_arn(cloud, &archive.name),
        "State": "ENABLED",
        "CreationTime": archive.created_ms as f64 / 1000.0,
    })
}

/// What the API and a template may not call an archive.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    super::api::check_name(name, "archiveName", 48)
}

/// How long neither the API nor a template may keep events; 0 keeps them for ever.
pub(super) fn check_retention(days: i64) -> Result<(), AwsError> {
    match days {
        ..0 => Err(violated(days, "retentionDays", "Member must have value greater than or equal to 0")),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CreateArchive {
    archive_name: String,
    event_source_arn: String,
    description: Option<String>,
    event_pattern: Option<String>,
    #[serde(default)]
    retention_days: i64,
}

pub fn create_archive(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: CreateArchive = read_input(input)?;
    check_name(&input.archive_name).map_err(invalid)?;
    let bus = bus::find(cloud, Some(&input.event_source_arn))?.name;
    if find(cloud, &input.archive_name).is_ok() {
        let message = format!("Archive {} already exists.", input.archive_name);
        return Err(AwsError::client("ResourceAlreadyExistsException", message));
    }
    let archive = store::Archive {
        name: input.archive_name,
        bus,
        pattern: input.event_pattern,
        description: input.description,
        retention_days: input.retention_days,
        created_ms: cloud.clock.now_ms(),
        from_template: false,
    };
    put_archive(cloud, &archive)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct UpdateArchive {
    archive_name: String,
    description: Option<String>,
    event_pattern: Option<String>,
    retention_days: Option<i64>,
}

pub fn update_archive(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: UpdateArchive = read_input(input)?;
    let before = find(cloud, &input.archive_name)?;
    let archive = store::Archive {
        description: input.description.or(before.description),
        pattern: input.event_pattern.or(before.pattern),
        retention_days: input.retention_days.unwrap_or(before.retention_days),
        ..before
    };
    put_archive(cloud, &archive)
}

fn put_archive(cloud: &Cloud, archive: &store::Archive) -> Result<Value, AwsError> {
    if let Some(pattern) = &archive.pattern {
        parse_pattern(pattern).map_err(|reason| invalid_pattern(&reason))?;
    }
    check_retention(archive.retention_days)?;
    cloud.store.write(|tx| store::put_archive(tx, archive))?;
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(accepted(cloud, archive))
}

pub fn delete_archive(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: DescribeArchive = read_input(input)?;
    let archive = find(cloud, &input.archive_name)?;
    cloud.store.write(|tx| tx.execute("DELETE FROM events_archives WHERE name = ?1", [&archive.name]))?;
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeArchive {
    archive_name: String,
}

pub fn describe_archive(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: DescribeArchive = read_input(input)?;
    let archive = find(cloud, &input.archive_name)?;
    let mut view = view(cloud, &archive)?;
    view["ArchiveArn"] = archive_arn(cloud, &archive.name).into();
    for (name, member) in [("EventPattern", archive.pattern), ("Description", archive.description)] {
        if let Some(member) = member {
            view[name] = member.into();
        }
    }
    Ok(view)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    name_prefix: Option<String>,
    event_source_arn: Option<String>,
    state: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

impl List {
    /// "At most one filter" of three, and a state that there is.
    fn check(&self, action: &str, states: &[&str]) -> Result<(), AwsError> {
        let filters = [&self.name_prefix, &self.event_source_arn, &self.state];
        if filters.iter().filter(|filter| filter.is_some()).count() > 1 {
            return Err(invalid(format!(
                "At most one filter is allowed for {action}. Use either : State, EventSourceArn, or NamePrefix."
            )));
        }
        match &self.state {
            Some(state) if !states.contains(&state.as_str()) => {
                let constraint = format!("Member must satisfy enum value set: [{}]", states.join(", "));
                Err(violated(state, "state", &constraint))
            }
            _ => Ok(()),
        }
    }
}

const ARCHIVE_STATES: [&str; 6] =
    ["ENABLED", "DISABLED", "CREATING", "UPDATING", "CREATE_FAILED", "UPDATE_FAILED"];
const REPLAY_STATES: [&str; 6] = ["CANCELLED", "CANCELLING", "COMPLETED", "FAILED", "RUNNING", "STARTING"];

pub fn list_archives(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    input.check("ListArchives", &ARCHIVE_STATES)?;
    if let Some(source) = &input.event_source_arn {
        bus::find(cloud, Some(source))?;
    }
    let prefix = input.name_prefix.unwrap_or_default();
    let mut views = Vec::new();
    for archive in cloud.store.read(store::archives)? {
        let of_source =
            input.event_source_arn.as_ref().is_none_or(|arn| *arn == bus_arn(cloud, &archive.bus));
        let in_state = input.state.as_ref().is_none_or(|state| state == "ENABLED");
        if archive.name.starts_with(&prefix) && of_source && in_state {
            let archive = find(cloud, &archive.name)?;
            views.push((archive.name.clone(), view(cloud, &archive)?));
        }
    }
    page("Archives", views, input.next_token, input.limit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StartReplay {
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

pub fn start_replay(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let input: StartReplay = read_input(input)?;
    super::api::check_name(&input.replay_name, "replayName", 64).map_err(invalid)?;
    if !input.destination.arn.contains(":event-bus/") {
        let message = "Parameter Destination.Arn is not valid. Reason: Must contain an event bus ARN.";
        return Err(invalid(message));
    }
    bus::find(cloud, Some(&input.destination.arn))?;
    let name = input.event_source_arn.rsplit('/').next().unwrap_or_default();
    let archive = find(cloud, name).map_err(|error| {
        invalid(format!("Parameter EventSourceArn is not valid. Reason: {}", error.message))
    })?;
    // "You can replay events only to the same event bus."
    if bus::bus_name(Some(&input.destination.arn)) != archive.bus {
        return Err(invalid(
            "Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted.",
        ));
    }
    let time = |time: &Value, name: &str| {
        super::api::time_ms(time).ok_or_else(|| invalid(format!("Parameter {name} is not valid.")))
    };
    let from_ms = time(&input.event_start_time, "EventStartTime")?;
    let until_ms = time(&input.event_end_time, "EventEndTime")?;
    if until_ms <= from_ms {
        return Err(invalid(
            "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime.",
        ));
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
        let message = format!("Replay {} already exists.", replay.name);
        return Err(AwsError::client("ResourceAlreadyExistsException", message));
    }
    tokio::spawn(run(cloud.clone(), replay.name.clone()));
    Ok(json!({
        "ReplayArn": replay_arn(cloud, &replay.name),
        "State": "STARTING",
        "ReplayStartTime": replay.started_ms as f64 / 1000.0,
    }))
}

/// Resumes replays that were under way.
pub fn start(cloud: &Arc<Cloud>) {
    match cloud.store.read(store::replays) {
        Ok(replays) => {
            for replay in replays.into_iter().filter(|replay| replay.ended_ms.is_none()) {
                tokio::spawn(run(cloud.clone(), replay.name));
            }
        }
        Err(error) => tracing::error!(%error, "replays could not be read"),
    }
}

async fn run(cloud: Arc<Cloud>, name: String) {
    while !cloud.stopping.is_cancelled() {
        match step(&cloud, &name) {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, replay = %name, "a replay failed");
                let failed = finish(&cloud, &name, "FAILED");
                return failed.unwrap_or_else(|error| tracing::error!(%error, "and could not be marked"));
            }
        }
    }
}

/// Replays some events and moves on, in one transaction; false once it is over.
fn step(cloud: &Arc<Cloud>, name: &str) -> Result<bool, StoreError> {
    let Some(replay) = cloud.store.read(|db| store::replay(db, name))? else { return Ok(false) };
    if replay.ended_ms.is_some() {
        return Ok(false);
    }
    if replay.state == "CANCELLING" {
        finish(cloud, name, "CANCELLED")?;
        return Ok(false);
    }
    let events = cloud.store.read(|db| store::archived(db, &replay, STEP))?;
    let Some((last_id, last_ms, _)) = events.last() else {
        finish(cloud, name, "COMPLETED")?;
        return Ok(false);
    };
    let position = params![name, *last_ms, *last_id];
    let mark = |text: &String| {
        let mut event: Value = serde_json::from_str(text).ok()?;
        event["replay-name"] = name.into();
        Some(event)
    };
    let marked: Vec<Value> = events.iter().filter_map(|(_, _, text)| mark(text)).collect();
    let batches = [(replay.bus.as_str(), marked.as_slice())];
    bus::publish_with(cloud, &batches, Origin::Replay(&replay.filters), |tx| {
        tx.execute(
            "UPDATE events_replays SET state = iif(state = 'CANCELLING', state, 'RUNNING'), at_ms = ?2, at_id = ?3
             WHERE name = ?1 AND ended_ms IS NULL",
            position,
        )?;
        Ok(())
    })?;
    Ok(true)
}

fn finish(cloud: &Cloud, name: &str, state: &str) -> Result<(), StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        tx.execute(
            "UPDATE events_replays SET state = ?2, ended_ms = ?3 WHERE name = ?1 AND ended_ms IS NULL",
            params![name, state, now_ms],
        )?;
        Ok(())
    })
}

fn replay_arn(cloud: &Cloud, name: &str) -> String {
    cloud.arn("events", &format!("replay/{name}"))
}

fn find_replay(cloud: &Cloud, name: &str) -> Result<store::Replay, AwsError> {
    cloud.store.read(|db| store::replay(db, name))?.ok_or_else(|| {
        AwsError::client("ResourceNotFoundException", format!("Replay {name} does not exist."))
    })
}

fn view_replay(cloud: &Cloud, replay: &store::Replay) -> Value {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut view = json!({
        "ReplayName": replay.name,
        "EventSourceArn": archive_arn(cloud, &replay.archive),
        "State": replay.state,
        "EventStartTime": seconds(replay.from_ms),
        "EventEndTime": seconds(replay.until_ms),
        "ReplayStartTime": seconds(replay.started_ms),
    });
    if let Some((at_ms, _)) = replay.at {
        view["EventLastReplayedTime"] = seconds(at_ms).into();
    }
    if let Some(ended_ms) = replay.ended_ms {
        view["ReplayEndTime"] = seconds(ended_ms).into();
    }
    view
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OneReplay {
    replay_name: String,
}

pub fn describe_replay(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneReplay = read_input(input)?;
    let replay = find_replay(cloud, &input.replay_name)?;
    let mut view = view_replay(cloud, &replay);
    view["ReplayArn"] = replay_arn(cloud, &replay.name).into();
    view["Destination"] = json!({ "Arn": bus_arn(cloud, &replay.bus), "FilterArns": replay.filters });
    if let Some(description) = replay.description {
        view["Description"] = description.into();
    }
    Ok(view)
}

pub fn list_replays(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    input.check("ListReplays", &REPLAY_STATES)?;
    let prefix = input.name_prefix.unwrap_or_default();
    let replays = cloud.store.read(store::replays)?;
    let replays = replays.iter().filter(|replay| {
        replay.name.starts_with(&prefix)
            && input.state.as_ref().is_none_or(|state| *state == replay.state)
            && input.event_source_arn.as_ref().is_none_or(|arn| *arn == archive_arn(cloud, &replay.archive))
    });
    let replays = replays.map(|replay| (replay.name.clone(), view_replay(cloud, replay))).collect();
    page("Replays", replays, input.next_token, input.limit)
}

pub fn cancel_replay(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: OneReplay = read_input(input)?;
    let replay = find_replay(cloud, &input.replay_name)?;
    if replay.ended_ms.is_some() || replay.state == "CANCELLING" {
        let message = format!("Replay {} is not in a valid state for this operation.", replay.name);
        return Err(AwsError::client("IllegalStatusException", message));
    }
    // The replay's own task sees it before its next step.
    cloud.store.write(|tx| {
        tx.execute(
            "UPDATE events_replays SET state = 'CANCELLING' WHERE name = ?1 AND ended_ms IS NULL",
            [&replay.name],
        )
    })?;
    Ok(json!({ "ReplayArn": replay_arn(cloud, &replay.name), "State": "CANCELLING" }))
}
