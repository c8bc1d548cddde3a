//! Event buses: their archives and their logs. `permissions` checks who may put events on them.

use super::deployment::LOG_GROUP;
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

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-bus-logs.html>
fn logs(deployment: &Deployment<'_>) -> Faults {
    deployment.each(BUS, |bus| {
        let config = &bus.properties["LogConfig"];
        // Events have texts of agents, which do not belong in a log.
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
