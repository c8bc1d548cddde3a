//! Queues and their attributes: validation, storage, deployment from the template.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Deserialize;
use serde_json::Value;

use super::fault;

/// 1 MiB, for a message and for a batch (API_SendMessage, since August 2025).
pub(super) const LARGEST_MESSAGE: usize = 1_048_576;

/// After DeleteQueue a name is barred, and after PurgeQueue another purge, for 60 seconds
/// (API_DeleteQueue, API_PurgeQueue).
pub(super) const COOL_DOWN_MS: i64 = 60_000;

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS sqs_queues (
    name TEXT PRIMARY KEY, attributes TEXT NOT NULL, tags TEXT NOT NULL,
    created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, purged_ms INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sqs_deleted_queues (name TEXT PRIMARY KEY, deleted_ms INTEGER NOT NULL) WITHOUT ROWID;";

/// Whole-number attributes: name, least, greatest, default (API_SetQueueAttributes).
const NUMBERS: [(&str, u64, u64, u64); 5] = [
    ("DelaySeconds", 0, 900, 0),
    ("MaximumMessageSize", 1_024, LARGEST_MESSAGE as u64, LARGEST_MESSAGE as u64),
    ("MessageRetentionPeriod", 60, 1_209_600, 345_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 20, 0),
    ("VisibilityTimeout", 0, 43_200, 30),
];

/// Attributes that only FIFO queues have.
const FIFO_ONLY: [&str; 4] =
    ["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"];

/// A queue; attributes are those that were set, as text.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub purged_ms: Option<i64>,
}

/// Where failed messages go, and after how many receives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Redrive {
    pub target: String,
    pub receives: u64,
}

impl Queue {
    pub fn number(&self, name: &str) -> u64 {
        let set = self.attributes.get(name).and_then(|text| text.parse().ok());
        set.or_else(|| NUMBERS.iter().find(|rule| rule.0 == name).map(|rule| rule.3)).unwrap_or_default()
    }

    /// The redrive policy; the target is a queue name.
    pub fn redrive(&self) -> Option<Redrive> {
        self.attributes.get("RedrivePolicy").and_then(|text| parse_redrive(text).ok())
    }

    /// Inserts or replaces the queue.
    pub fn save(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let json = |map| serde_json::to_string(map).unwrap_or_default();
        tx.execute("DELETE FROM sqs_deleted_queues WHERE name = ?1", [&self.name])?;
        tx.execute(
            "INSERT OR REPLACE INTO sqs_queues (name, attributes, tags, created_ms, modified_ms, purged_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                self.name,
                json(&self.attributes),
                json(&self.tags),
                self.created_ms,
                self.modified_ms,
                self.purged_ms
            ],
        )?;
        Ok(())
    }
}

/// Changes a queue that exists, in one transaction.
pub(super) fn change(cloud: &Cloud, url: &str, change: impl FnOnce(&mut Queue)) -> Result<(), AwsError> {
    let name = name_in_url(url)?;
    let known = cloud.store.write(|tx| {
        let Some(mut queue) = read(tx, name)? else { return Ok(false) };
        change(&mut queue);
        queue.save(tx)?;
        Ok(true)
    })?;
    if known { Ok(()) } else { Err(fault::no_queue()) }
}

/// The queue's address: `{endpoint}/{account}/{name}`.
pub(super) fn url(cloud: &Cloud, name: &str) -> String {
    let endpoint = cloud.endpoint_url.get().map_or("http://127.0.0.1:4566", String::as_str);
    format!("{endpoint}/{}/{name}", cloud.settings.account)
}

/// The name in a queue URL, or in any path that ends in `/{account}/{name}`.
pub(super) fn name_in_url(url: &str) -> Result<&str, AwsError> {
    let mut segments = url.trim_end_matches('/').rsplit('/');
    match (segments.next(), segments.next()) {
        (Some(name), Some(account))
            if !name.is_empty() && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Ok(name)
        }
        _ => Err(AwsError::new(
            404,
            "InvalidAddress",
            format!("The address {url} is not valid for this endpoint."),
        )),
    }
}

/// The name in a queue ARN, of whatever region and account.
pub(super) fn name_in_arn(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", _, "sqs", _, _, name] => Some(name),
        _ => None,
    }
}

/// Reads a queue by its URL.
pub(super) fn find(cloud: &Cloud, url: &str) -> Result<Queue, AwsError> {
    named(cloud, name_in_url(url)?)?.ok_or_else(fault::no_queue)
}

/// Reads a queue by its name.
pub(super) fn named(cloud: &Cloud, name: &str) -> Result<Option<Queue>, StoreError> {
    cloud.store.read(|c| read(c, name))
}

/// Reads a queue within a transaction, which is a connection.
pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<Queue>> {
    connection
        .prepare_cached(
            "SELECT name, attributes, tags, created_ms, modified_ms, purged_ms FROM sqs_queues WHERE name = ?1",
        )?
        .query_row([name], from_row)
        .optional()
}

/// Forgets the names that are barred no longer.
pub(super) fn forget_deleted(tx: &Transaction<'_>, now_ms: i64) -> rusqlite::Result<usize> {
    tx.execute("DELETE FROM sqs_deleted_queues WHERE deleted_ms < ?1", [now_ms - COOL_DOWN_MS])
}

/// Every queue, by name.
pub(super) fn all(cloud: &Cloud) -> Result<Vec<Queue>, StoreError> {
    cloud.store.read(|c| {
        c.prepare(
            "SELECT name, attributes, tags, created_ms, modified_ms, purged_ms FROM sqs_queues ORDER BY name",
        )?
        .query_map([], from_row)?
        .collect()
    })
}

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Queue> {
    let map = |text: String| serde_json::from_str(&text).unwrap_or_default();
    Ok(Queue {
        name: row.get(0)?,
        attributes: map(row.get(1)?),
        tags: map(row.get(2)?),
        created_ms: row.get(3)?,
        modified_ms: row.get(4)?,
        purged_ms: row.get(5)?,
    })
}

/// Checks attributes that a caller wants to set.
pub(super) fn validate(
    cloud: &Cloud,
    queue: &str,
    attributes: &BTreeMap<String, String>,
) -> Result<(), AwsError> {
    for (name, value) in attributes {
        let sound = match name.as_str() {
            fifo if FIFO_ONLY.contains(&fifo) => {
                return Err(fault::unsupported("FIFO queues are not emulated by the local cloud."));
            }
            "RedrivePolicy" => {
                if !value.is_empty() {
                    validate_redrive(cloud, queue, value)?;
                }
                true
            }
            "RedriveAllowPolicy" => value.is_empty() || parse_allow(value).is_some(),
            "Policy" => value.is_empty() || serde_json::from_str::<Value>(value).is_ok_and(|v| v.is_object()),
            "SqsManagedSseEnabled" => matches!(value.as_str(), "true" | "false"),
            // Encryption at rest: no effect here.
            "KmsMasterKeyId" => true,
            "KmsDataKeyReusePeriodSeconds" => value.parse().is_ok_and(|n: u64| (60..=86_400).contains(&n)),
            name => match NUMBERS.iter().find(|rule| rule.0 == name) {
                Some((_, least, greatest, _)) => {
                    value.parse().is_ok_and(|number: u64| (*least..=*greatest).contains(&number))
                }
                None => return Err(fault::attribute_name(name)),
            },
        };
        if !sound {
            return Err(fault::attribute_value(name));
        }
    }
    Ok(())
}

fn parse_redrive(text: &str) -> Result<Redrive, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy {
        dead_letter_target_arn: String,
        // CloudFormation and clients send it as number or as text.
        max_receive_count: Option<Value>,
    }
    let policy: Policy = serde_json::from_str(text).map_err(|_| "Redrive policy is not a valid JSON map.")?;
    let target = name_in_arn(&policy.dead_letter_target_arn)
        .ok_or("Invalid value for deadLetterTargetArn.")?
        .to_owned();
    // 1 to 1,000, 10 where absent (API_SetQueueAttributes).
    let receives = match policy.max_receive_count {
        None => Some(10),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    match receives {
        Some(receives) if (1..=1_000).contains(&receives) => Ok(Redrive { target, receives }),
        _ => Err("Invalid value for maxReceiveCount, must be between 1 and 1000 both incl."),
    }
}

fn validate_redrive(cloud: &Cloud, queue: &str, text: &str) -> Result<(), AwsError> {
    let refuse = |reason: &str| fault::invalid_value(text, "RedrivePolicy", reason);
    let redrive = parse_redrive(text).map_err(refuse)?;
    let Some(target) = named(cloud, &redrive.target)? else {
        return Err(refuse("Dead letter target does not exist."));
    };
    let source = cloud.arn("sqs", queue);
    match target.attributes.get("RedriveAllowPolicy").and_then(|text| parse_allow(text)) {
        Some(allowed) if !allowed.permits(&source) => {
            Err(refuse("The dead-letter queue's RedriveAllowPolicy does not allow this queue."))
        }
        _ => Ok(()),
    }
}

enum Allow {
    All,
    None,
    Queues(Vec<String>),
}

impl Allow {
    fn permits(&self, arn: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Queues(arns) => arns.iter().any(|allowed| name_in_arn(allowed) == name_in_arn(arn)),
        }
    }
}

fn parse_allow(text: &str) -> Option<Allow> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Policy {
        redrive_permission: String,
        source_queue_arns: Option<Vec<String>>,
    }
    let policy: Policy = serde_json::from_str(text).ok()?;
    match (policy.redrive_permission.as_str(), policy.source_queue_arns) {
        ("allowAll", None) => Some(Allow::All),
        ("denyAll", None) => Some(Allow::None),
        // Up to 10 source queues (API_SetQueueAttributes).
        ("byQueue", Some(arns)) if (1..=10).contains(&arns.len()) => Some(Allow::Queues(arns)),
        _ => None,
    }
}

/// Every attribute of a queue but the counts of its messages, defaults included.
pub(super) fn shown(cloud: &Cloud, queue: &Queue) -> BTreeMap<String, String> {
    let mut shown: BTreeMap<String, String> =
        NUMBERS.iter().map(|rule| (rule.0.to_owned(), queue.number(rule.0).to_string())).collect();
    shown.extend(
        queue.attributes.iter().filter(|(_, value)| !value.is_empty()).map(|(k, v)| (k.clone(), v.clone())),
    );
    // One kind of encryption at a time.
    let own = !shown.contains_key("KmsMasterKeyId");
    shown.entry("SqsManagedSseEnabled".into()).or_insert_with(|| own.to_string());
    shown.insert("QueueArn".into(), cloud.arn("sqs", &queue.name));
    shown.insert("CreatedTimestamp".into(), (queue.created_ms / 1_000).to_string());
    shown.insert("LastModifiedTimestamp".into(), (queue.modified_ms / 1_000).to_string());
    shown
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    queue_name: Option<String>,
    visibility_timeout: Option<Value>,
    message_retention_period: Option<Value>,
    receive_message_wait_time_seconds: Option<Value>,
    delay_seconds: Option<Value>,
    maximum_message_size: Option<Value>,
    redrive_policy: Option<Value>,
    redrive_allow_policy: Option<Value>,
    // Encryption at rest: shown, no effect here.
    sqs_managed_sse_enabled: Option<Value>,
    kms_master_key_id: Option<Value>,
    kms_data_key_reuse_period_seconds: Option<Value>,
    fifo_queue: Option<Value>,
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: Value,
}

/// Creates the queue, or gives an existing one the template's attributes; messages stay.
pub(super) fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let properties: Properties = resource.read()?;
    if properties.fifo_queue.as_ref().is_some_and(|fifo| text(fifo) == "true") {
        return Err(resource.refuse("Properties.FifoQueue", "FIFO queues are not emulated"));
    }
    let name = match &properties.queue_name {
        Some(name) => name.as_str(),
        None => name_in_url(&resource.physical_id)
            .map_err(|error| resource.refuse("Properties.QueueName", error.message))?,
    };
    validate_name(name).map_err(|error| resource.refuse("Properties.QueueName", error.message))?;
    let attributes: BTreeMap<String, String> = [
        ("VisibilityTimeout", properties.visibility_timeout),
        ("MessageRetentionPeriod", properties.message_retention_period),
        ("ReceiveMessageWaitTimeSeconds", properties.receive_message_wait_time_seconds),
        ("DelaySeconds", properties.delay_seconds),
        ("MaximumMessageSize", properties.maximum_message_size),
        ("RedrivePolicy", properties.redrive_policy),
        ("RedriveAllowPolicy", properties.redrive_allow_policy),
        ("SqsManagedSseEnabled", properties.sqs_managed_sse_enabled),
        ("KmsMasterKeyId", properties.kms_master_key_id),
        ("KmsDataKeyReusePeriodSeconds", properties.kms_data_key_reuse_period_seconds),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), text(&value?))))
    .collect();
    validate(cloud, name, &attributes).map_err(|error| resource.refuse("Properties", error.message))?;
    let tags = properties.tags.into_iter().flatten().map(|tag| (tag.key, text(&tag.value))).collect();
    let failed = |error: StoreError| resource.refuse("Properties", error.to_string());
    let now = cloud.clock.now_ms();
    let known = named(cloud, name).map_err(failed)?;
    let queue = Queue {
        name: name.to_owned(),
        tags,
        created_ms: known.as_ref().map_or(now, |queue| queue.created_ms),
        modified_ms: known
            .as_ref()
            .filter(|queue| queue.attributes == attributes)
            .map_or(now, |queue| queue.modified_ms),
        purged_ms: known.and_then(|queue| queue.purged_ms),
        attributes,
    };
    cloud.store.write(|tx| queue.save(tx)).map_err(failed)
}

/// CloudFormation takes numbers and booleans as text too.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// 1 to 80 letters, digits, hyphens and underscores (API_CreateQueue).
pub(super) fn validate_name(name: &str) -> Result<(), AwsError> {
    if name.ends_with(".fifo") {
        return Err(fault::unsupported("FIFO queues are not emulated by the local cloud."));
    }
    let sound = (1..=80).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if sound {
        Ok(())
    } else {
        Err(fault::invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ))
    }
}
