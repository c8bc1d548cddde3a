//! Checks the name and the attributes that a caller gives a queue.

use std::collections::BTreeMap;

use cloud_core::api::is_name;
use cloud_core::{AwsError, Cloud};
use serde_json::Value;

use super::queue::{NUMBERS, parse_allow, parse_redrive};
use super::{fault, store};

/// Attributes that only FIFO queues have.
const FIFO_ONLY: [&str; 4] =
    ["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"];

/// 1 to 80 letters, digits, hyphens and underscores (API_CreateQueue).
pub(super) fn check_name(name: &str) -> Result<(), AwsError> {
    if name.ends_with(".fifo") {
        return Err(fault::fifo());
    }
    if name.len() > 80 || !is_name(name, "-_") {
        let message = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
        return Err(fault::invalid(message));
    }
    Ok(())
}

pub(super) fn check(
    cloud: &Cloud,
    queue: &str,
    attributes: &BTreeMap<String, String>,
) -> Result<(), AwsError> {
    for (name, value) in attributes {
        let number = |least: u64, most: u64| value.parse().is_ok_and(|n: u64| (least..=most).contains(&n));
        let sound = match name.as_str() {
            fifo if FIFO_ONLY.contains(&fifo) => return Err(fault::fifo()),
            // An empty policy removes the policy.
            "RedrivePolicy" | "RedriveAllowPolicy" | "Policy" if value.is_empty() => true,
            "RedrivePolicy" => check_redrive(cloud, queue, value).map(|()| true)?,
            "RedriveAllowPolicy" => parse_allow(value).is_some(),
            "Policy" => serde_json::from_str::<Value>(value).is_ok_and(|policy| policy.is_object()),
            "SqsManagedSseEnabled" => matches!(value.as_str(), "true" | "false"),
            // Encryption at rest: no effect here.
            "KmsMasterKeyId" => true,
            "KmsDataKeyReusePeriodSeconds" => number(60, 86_400),
            name => {
                let rule = NUMBERS.iter().find(|rule| rule.0 == name);
                let (_, least, most, _) = rule.ok_or_else(|| fault::attribute_name(name))?;
                number(*least, *most)
            }
        };
        if !sound {
            return Err(fault::attribute_value(name));
        }
    }
    Ok(())
}

fn check_redrive(cloud: &Cloud, queue: &str, text: &str) -> Result<(), AwsError> {
    let refuse = |reason: &str| fault::invalid_value(text, "RedrivePolicy", reason);
    let redrive = parse_redrive(text).map_err(refuse)?;
    let Some(target) = store::by_name(cloud, &redrive.target)? else {
        return Err(refuse("Dead letter target does not exist."));
    };
    match target.attributes.get("RedriveAllowPolicy").and_then(|text| parse_allow(text)) {
        Some(allowed) if !allowed.permits(&cloud.arn("sqs", queue)) => {
            Err(refuse("The dead-letter queue's RedriveAllowPolicy does not allow this queue."))
        }
        _ => Ok(()),
    }
}
