//! Names and ARNs of log groups, and what a group may be, in templates and API calls alike.

use cloud_core::Cloud;
use cloud_core::api::is_name;

/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>
const RETENTIONS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// The ARN as DescribeLogGroups gives it in `arn`, with `:*` at its end.
pub fn group_arn(cloud: &Cloud, name: &str) -> String {
    format!("{}:*", cloud.arn("logs", &format!("log-group:{name}")))
}

/// The group's name, given its ARN (with or without `:*`) or its name.
pub fn group_name(identifier: &str) -> &str {
    match identifier.split_once(":log-group:") {
        Some((arn, name)) if arn.starts_with("arn:") => name.trim_end_matches(":*"),
        _ => identifier,
    }
}

/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html>
pub fn check_group(name: &str) -> Result<(), String> {
    if name.starts_with("aws/") {
        return Err(format!("'{name}' is not a log group name: it can't start with aws/."));
    }
    if name.len() <= 512 && is_name(name, "_-/.#") {
        return Ok(());
    }
    Err(format!("'{name}' is not a log group name: 1 to 512 of [.-_/#A-Za-z0-9]."))
}

pub fn check_retention(days: i64) -> Result<(), String> {
    if RETENTIONS.contains(&days) {
        return Ok(());
    }
    Err(format!("{days} is not a retention period that CloudWatch Logs offers."))
}
