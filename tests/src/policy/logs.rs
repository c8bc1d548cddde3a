//! Logs: everything that logs has a log group of the template, and every log group has a retention.

use serde_json::Value;

use super::deployment::{FUNCTION, LOG_GROUP, MACHINE, list, number, texts};
use super::failures::PIPE;
use super::{Deployment, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, PROPERTIES};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "log-retention",
        holds: "every log group has a retention",
        check: retention,
        notices: &[
            Mutation::drop(CONTRACTS, "ApiLogs", "RetentionInDays"),
            Mutation::drop(PROPERTIES, "ApprovalLogGroup", "RetentionInDays"),
            Mutation::drop("web-service/template.yaml", "WebCatchAllLogGroup", "RetentionInDays"),
        ],
    },
    Rule {
        name: "log-retention-prod",
        holds: "prod keeps logs for at least a month",
        check: longer_in_prod,
        notices: &[Mutation::swap(
            CONTRACTS,
            "ApiLogs",
            "!If [RetentionByStage, !FindInMap [ByStage, !Ref Stage, LogDays], !Ref LogRetentionDays]",
            "14 # edited",
        )
        .on_prod()],
    },
    Rule {
        name: "function-logs",
        holds: "JSON logs, in a log group of the template: one that Lambda made would be kept for ever",
        check: of_functions,
        notices: &[
            Mutation::drop(CONTRACTS, "QueryFunction", "LoggingConfig"),
            Mutation::swap(PROPERTIES, "OnApprovalEndedFunction", "LogFormat: JSON", "LogFormat: Text"),
        ],
    },
    Rule {
        name: "pipe-logs",
        holds: "a pipe logs why it failed, which its dead letters do not say, in a log group of the template that \
                the service of logs may write",
        check: of_pipes,
        notices: &[
            Mutation::drop(CONTRACTS, "StatusPipe", "LogConfiguration"),
            Mutation::swap(CONTRACTS, "StatusPipe", "Level: ERROR", "Level: \"OFF\""),
            Mutation::swap(CONTRACTS, "CatchAllLogsPolicy", ",\"${StatusPipeLogs.Arn}\"", "")
                .naming("StatusPipe"),
        ],
    },
    Rule {
        name: "log-data",
        holds: "no log holds business data, on any stage: neither requests nor records nor execution data",
        check: of_data,
        notices: &[
            Mutation::swap(
                PROPERTIES,
                "ApprovalStateMachine",
                "IncludeExecutionData: false",
                "IncludeExecutionData: true",
            ),
            Mutation::swap(
                CONTRACTS,
                "Api",
                "MetricsEnabled: false",
                "DataTraceEnabled: true\n          MetricsEnabled: false",
            )
            .naming("ApiStage"),
            Mutation::swap(
                CONTRACTS,
                "Api",
                "MetricsEnabled: false",
                "LoggingLevel: INFO\n          MetricsEnabled: false",
            )
            .naming("ApiStage"),
            Mutation::swap(
                CONTRACTS,
                "StatusPipe",
                "Level: ERROR",
                "IncludeExecutionData: [ALL]\n        Level: ERROR",
            ),
        ],
    },
];

fn retention(deployment: &Deployment<'_>) -> Faults {
    deployment.each(LOG_GROUP, |group| {
        unless(
            number(&group.properties["RetentionInDays"]).is_some_and(|days| days > 0),
            "keeps its logs for ever",
        )
    })
}

fn longer_in_prod(deployment: &Deployment<'_>) -> Faults {
    deployment.each(LOG_GROUP, |group| {
        let days = number(&group.properties["RetentionInDays"]).unwrap_or(u64::MAX);
        unless(!deployment.is_prod() || days >= 30, format!("keeps logs in prod for only {days} days"))
    })
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-infrastructure-CWL.html>: the logs of
/// a pipe are delivered, and the log group's policy lets the service of deliveries in.
fn of_pipes(deployment: &Deployment<'_>) -> Faults {
    let lets_in = |arn: &str| {
        let policies = deployment.all("AWS::Logs::ResourcePolicy");
        let mut documents = policies
            .filter_map(|policy| serde_json::from_str(policy.properties["PolicyDocument"].as_str()?).ok());
        documents.any(|document: Value| {
            list(&document["Statement"]).any(|statement| {
                // Another rule checks whom else it lets in.
                let who = &statement["Principal"];
                let mut services = texts(&who["Service"]);
                (*who == "*" || services.any(|service| service == "delivery.logs.amazonaws.com"))
                    && texts(&statement["Resource"]).any(|resource| resource == arn)
            })
        })
    };
    deployment.each(PIPE, |pipe| {
        let config = &pipe.properties["LogConfiguration"];
        let group = &config["CloudwatchLogsLogDestination"]["LogGroupArn"];
        let of_template = deployment.named(LOG_GROUP, group).is_some();
        let logs = of_template && config["Level"] != "OFF" && group.as_str().is_some_and(lets_in);
        unless(logs, "does not log its failures in a log group of its own")
    })
}

fn of_functions(deployment: &Deployment<'_>) -> Faults {
    deployment.each(FUNCTION, |function| {
        let config = &function.properties["LoggingConfig"];
        let group = deployment.named(LOG_GROUP, &config["LogGroup"]);
        unless(
            group.is_some() && config["LogFormat"] == "JSON",
            "does not log as JSON into a log group of its own",
        )
    })
}

/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html>: INFO logs every
/// request, and data tracing logs the bodies.
fn of_data(deployment: &Deployment<'_>) -> Faults {
    let wrong = "logs business data";
    let is_on = |value: &Value| !value.is_null() && *value != false && *value != "false";
    let mut faults = deployment.each("AWS::ApiGateway::Stage", |stage| {
        let mut settings = list(&stage.properties["MethodSettings"]);
        let tells =
            |setting: &Value| is_on(&setting["DataTraceEnabled"]) || setting["LoggingLevel"] == "INFO";
        unless(!settings.any(tells), wrong)
    });
    faults.extend(deployment.each(PIPE, |pipe| {
        let included = &pipe.properties["LogConfiguration"]["IncludeExecutionData"];
        unless(list(included).next().is_none(), wrong)
    }));
    faults.extend(deployment.each(MACHINE, |machine| {
        unless(!is_on(&machine.properties["LoggingConfiguration"]["IncludeExecutionData"]), wrong)
    }));
    faults
}
