//! Alarms: every failure that no client sees has an alarm, and every alarm notifies a topic.

use std::collections::BTreeSet;

use cloud_core::resource::Resource;
use serde_json::Value;

use super::deployment::{API, FUNCTION, MACHINE, MAPPING, QUEUE, TABLE, is_true, list, number, texts};
use super::failures::dead_letters;
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, PROPERTIES, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "alarm-dead-letters",
        holds: "Alarms: every dead-letter queue above 0",
        check: on_dead_letters,
        notices: &[
            Mutation::remove(CONTRACTS, "StatusPipeDLQAlarm").naming("StatusPipeDLQ"),
            Mutation::swap(WEB, "EventsDLQAlarm", "Threshold: 0", "Threshold: 10").naming("EventsDLQ"),
            Mutation::swap(WEB, "EventsDLQAlarm", "Statistic: Maximum", "Statistic: Minimum")
                .naming("EventsDLQ"),
            Mutation::swap(WEB, "EventsDLQAlarm", "EvaluationPeriods: 1", "EvaluationPeriods: 60")
                .naming("EventsDLQ"),
            // No metric has these two dimensions: it never rings.
            Mutation::swap(
                WEB,
                "EventsDLQAlarm",
                "Dimensions:",
                "Dimensions:\n        - { Name: Stage, Value: !Ref Stage }",
            )
            .naming("EventsDLQ"),
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
        notices: &[
            Mutation::swap(PROPERTIES, "", "MetricName: ExecutionTime", "MetricName: ExecutionsStarted")
                .naming(MACHINE_ID),
            // 31 days: the workflow has ended by then.
            Mutation::swap(
                PROPERTIES,
                "ExecutionsLongAlarm",
                "Threshold: 2160000000",
                "Threshold: 2678400000",
            )
            .naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "alarm-5xx",
        holds: "Alarms: 5xx",
        check: on_5xx,
        notices: &[
            Mutation::remove(WEB, "WebApi5xxAlarm").naming("WebApi"),
            Mutation::swap(
                WEB,
                "WebApi5xxAlarm",
                "Name: Stage, Value: !Ref Stage",
                "Name: Stage, Value: gone",
            )
            .naming("WebApi"),
        ],
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
        name: "alarm-sums",
        holds: "an alarm over several metrics looks at their sum",
        check: of_sums,
        notices: &[
            Mutation::swap(
                CONTRACTS,
                "FunctionThrottlesAlarm",
                "Expression: SUM(METRICS())",
                "Expression: SUM(METRICS())\n          ReturnData: false",
            ),
            Mutation::drop(CONTRACTS, "StatusPipeFailedAlarm", "ReturnData"),
        ],
    },
    Rule {
        name: "alarm-goes-somewhere",
        holds: "every alarm notifies a topic when it begins and when it ends",
        check: somewhere,
        notices: &[
            Mutation::drop(CONTRACTS, "IngestDLQAlarm", "AlarmActions"),
            Mutation::drop(PROPERTIES, "EventsDLQAlarm", "OKActions"),
            Mutation::add(PROPERTIES, "EventsDLQAlarm", "      ActionsEnabled: \"false\""),
            Mutation::swap(
                CONTRACTS,
                "IngestDLQAlarm",
                "[HasAlarmTopic, [!Ref AlarmTopicArn]",
                "[HasAlarmTopic, [\"arn:aws:sns:us-east-1:222222222222:gone\"]",
            ),
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

const MACHINE_ID: &str = "ApprovalStateMachine";

const ALARM: &str = "AWS::CloudWatch::Alarm";

/// An alarm that waits for more periods than this is late.
const LOOKS: u64 = 5;

/// Whether an alarm watches a metric with these dimensions and no others, alone or in a sum, and soon
/// rings above a number that is `most` or less. With one dimension more it would be another metric:
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html>.
fn is_watched(
    deployment: &Deployment<'_>,
    metric: (&str, &str),
    dimensions: &[(&str, &str)],
    most: u64,
) -> bool {
    let expected: BTreeSet<(&str, &str)> = dimensions.iter().copied().collect();
    let is_it = |given: &Value, statistic: &Value| {
        let pairs = list(&given["Dimensions"]);
        let pairs = pairs.filter_map(|pair| Some((pair["Name"].as_str()?, pair["Value"].as_str()?)));
        (given["Namespace"].as_str(), given["MetricName"].as_str()) == (Some(metric.0), Some(metric.1))
            && pairs.collect::<BTreeSet<_>>() == expected
            && (statistic == "Maximum" || statistic == "Sum")
    };
    deployment.all(ALARM).map(|alarm| &alarm.properties).any(|alarm| {
        let above = match alarm["ComparisonOperator"].as_str() {
            Some("GreaterThanThreshold") => number(&alarm["Threshold"]),
            Some("GreaterThanOrEqualToThreshold") => {
                number(&alarm["Threshold"]).and_then(|from| from.checked_sub(1))
            }
            _ => None,
        };
        let soon = number(&alarm["EvaluationPeriods"]).is_some_and(|looks| (1..=LOOKS).contains(&looks));
        let is_summed = list(&alarm["Metrics"]).any(is_sum)
            && list(&alarm["Metrics"]).any(|given| {
                let stat = &given["MetricStat"];
                is_it(&stat["Metric"], &stat["Stat"])
            });
        above.is_some_and(|above| above <= most) && soon && (is_it(alarm, &alarm["Statistic"]) || is_summed)
    })
}

fn is_sum(metric: &Value) -> bool {
    metric["Expression"] == "SUM(METRICS())"
}

/// CloudWatch looks at the metric that returns data, which is the default for each metric:
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html>.
fn of_sums(deployment: &Deployment<'_>) -> Faults {
    let returns = |metric: &Value| metric.get("ReturnData").is_none_or(is_true);
    deployment.each(ALARM, |alarm| {
        let mut metrics = list(&alarm.properties["Metrics"]);
        unless(
            metrics.all(|metric| returns(metric) == is_sum(metric)),
            "does not look at the sum of its metrics",
        )
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
            &[("QueueName", name(queue))],
            0,
        )
    });
    unwatched.map(|queue| Fault::of(queue, "has no alarm for its messages")).collect()
}

/// In seconds. Retries alone do not make a message older than this.
const OLD: u64 = 3_600;

fn on_age(deployment: &Deployment<'_>) -> Faults {
    let polled = deployment
        .all(MAPPING)
        .filter_map(|mapping| deployment.named(QUEUE, &mapping.properties["EventSourceArn"]));
    let unwatched = polled.filter(|queue| {
        !is_watched(
            deployment,
            ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
            &[("QueueName", name(queue))],
            OLD,
        )
    });
    unwatched.map(|queue| Fault::of(queue, "has no alarm for messages that wait too long")).collect()
}

/// More failures than this in one period do not go away by themselves.
const SOME: u64 = 10;

fn on_failed_executions(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let unwatched = |metric: &&&str| {
            !is_watched(deployment, ("AWS/States", metric), &[("StateMachineArn", &machine.arn)], SOME)
        };
        let metrics = ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"];
        metrics.iter().find(unwatched).map(|metric| format!("has no alarm for {metric}"))
    })
}

/// Milliseconds, 30 days: the workflow itself ends a day later.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html>
const LONG: u64 = 2_592_000_000;

fn on_long_executions(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let watched = is_watched(
            deployment,
            ("AWS/States", "ExecutionTime"),
            &[("StateMachineArn", &machine.arn)],
            LONG,
        );
        unless(watched, "has no alarm for executions that take too long")
    })
}

fn on_5xx(deployment: &Deployment<'_>) -> Faults {
    deployment.each(API, |api| {
        let name = api.properties["Name"].as_str().unwrap_or_default();
        let of_api = deployment
            .all("AWS::ApiGateway::Stage")
            .filter(|stage| stage.properties["RestApiId"] == *api.physical_id);
        let mut names = of_api.map(|stage| stage.properties["StageName"].as_str().unwrap_or_default());
        let is_seen = |stage| {
            let dimensions = [("ApiName", name), ("Stage", stage)];
            is_watched(deployment, ("AWS/ApiGateway", "5XXError"), &dimensions, SOME)
        };
        unless(names.all(is_seen), "has no alarm for 5xx")
    })
}

fn on_throttles(deployment: &Deployment<'_>) -> Faults {
    deployment.each(FUNCTION, |function| {
        let watched = is_watched(
            deployment,
            ("AWS/Lambda", "Throttles"),
            &[("FunctionName", &function.physical_id)],
            SOME,
        );
        unless(watched, "has no alarm for throttles")
    })
}

fn somewhere(deployment: &Deployment<'_>) -> Faults {
    let given = deployment.application.root().and_then(|root| root.parameters.get("AlarmTopicArn"));
    let is_known = |topic: &str| {
        given.is_some_and(|given| given == topic)
            || deployment.all("AWS::SNS::Topic").any(|known| known.physical_id == topic)
    };
    deployment.each(ALARM, |alarm| {
        let given = &alarm.properties;
        let notifies = |key: &str| texts(&given[key]).any(is_known);
        let enabled = given.get("ActionsEnabled").is_none_or(is_true);
        unless(
            notifies("AlarmActions") && notifies("OKActions") && enabled,
            "does not notify the topic of alarms",
        )
    })
}

/// Only the template of the whole application has a dashboard.
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

/// All pairs of neighbouring texts in lists, as a dimension and its value are:
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
