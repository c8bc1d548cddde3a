//! Names and ARNs of buses, rules, archives and replays.

use cloud_core::{AwsError, Cloud, api};

use super::store::{self, DEFAULT_BUS};

pub fn bus_arn(cloud: &Cloud, bus: &str) -> String {
    cloud.arn("events", &format!("event-bus/{bus}"))
}

/// The ARN of a rule; it leaves out the default bus.
pub fn rule_arn(cloud: &Cloud, bus: &str, rule: &str) -> String {
    let path = if bus == DEFAULT_BUS { rule.to_owned() } else { format!("{bus}/{rule}") };
    cloud.arn("events", &format!("rule/{path}"))
}

pub fn archive_arn(cloud: &Cloud, name: &str) -> String {
    cloud.arn("events", &format!("archive/{name}"))
}

pub fn replay_arn(cloud: &Cloud, name: &str) -> String {
    cloud.arn("events", &format!("replay/{name}"))
}

/// The bus's name, given its name or ARN; the default bus for `None`.
pub fn bus_name(name_or_arn: Option<&str>) -> String {
    let name = name_or_arn.unwrap_or(DEFAULT_BUS);
    name.split_once(":event-bus/").map_or(name, |(_, name)| name).to_owned()
}

/// The bus of this name or ARN, or `ResourceNotFoundException`.
pub fn find_bus(cloud: &Cloud, name_or_arn: Option<&str>) -> Result<store::Bus, AwsError> {
    let name = bus_name(name_or_arn);
    cloud.store.read(|db| store::bus(db, &name))?.ok_or_else(|| {
        AwsError::client("ResourceNotFoundException", format!("Event bus {name} does not exist."))
    })
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateEventBus.html>
pub fn check_bus(name: &str) -> Result<(), String> {
    if name.contains('/') {
        // Only the buses of partners have one.
        return Err("Event bus name must not contain '/'.".into());
    }
    check("name", name, 256)
}

/// Checks a name of 1 to `max_length` letters, digits and `._-`.
pub fn check(member: &str, name: &str, max_length: usize) -> Result<(), String> {
    api::check_name(member, name, 1..=max_length, "._-", "[\\.\\-_A-Za-z0-9]+")
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateArchive.html>
pub fn check_archive(name: &str) -> Result<(), String> {
    check("archiveName", name, 48)
}

/// Checks the number of days that an archive keeps events; 0 keeps them for ever.
pub fn check_retention(days: i64) -> Result<(), String> {
    api::check_number("retentionDays", days, 0..=i64::MAX)
}
