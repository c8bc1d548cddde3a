//! Event buses: what is archived, logged, and who may put events on them.

use super::deployment::{LOG_GROUP, list};
use super::{Deployment, Faults, Mutation, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "bus-archive",
        holds: "an archive per bus",
        check: archives,
        notices: &[
            Mutation::remove("contracts-service/template.yaml", "EventArchive").naming("EventBus"),
            Mutation::remove("web-service/template.yaml", "WebArchive").naming("WebEventBus"),
        ],
    },
    Rule {
        name: "bus-policy",
        holds: "the bus policy lets no other account in unless named",
        check: policies,
        notices: &[
            Mutation::swap(
                "web-service/template.yaml",
                "WebEventBusPolicy",
                "${AWS::AccountId}:root",
                "222222222222:root",
            ),
            Mutation::swap(
                "properties-service/template.yaml",
                "PropertiesEventBusPolicy",
                "Principal: { AWS: !Sub \"arn:${AWS::Partition}:iam::${AWS::AccountId}:root\" }",
                "Principal: \"*\"",
            ),
        ],
    },
    Rule {
        name: "bus-logs",
        holds: "every bus logs what it cannot deliver, without the events, to a log group",
        check: logs,
        notices: &[
            Mutation::drop("contracts-service/template.yaml", "EventBus", "LogConfig"),
            Mutation::swap("web-service/template.yaml", "WebEventBus", "NONE", "FULL"),
        ],
    },
];

const BUS: &str = "AWS::Events::EventBus";

fn archives(deployment: &Deployment<'_>) -> Faults {
    deployment.each(BUS, |bus| {
        let mut archives = deployment.all("AWS::Events::Archive");
        unless(archives.any(|archive| archive.properties["SourceArn"] == *bus.arn), "has no archive")
    })
}

fn policies(deployment: &Deployment<'_>) -> Faults {
    deployment.each("AWS::Events::EventBusPolicy", |policy| {
        // The older form, without a statement, names an account or everybody.
        let statement = policy.properties.get("Statement")?;
        let principal = &statement["Principal"];
        // The account of this stack, as the fifth part of its bus's ARN has it.
        let bus = deployment.named(BUS, &policy.properties["EventBusName"])?;
        let account = bus.arn.split(':').nth(4).unwrap_or_default();
        let own = |arn: &str| arn == account || arn.split(':').nth(4) == Some(account);
        let mut named = list(&principal["AWS"]).map(|arn| arn.as_str().unwrap_or_default());
        let is_own = principal.get("AWS").is_some() && named.all(own) && principal.as_object()?.len() == 1;
        unless(statement["Effect"] == "Deny" || is_own, "lets somebody in who is not of this account")
    })
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-bus-logs.html>
fn logs(deployment: &Deployment<'_>) -> Faults {
    deployment.each(BUS, |bus| {
        let config = &bus.properties["LogConfig"];
        // Events tell what agents wrote; whoever reads the log need not.
        if config["Level"] != "ERROR" || config["IncludeDetail"] != "NONE" {
            return Some("does not log its errors, or logs events with them".to_owned());
        }
        let source_of_bus = deployment.all("AWS::Logs::DeliverySource").find(|source| {
            source.properties["ResourceArn"] == *bus.arn && source.properties["LogType"] == "ERROR_LOGS"
        });
        let delivered = source_of_bus.is_some_and(|source| {
            let name = source.physical_id.as_str();
            let mut deliveries = deployment
                .all("AWS::Logs::Delivery")
                .filter(|delivery| delivery.properties["DeliverySourceName"] == name);
            deliveries.any(|delivery| {
                let destination = deployment
                    .named("AWS::Logs::DeliveryDestination", &delivery.properties["DeliveryDestinationArn"]);
                destination.is_some_and(|to| {
                    deployment.named(LOG_GROUP, &to.properties["DestinationResourceArn"]).is_some()
                })
            })
        });
        unless(delivered, "has no log group to which its errors are delivered")
    })
}
