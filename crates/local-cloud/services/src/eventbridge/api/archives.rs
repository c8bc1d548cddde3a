//! Actions on archives.

use cloud_core::api::check_enum;
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{already_exists, invalid, invalid_pattern, not_found, page, seconds, with_texts};
use crate::eventbridge::names::{archive_arn, bus_arn, check_archive, check_retention, find_bus};
use crate::eventbridge::rule::parse_pattern;
use crate::eventbridge::{routing, store};

/// The archive of this name, without its expired events.
pub fn find(cloud: &Cloud, name: &str) -> Result<store::Archive, AwsError> {
    let archives = cloud.store.read(store::archives)?;
    let archive = archives.into_iter().find(|archive| archive.name == name);
    let archive = archive.ok_or_else(|| not_found("Archive", name))?;
    cloud.store.write(|tx| store::expire(tx, &archive, cloud.clock.now_ms()))?;
    Ok(archive)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Create {
    archive_name: String,
    event_source_arn: String,
    description: Option<String>,
    event_pattern: Option<String>,
    #[serde(default)]
    retention_days: i64,
}

pub fn create(cloud: &Cloud, input: Create) -> Result<Value, AwsError> {
    check_archive(&input.archive_name).map_err(invalid)?;
    check_retention(input.retention_days).map_err(invalid)?;
    let bus = find_bus(cloud, Some(&input.event_source_arn))?.name;
    if find(cloud, &input.archive_name).is_ok() {
        return Err(already_exists("Archive", &input.archive_name));
    }
    if let Some(pattern) = &input.event_pattern {
        parse_pattern(pattern).map_err(|reason| invalid_pattern(&reason))?;
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
    cloud.store.write(|tx| store::put_archive(tx, &archive))?;
    routing::forget(cloud);
    Ok(json!({
        "ArchiveArn": archive_arn(cloud, &archive.name),
        "State": "ENABLED",
        "CreationTime": seconds(archive.created_ms),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct OneArchive {
    archive_name: String,
}

pub fn delete(cloud: &Cloud, input: OneArchive) -> Result<Value, AwsError> {
    let archive = find(cloud, &input.archive_name)?;
    cloud.store.write(|tx| tx.execute("DELETE FROM events_archives WHERE name = ?1", [&archive.name]))?;
    routing::forget(cloud);
    Ok(json!({}))
}

pub fn describe(cloud: &Cloud, input: OneArchive) -> Result<Value, AwsError> {
    let archive = find(cloud, &input.archive_name)?;
    let mut view = view(cloud, &archive)?;
    view["ArchiveArn"] = archive_arn(cloud, &archive.name).into();
    Ok(with_texts(view, [("EventPattern", archive.pattern), ("Description", archive.description)]))
}

fn view(cloud: &Cloud, archive: &store::Archive) -> Result<Value, AwsError> {
    let (count, bytes) = cloud.store.read(|db| store::archive_size(db, &archive.name))?;
    Ok(json!({
        "ArchiveName": archive.name,
        "EventSourceArn": bus_arn(cloud, &archive.bus),
        "State": "ENABLED",
        "RetentionDays": archive.retention_days,
        "SizeBytes": bytes,
        "EventCount": count,
        "CreationTime": seconds(archive.created_ms),
    }))
}

/// The input of ListArchives and ListReplays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct List {
    name_prefix: Option<String>,
    event_source_arn: Option<String>,
    state: Option<String>,
    pub next_token: Option<String>,
    pub limit: Option<i64>,
}

impl List {
    /// Checks that the request has "at most one filter" of the three, and that its state is one of `states`.
    pub fn check(&self, action: &str, states: &[&str]) -> Result<(), AwsError> {
        let filters = [&self.name_prefix, &self.event_source_arn, &self.state];
        if filters.into_iter().flatten().count() > 1 {
            return Err(invalid(format!(
                "At most one filter is allowed for {action}. Use either : State, EventSourceArn, or NamePrefix."
            )));
        }
        check_enum("state", self.state.as_deref(), states).map_err(invalid)
    }

    pub fn wants(&self, name: &str, source_arn: &str, state: &str) -> bool {
        self.name_prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
            && self.event_source_arn.as_ref().is_none_or(|arn| arn == source_arn)
            && self.state.as_ref().is_none_or(|wanted| wanted == state)
    }
}

const STATES: [&str; 6] = ["ENABLED", "DISABLED", "CREATING", "UPDATING", "CREATE_FAILED", "UPDATE_FAILED"];

pub fn list(cloud: &Cloud, input: List) -> Result<Value, AwsError> {
    input.check("ListArchives", &STATES)?;
    if let Some(source) = &input.event_source_arn {
        find_bus(cloud, Some(source))?;
    }
    let mut views = Vec::new();
    for archive in cloud.store.read(store::archives)? {
        if input.wants(&archive.name, &bus_arn(cloud, &archive.bus), "ENABLED") {
            let archive = find(cloud, &archive.name)?;
            views.push((archive.name.clone(), view(cloud, &archive)?));
        }
    }
    page("Archives", views, input.next_token, input.limit)
}
