//! Actions on log groups.

use std::collections::BTreeMap;

use cloud_core::api::with_token;
use cloud_core::{AwsError, Cloud};
use rusqlite::params;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{already_exists, find_group, invalid, page};
use crate::logs::names::{check_group, check_retention, group_arn, group_name};
use crate::logs::store;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Create {
    log_group_name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    log_group_class: Option<String>,
}

pub fn create(cloud: &Cloud, input: Create) -> Result<Value, AwsError> {
    check_group(&input.log_group_name).map_err(invalid)?;
    if input.log_group_class.as_deref().is_some_and(|class| class != store::STANDARD) {
        return Err(invalid("Only the log group class STANDARD is emulated by the local cloud."));
    }
    let tags = json!(input.tags).to_string();
    let now_ms = cloud.clock.now_ms();
    let new = cloud.store.write(|tx| store::create_group(tx, &input.log_group_name, now_ms, &tags))?;
    if new { Ok(json!({})) } else { Err(already_exists("log group")) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OneGroup {
    log_group_name: String,
}

pub fn delete(cloud: &Cloud, input: OneGroup) -> Result<Value, AwsError> {
    let group = find_group(cloud, &input.log_group_name)?;
    cloud.store.write(|tx| tx.execute("DELETE FROM log_groups WHERE id = ?1", [group.id]))?;
    cloud.state::<store::Ids>().clear();
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PutRetention {
    log_group_name: String,
    retention_in_days: i64,
}

pub fn put_retention(cloud: &Cloud, input: PutRetention) -> Result<Value, AwsError> {
    check_retention(input.retention_in_days).map_err(invalid)?;
    set_retention(cloud, &input.log_group_name, Some(input.retention_in_days))
}

pub fn delete_retention(cloud: &Cloud, input: OneGroup) -> Result<Value, AwsError> {
    set_retention(cloud, &input.log_group_name, None)
}

fn set_retention(cloud: &Cloud, group: &str, days: Option<i64>) -> Result<Value, AwsError> {
    let group = find_group(cloud, group)?;
    cloud.store.write(|tx| {
        tx.execute("UPDATE log_groups SET retention_days = ?2 WHERE id = ?1", params![group.id, days])
    })?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Describe {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
    log_group_class: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    account_identifiers: Option<Vec<String>>,
    /// No effect here: no account is linked.
    #[serde(rename = "includeLinkedAccounts")]
    _include_linked_accounts: Option<bool>,
}

impl Describe {
    fn check(&self) -> Result<(), AwsError> {
        let (prefix, pattern) = (self.log_group_name_prefix.is_some(), self.log_group_name_pattern.is_some());
        if prefix && pattern {
            return Err(invalid(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        if (prefix || pattern) && self.log_group_identifiers.is_some() {
            return Err(invalid(
                "logGroupIdentifiers cannot be specified with a name prefix or a name pattern.",
            ));
        }
        Ok(())
    }

    fn wants(&self, cloud: &Cloud, group: &store::Group) -> bool {
        let contains = |pattern: &String| group.name.to_lowercase().contains(&pattern.to_lowercase());
        let is_named = |identifiers: &Vec<String>| {
            identifiers.iter().any(|identifier| group_name(identifier) == group.name)
        };
        self.account_identifiers.as_ref().is_none_or(|accounts| accounts.contains(&cloud.settings.account))
            && self.log_group_name_prefix.as_ref().is_none_or(|prefix| group.name.starts_with(prefix))
            && self.log_group_name_pattern.as_ref().is_none_or(contains)
            && self.log_group_class.as_ref().is_none_or(|class| group.class == *class)
            && self.log_group_identifiers.as_ref().is_none_or(is_named)
    }
}

pub fn describe(cloud: &Cloud, input: Describe) -> Result<Value, AwsError> {
    input.check()?;
    let mut groups = cloud.store.read(store::groups)?;
    groups.retain(|group| input.wants(cloud, group));
    let (groups, next) = page(groups, |group| &group.name, input.next_token, input.limit)?;
    let described: Result<Vec<Value>, AwsError> = groups.iter().map(|group| view(cloud, group)).collect();
    Ok(with_token(json!({ "logGroups": described? }), "nextToken", next))
}

fn view(cloud: &Cloud, group: &store::Group) -> Result<Value, AwsError> {
    store::expire(&cloud.store, group, cloud.clock.now_ms())?;
    let arn = group_arn(cloud, &group.name);
    let mut view = json!({
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": arn,
        "logGroupArn": arn.trim_end_matches(":*"),
        "logGroupClass": group.class,
        "storedBytes": cloud.store.read(|db| store::stored_bytes(db, group.id))?,
    });
    if let Some(days) = group.retention_days {
        view["retentionInDays"] = days.into();
    }
    Ok(view)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ListTags {
    resource_arn: String,
}

pub fn list_tags(cloud: &Cloud, input: ListTags) -> Result<Value, AwsError> {
    let group = find_group(cloud, group_name(&input.resource_arn))?;
    let tags: Value = serde_json::from_str(&group.tags).map_err(AwsError::internal)?;
    Ok(json!({ "tags": tags }))
}
