//! A queue: its name, URL and ARN, its attributes and their defaults. No I/O.

use std::collections::BTreeMap;

use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::Value;

/// 1 MiB, for a message and for a batch (API_SendMessage, since August 2025).
pub(super) const MAX_MESSAGE_BYTES: usize = 1_048_576;

/// Whole-number attributes: name, least, greatest, default (API_SetQueueAttributes).
pub(super) const NUMBERS: [(&str, u64, u64, u64); 5] = [
    ("DelaySeconds", 0, 900, 0),
    ("MaximumMessageSize", 1_024, MAX_MESSAGE_BYTES as u64, MAX_MESSAGE_BYTES as u64),
    ("MessageRetentionPeriod", 60, 1_209_600, 345_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 20, 0),
    ("VisibilityTimeout", 0, 43_200, 30),
];

#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub name: String,
    /// The attributes that were set, as text.
    pub attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub purged_ms: Option<i64>,
}

impl Queue {
    /// A whole-number attribute, or its default.
    pub fn number(&self, name: &str) -> i64 {
        let set = self.attributes.get(name).and_then(|text| text.parse().ok());
        let default = || NUMBERS.iter().find(|rule| rule.0 == name).map(|rule| rule.3 as i64);
        set.or_else(default).unwrap_or_default()
    }

    pub fn redrive(&self) -> Option<Redrive> {
        self.attributes.get("RedrivePolicy").and_then(|text| parse_redrive(text).ok())
    }

    /// Every attribute but the counts of its messages, defaults included.
    pub fn shown(&self, cloud: &Cloud) -> BTreeMap<String, String> {
        let numbers = NUMBERS.iter().map(|rule| (rule.0.to_owned(), self.number(rule.0).to_string()));
        let mut shown: BTreeMap<String, String> = numbers.collect();
        shown.extend(self.attributes.clone().into_iter().filter(|(_, value)| !value.is_empty()));
        // One kind of encryption at a time.
        let own = !shown.contains_key("KmsMasterKeyId");
        shown.entry("SqsManagedSseEnabled".into()).or_insert_with(|| own.to_string());
        shown.insert("QueueArn".into(), cloud.arn("sqs", &self.name));
        shown.insert("CreatedTimestamp".into(), (self.created_ms / 1_000).to_string());
        shown.insert("LastModifiedTimestamp".into(), (self.modified_ms / 1_000).to_string());
        shown
    }
}

/// The queue's address: `{endpoint}/{account}/{name}`.
pub(super) fn url(cloud: &Cloud, name: &str) -> String {
    let endpoint = cloud.endpoint_url.get().map_or("http://127.0.0.1:4566", String::as_str);
    format!("{endpoint}/{}/{name}", cloud.settings.account)
}

/// The name in a queue URL, or in any path that ends in `/{account}/{name}`.
pub(super) fn name_in_url(url: &str) -> Result<&str, AwsError> {
    let mut segments = url.trim_end_matches('/').rsplit('/');
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    match (segments.next(), segments.next()) {
        (Some(name), Some(account)) if !name.is_empty() && is_account(account) => Ok(name),
        _ => {
            let message = format!("The address {url} is not valid for this endpoint.");
            Err(AwsError::new(404, "InvalidAddress", message))
        }
    }
}

/// The name in a queue ARN of any region and account.
pub(super) fn name_in_arn(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", _, "sqs", _, _, name] => Some(name),
        _ => None,
    }
}

/// The redrive policy: the name of the dead-letter queue, and after how many receives a message goes there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Redrive {
    pub target: String,
    pub receives: u64,
}

pub(super) fn parse_redrive(text: &str) -> Result<Redrive, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy {
        dead_letter_target_arn: String,
        // CloudFormation and clients send it as number or as text.
        max_receive_count: Option<Value>,
    }
    let policy: Policy = serde_json::from_str(text).map_err(|_| "Redrive policy is not a valid JSON map.")?;
    let target =
        name_in_arn(&policy.dead_letter_target_arn).ok_or("Invalid value for deadLetterTargetArn.")?;
    // 1 to 1,000, 10 where absent (API_SetQueueAttributes).
    let receives = match policy.max_receive_count {
        None => Some(10),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    match receives {
        Some(receives @ 1..=1_000) => Ok(Redrive { target: target.to_owned(), receives }),
        _ => Err("Invalid value for maxReceiveCount, must be between 1 and 1000 both incl."),
    }
}

/// The sources that a dead-letter queue allows.
pub(super) enum Allow {
    All,
    None,
    Queues(Vec<String>),
}

impl Allow {
    pub fn permits(&self, arn: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Queues(arns) => arns.iter().any(|allowed| name_in_arn(allowed) == name_in_arn(arn)),
        }
    }
}

pub(super) fn parse_allow(text: &str) -> Option<Allow> {
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
