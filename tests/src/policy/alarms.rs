//! Alarms: whatever can go wrong without anybody calling has one, and each has somewhere to go.

use std::collections::BTreeSet;

use local_cloud::resource::Resource;
use serde_json::Value;

use super::deployment::{API, FUNCTION, MACHINE, MAPPING, QUEUE, TABLE, list, number, texts};
use super::failures::dead_letters;
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "alarm-dead-letters",
        holds: "Alarms: every dead-letter queue above 0",
        check: on_dead_letters,
        notices: &[
            Mutation::remove(CONTRACTS, "StatusPipeDLQAlarm").naming("StatusPipeDLQ"),
            Mutation::swap(WEB, "EventsDLQAlarm", "Threshold: 0", "Threshold: 10").naming("EventsDLQ"),
            Mutation::remove("properties-service/subscriptions.yaml", "SubscriptionsDLQAlarm")
                .naming("SubscriptionsDLQ"),
        ],
    },
    Rule {
        name: "alarm-age",
        holds: "Alarms: oldest message age",
        check: on_age,
        notices: &[Mutation::remove(CONTRACTS, "IngestAgeAlarm").naming("IngestQueue")],
    },
    Rule {
        name: "alarm-executions",
        holds: "Alarms: failed executions, those that timed out or were aborted included",
        check: on_failed_executions,
        notices: &[
            Mutation::remove(PROPERTIES, "ExecutionsFailedAlarm").naming(MACHINE_ID),
            Mutation::remove(PROPERTIES, "ExecutionsAbortedAlarm").naming(MACHINE_ID),
            Mutation::swap(PROPERTIES, "ExecutionsTimedOutAlarm", "Threshold: 0", "Threshold: 1000")
                .naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "alarm-long-executions",
        holds: "Alarms: long-running executions",
        check: on_long_executions,
        notices: &[Mutation::swap(
            PROPERTIES,
            "",
            "MetricName: ExecutionTime",
            "MetricName: ExecutionsStarted",
        )
        .naming(MACHINE_ID)],
    },
    Rule {
        name: "alarm-5xx",
        holds: "Alarms: 5xx",
        check: on_5xx,
        notices: &[Mutation::remove(WEB, "WebApi5xxAlarm").naming("WebApi")],
    },
    Rule {
        name: "alarm-throttles",
        holds: "Alarms: throttles of every function",
        check: on_throttles,
        notices: &[Mutation::swap(
            WEB,
            "FunctionThrottlesAlarm",
            "!Ref SearchFunction",
            "!Ref WebIngestFunction",
        )
        .naming("SearchFunction")],
    },
    Rule {
        name: "alarm-goes-somewhere",
        holds: "every alarm tells somebody, when it begins and when it is over",
        check: somewhere,
        notices: &[
            Mutation::drop(CONTRACTS, "IngestDLQAlarm", "AlarmActions"),
            Mutation::drop(PROPERTIES, "EventsDLQAlarm", "OKActions"),
        ],
    },
    Rule {
        name: "dashboard",
        holds: "a dashboard in the template of the application, with every API, queue, function, table and workflow on it",
        check: dashboard,
        notices: &[
            Mutation::swap("template.yaml", "Dashboard", "\"uni-prop-${Stage}-web-ingest\"", "\"the-queue\""),
            Mutation::swap("template.yaml", "Dashboard", "{\"widgets\": [", "{\"widgets\": "),
        ],
    },
];

const CONTRACTS: &str = "contracts-service/template.yaml";
const PROPERTIES: &str = "properties-service/template.yaml";
const WEB: &str = "web-service/template.yaml";
const MACHINE_ID: &str = "ApprovalStateMachine";

const ALARM: &str = "AWS::CloudWatch::Alarm";

/// Whether an alarm watches a metric of what one dimension names, alone or in a sum, and rings above
/// a number that is `most` or less.
fn is_watched(deployment: &Deployment<'_>, metric: (&str, &str), dimension: (&str, &str), most: u64) -> bool {
    let is_it = |given: &Value| {
        (given["Namespace"].as_str(), given["MetricName"].as_str()) == (Some(metric.0), Some(metric.1))
            && list(&given["Dimensions"])
                .any(|given| given["Name"] == dimension.0 && given["Value"] == dimension.1)
    };
    deployment.all(ALARM).map(|alarm| &alarm.properties).any(|alarm| {
        let above = match alarm["ComparisonOperator"].as_str() {
            Some("GreaterThanThreshold") => number(&alarm["Threshold"]),
            Some("GreaterThanOrEqualToThreshold") => {
                number(&alarm["Threshold"]).and_then(|from| from.checked_sub(1))
            }
            _ => None,
        };
        let is_summed = list(&alarm["Metrics"]).any(|given| given["Expression"] == "SUM(METRICS())")
            && list(&alarm["Metrics"]).any(|given| is_it(&given["MetricStat"]["Metric"]));
        above.is_some_and(|above| above <= most) && (is_it(alarm) || is_summed)
    })
}

/// The name of a queue, which its ARN ends with.
fn name(resource: &Resource) -> &str {
    resource.arn.rsplit(':').next().unwrap_or_default()
}

fn on_dead_letters(deployment: &Deployment<'_>) -> Faults {
    let mut queues: Vec<&Resource> =
        dead_letters(deployment).into_iter().filter_map(|letters| letters.queue).collect();
    queues.sort_by_key(|queue| &queue.arn);
    queues.dedup_by_key(|queue| &queue.arn);
    let unwatched = queues.into_iter().filter(|queue| {
        !is_watched(
            deployment,
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
            ("QueueName", name(queue)),
            0,
        )
    });
    unwatched.map(|queue| Fault::of(queue, "has no alarm for what is given up")).collect()
}

/// A message that is older than this waits for more than its retries.
const OLD: u64 = 3_600;

fn on_age(deployment: &Deployment<'_>) -> Faults {
    let polled = deployment
        .all(MAPPING)
        .filter_map(|mapping| deployment.named(QUEUE, &mapping.properties["EventSourceArn"]));
    let unwatched = polled.filter(|queue| {
        !is_watched(deployment, ("AWS/SQS", "ApproximateAgeOfOldestMessage"), ("QueueName", name(queue)), OLD)
    });
    unwatched.map(|queue| Fault::of(queue, "has no alarm for messages that wait too long")).collect()
}

/// More failures than this, in one look of an alarm, are not passing.
const SOME: u64 = 10;

fn on_failed_executions(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let unwatched = |metric: &&&str| {
            !is_watched(deployment, ("AWS/States", metric), ("StateMachineArn", &machine.arn), SOME)
        };
        let metrics = ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"];
        metrics.iter().find(unwatched).map(|metric| format!("has no alarm for {metric}"))
    })
}

/// <https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html>: milliseconds
fn on_long_executions(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let watched = is_watched(
            deployment,
            ("AWS/States", "ExecutionTime"),
            ("StateMachineArn", &machine.arn),
            u64::MAX,
        );
        unless(watched, "has no alarm for executions that take too long")
    })
}

fn on_5xx(deployment: &Deployment<'_>) -> Faults {
    deployment.each(API, |api| {
        let name = api.properties["Name"].as_str().unwrap_or_default();
        unless(
            is_watched(deployment, ("AWS/ApiGateway", "5XXError"), ("ApiName", name), SOME),
            "has no alarm for 5xx",
        )
    })
}

fn on_throttles(deployment: &Deployment<'_>) -> Faults {
    deployment.each(FUNCTION, |function| {
        let watched = is_watched(
            deployment,
            ("AWS/Lambda", "Throttles"),
            ("FunctionName", &function.physical_id),
            SOME,
        );
        unless(watched, "has no alarm for throttles")
    })
}

fn somewhere(deployment: &Deployment<'_>) -> Faults {
    deployment.each(ALARM, |alarm| {
        let given = &alarm.properties;
        let told = |key: &str| texts(&given[key]).any(|arn| arn.starts_with("arn:aws:sns:"));
        unless(
            told("AlarmActions") && told("OKActions") && given["ActionsEnabled"] != false,
            "rings where nobody hears it",
        )
    })
}

/// Of the application as a whole, not of a service that is deployed alone.
fn dashboard(deployment: &Deployment<'_>) -> Faults {
    let Some(root) = deployment.stacks().next().filter(|root| root.file == "template.yaml") else {
        return Faults::new();
    };
    let Some(dashboard) = deployment.all("AWS::CloudWatch::Dashboard").next() else {
        return vec![Fault {
            file: root.file.clone(),
            resource: "Resources".into(),
            wrong: "has no dashboard".into(),
        }];
    };
    let body = dashboard.properties["DashboardBody"].as_str().unwrap_or_default();
    let Ok(body) = serde_json::from_str::<Value>(body) else {
        return vec![Fault::of(dashboard, "has a body that is not JSON")];
    };
    let mut shown = BTreeSet::new();
    neighbours(&body, &mut shown);
    let is_missing = |resource: &&Resource| {
        let named = match resource.kind.as_str() {
            API => ("ApiName", resource.properties["Name"].as_str().unwrap_or_default()),
            FUNCTION => ("FunctionName", resource.physical_id.as_str()),
            MACHINE => ("StateMachineArn", resource.physical_id.as_str()),
            QUEUE => ("QueueName", name(resource)),
            TABLE => ("TableName", resource.physical_id.as_str()),
            _ => return false,
        };
        !shown.contains(&named)
    };
    let wrong = |missing: &Resource| format!("does not show {} of {}", missing.logical_id, missing.file);
    deployment.resources().filter(is_missing).map(|missing| Fault::of(dashboard, wrong(missing))).collect()
}

/// All pairs of texts that stand side by side in a list, as dimensions and their values do:
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html>.
fn neighbours<'v>(value: &'v Value, found: &mut BTreeSet<(&'v str, &'v str)>) {
    match value {
        Value::Array(items) => {
            found.extend(items.windows(2).filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?))));
            items.iter().for_each(|item| neighbours(item, found));
        }
        Value::Object(map) => map.values().for_each(|item| neighbours(item, found)),
        _ => {}
    }
}
