//! Queues: the settings of SQS and of the mappings that poll it, and who may send.

use std::collections::BTreeSet;

use cloud_core::resource::Resource;
use lambda_kit::redelivery::{PREDECESSOR_WAITS, RECEIVES};
use serde_json::Value;

use super::deployment::{API, FUNCTION, MAPPING, QUEUE, ROLE, is_true, list, number, sole, texts};
use super::failures::dead_letters;
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, PROPERTIES, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "queue-visibility",
        holds: "visibility >= 6 x function timeout + batch window",
        check: visibility,
        notices: &[
            Mutation::swap(CONTRACTS, "IngestQueue", "VisibilityTimeout: 60", "VisibilityTimeout: 59"),
            Mutation::swap(
                CONTRACTS,
                "IngestMapping",
                "BatchingWindowInSeconds: 0",
                "BatchingWindowInSeconds: 1",
            )
            .naming("IngestQueue"),
            Mutation::swap(
                CONTRACTS,
                "IngestMapping",
                "FunctionName: !Ref IngestFunction",
                "FunctionName: elsewhere",
            ),
            // The default is 30 seconds.
            Mutation::drop(WEB, "WebIngestQueue", "VisibilityTimeout"),
        ],
    },
    Rule {
        name: "queue-receives",
        holds: "maxReceiveCount covers waits, contention and an outage of 15 minutes",
        check: receives,
        notices: &[
            Mutation::swap(CONTRACTS, "IngestQueue", "maxReceiveCount: 35", "maxReceiveCount: 32"),
            Mutation::swap(WEB, "WebIngestQueue", "maxReceiveCount: 35", "maxReceiveCount: 1"),
        ],
    },
    Rule {
        name: "queue-waits",
        holds: "the long waits of commands last two visibility timeouts, after which a killed predecessor is delivered again",
        check: waits,
        notices: &[
            Mutation::swap(CONTRACTS, "IngestQueue", "VisibilityTimeout: 60", "VisibilityTimeout: 61"),
            Mutation::swap(WEB, "WebIngestQueue", "VisibilityTimeout: 60", "VisibilityTimeout: 90"),
        ],
    },
    Rule {
        name: "partial-batches",
        holds: "ReportBatchItemFailures on every mapping",
        check: partial_batches,
        notices: &[
            Mutation::drop(CONTRACTS, "IngestMapping", "FunctionResponseTypes"),
            Mutation::drop(PROPERTIES, "ContractStatusStreamMapping", "FunctionResponseTypes"),
        ],
    },
    Rule {
        name: "queue-concurrency",
        holds: "maximum concurrency on the mapping of a queue",
        check: concurrency,
        notices: &[Mutation::drop(WEB, "WebIngestMapping", "ScalingConfig")],
    },
    Rule {
        name: "account-concurrency",
        holds: "a new account can run 10 invocations at once, and the mappings leave 2 of them for everything else",
        check: concurrency_of_account,
        notices: &[
            Mutation::swap(CONTRACTS, "CommandConcurrency", "Default: 2", "Default: 9")
                .naming("IngestMapping"),
            Mutation::swap(
                WEB,
                "WebIngestMapping",
                "MaximumConcurrency: !Ref CommandConcurrency",
                "MaximumConcurrency: 20 # edited",
            ),
            Mutation::add(
                PROPERTIES,
                "ContractStatusStreamMapping",
                "      ParallelizationFactor: 3 # edited",
            ),
        ],
    },
    Rule {
        name: "dead-letter-retention",
        holds: "dead-letter retention longer than the source's",
        check: retention,
        notices: &[
            Mutation::swap(CONTRACTS, "IngestDLQ", "1209600", "345600"),
            Mutation::drop(CONTRACTS, "IngestDLQ", "MessageRetentionPeriod"),
            Mutation::swap(PROPERTIES, "ContractStatusStreamDLQ", "1209600", "86400"),
        ],
    },
    Rule {
        name: "queue-encryption",
        holds: "queues are encrypted",
        check: encryption,
        notices: &[
            Mutation::swap(
                CONTRACTS,
                "IngestQueue",
                "SqsManagedSseEnabled: true",
                "SqsManagedSseEnabled: false",
            ),
            Mutation::drop(PROPERTIES, "EventsDLQ", "SqsManagedSseEnabled"),
        ],
    },
    Rule {
        name: "queue-tls",
        holds: "queues are reached over TLS only",
        check: tls,
        notices: &[
            Mutation::swap(WEB, "WebIngestQueuePolicy", "\"false\"", "\"true\"").naming("WebIngestQueue"),
            Mutation::swap(
                CONTRACTS,
                "IngestQueuePolicy",
                "[!GetAtt IngestQueue.Arn, !GetAtt IngestDLQ.Arn]",
                "[!GetAtt IngestQueue.Arn]",
            )
            .naming("IngestDLQ"),
            Mutation::remove(PROPERTIES, "FunctionsDLQPolicy").naming("FunctionsDLQ"),
            // With a second condition the statement denies less.
            Mutation::swap(
                PROPERTIES,
                "FunctionsDLQPolicy",
                "\"false\" }",
                "\"false\" }, StringEquals: { \"aws:PrincipalAccount\": \"222222222222\" }",
            )
            .naming("FunctionsDLQ"),
            Mutation::swap(
                WEB,
                "WebIngestDLQPolicy",
                "\"aws:SecureTransport\": \"false\"",
                "\"aws:SecureTransport\": \"false\", \"aws:ViaAWSService\": \"true\"",
            )
            .naming("WebIngestDLQ"),
        ],
    },
    Rule {
        name: "queue-policy",
        holds: "a queue has only one policy: on AWS a later one replaces the earlier one",
        check: one_policy,
        notices: &[Mutation::swap(
            WEB,
            "WebIngestDLQPolicy",
            "[!Ref WebIngestDLQ]",
            "[!Ref WebIngestDLQ, !Ref FunctionsDLQ]",
        )
        .naming("FunctionsDLQ")],
    },
    Rule {
        name: "queue-senders",
        holds: "only the gateway's role and the operators' redrive role may send",
        check: senders,
        notices: &[
            Mutation::drop(CONTRACTS, "IngestQueuePolicy", "- Sid: OnlyTheGatewayAndARedriveSend")
                .naming("IngestQueue"),
            Mutation::swap(
                WEB,
                "WebIngestQueuePolicy",
                "[!GetAtt WebApiRole.Arn, !GetAtt RedriveRole.Arn]",
                "\"*\"",
            )
            .naming("WebIngestQueue"),
            Mutation::swap(
                WEB,
                "WebIngestQueuePolicy",
                "!GetAtt WebApiRole.Arn",
                "!GetAtt SearchFunctionRole.Arn",
            )
            .naming("WebIngestQueue"),
            Mutation::swap(
                WEB,
                "WebIngestQueuePolicy",
                "ArnNotEquals:",
                "StringEquals: { \"aws:PrincipalAccount\": \"222222222222\" }\n              ArnNotEquals:",
            )
            .naming("WebIngestQueue"),
            Mutation::swap(
                CONTRACTS,
                "IngestQueuePolicy",
                "!GetAtt RedriveRole.Arn]",
                "!GetAtt RedriveRole.Arn], \"aws:PrincipalAccount\": \"222222222222\"",
            )
            .naming("IngestQueue"),
        ],
    },
];

/// The defaults, in seconds:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>.
const VISIBILITY: u64 = 30;
pub(super) const KEPT: u64 = 345_600;

/// The mappings that poll queues of the deployment, each with its queue.
fn polled<'a>(deployment: &Deployment<'a>) -> Vec<(&'a Resource, &'a Resource)> {
    let queue_of = |mapping: &'a Resource| deployment.named(QUEUE, &mapping.properties["EventSourceArn"]);
    deployment.all(MAPPING).filter_map(|mapping| Some((mapping, queue_of(mapping)?))).collect()
}

/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>
fn visibility(deployment: &Deployment<'_>) -> Faults {
    let function = |mapping: &Resource| deployment.named(FUNCTION, &mapping.properties["FunctionName"]);
    let mut faults = deployment.each(MAPPING, |mapping| {
        unless(function(mapping).is_some(), "reads for a function that is not of the template")
    });
    for (mapping, queue) in polled(deployment) {
        let Some(function) = function(mapping) else { continue };
        let timeout = number(&function.properties["Timeout"]).unwrap_or(3);
        let window = number(&mapping.properties["MaximumBatchingWindowInSeconds"]).unwrap_or(0);
        let given = number(&queue.properties["VisibilityTimeout"]).unwrap_or(VISIBILITY);
        let least = 6 * timeout + window;
        if given < least {
            faults.push(Fault::of(
                queue,
                format!("is visible again after {given} s, and should be after {least} s"),
            ));
        }
    }
    faults
}

fn receives(deployment: &Deployment<'_>) -> Faults {
    deployment.each(QUEUE, |queue| {
        let most = number(&queue.properties.get("RedrivePolicy")?["maxReceiveCount"]).unwrap_or(0);
        unless(
            most >= RECEIVES,
            format!("gives a message up after {most} receives, and it can need {RECEIVES}"),
        )
    })
}

fn waits(deployment: &Deployment<'_>) -> Faults {
    let waited: u64 = PREDECESSOR_WAITS.iter().sum();
    let complaint = |queue: &Resource| {
        let hidden = number(&queue.properties["VisibilityTimeout"]).unwrap_or(VISIBILITY);
        unless(
            waited >= 2 * hidden,
            format!(
                "hides the message of a killed function for {hidden} s, and others wait {waited} s for it"
            ),
        )
    };
    polled(deployment)
        .into_iter()
        .filter_map(|(_, queue)| Some(Fault::of(queue, complaint(queue)?)))
        .collect()
}

fn partial_batches(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MAPPING, |mapping| {
        let reports =
            texts(&mapping.properties["FunctionResponseTypes"]).any(|kind| kind == "ReportBatchItemFailures");
        unless(reports, "fails whole batches")
    })
}

fn concurrency(deployment: &Deployment<'_>) -> Faults {
    let unbounded = polled(deployment)
        .into_iter()
        .filter(|(mapping, _)| number(&mapping.properties["ScalingConfig"]["MaximumConcurrency"]).is_none());
    unbounded.map(|(mapping, _)| Fault::of(mapping, "has no limit of concurrent invocations")).collect()
}

/// The invocations that a new account can run at once until AWS raises the limit, and those that are left for
/// reads, events and the workflow, which have no limit. That is only enough to try the application out.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>: "New AWS accounts have reduced
/// concurrency and memory quotas"; that they are 10 is seen in accounts, not documented.
const NEW_ACCOUNT: u64 = 10;
const FOR_THE_REST: u64 = 2;
/// The partitions, and so the shards, of a new on-demand table: 4,000 write units a second, 1,000 each.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html>
const SHARDS: u64 = 4;

/// The mapping of a queue runs at most its maximum of invocations at once (rule queue-concurrency checks
/// that it has one); the mapping of a stream runs its factor for each shard.
fn concurrency_of_account(deployment: &Deployment<'_>) -> Faults {
    let at_once = |mapping: &Resource| {
        let given = &mapping.properties;
        match number(&given["ScalingConfig"]["MaximumConcurrency"]) {
            Some(most) => most,
            None if given["StartingPosition"].is_null() => 0,
            None => SHARDS * number(&given["ParallelizationFactor"]).unwrap_or(1),
        }
    };
    let all: u64 = deployment.all(MAPPING).map(at_once).sum();
    let largest = deployment.all(MAPPING).max_by_key(|mapping| at_once(mapping));
    let wrong = || format!("and the others take {all} of {NEW_ACCOUNT} invocations at once");
    let too_many = largest.filter(|_| all + FOR_THE_REST > NEW_ACCOUNT);
    too_many.map(|mapping| Fault::of(mapping, wrong())).into_iter().collect()
}

fn retention(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    for letters in dead_letters(deployment) {
        let Some(queue) = letters.queue else { continue };
        let kept = number(&queue.properties["MessageRetentionPeriod"]).unwrap_or(KEPT);
        if kept <= letters.kept {
            let (source, before) = (&letters.source.logical_id, letters.kept);
            faults
                .push(Fault::of(queue, format!("keeps for {kept} s what {source} has kept for {before} s")));
        }
    }
    faults
}

fn encryption(deployment: &Deployment<'_>) -> Faults {
    deployment.each(QUEUE, |queue| {
        let given = &queue.properties;
        unless(
            is_true(&given["SqsManagedSseEnabled"]) || given["KmsMasterKeyId"].is_string(),
            "is not encrypted",
        )
    })
}

/// The policies of a queue.
fn policies<'a>(deployment: &Deployment<'a>, queue: &Resource) -> impl Iterator<Item = &'a Resource> {
    let is_of = |policy: &&Resource| texts(&policy.properties["Queues"]).any(|url| url == queue.physical_id);
    deployment.all("AWS::SQS::QueuePolicy").filter(is_of)
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
fn one_policy(deployment: &Deployment<'_>) -> Faults {
    deployment.each(QUEUE, |queue| {
        unless(policies(deployment, queue).count() < 2, "has two policies, of which only one takes effect")
    })
}

/// The statements of a queue's policies that are about this very queue.
pub(super) fn statements<'a>(deployment: &Deployment<'a>, queue: &Resource) -> Vec<&'a Value> {
    policies(deployment, queue)
        .flat_map(|policy| list(&policy.properties["PolicyDocument"]["Statement"]))
        .filter(|statement| texts(&statement["Resource"]).any(|arn| arn == queue.arn))
        .collect()
}

/// Whether a statement with this effect applies `action` to every principal.
fn is_of_all(statement: &Value, effect: &str, action: &str) -> bool {
    let principal = &statement["Principal"];
    statement["Effect"] == effect
        && (principal == "*" || principal["AWS"] == "*")
        && texts(&statement["Action"]).any(|given| given == action || given == "sqs:*")
}

fn tls(deployment: &Deployment<'_>) -> Faults {
    deployment.each(QUEUE, |queue| {
        let holds = statements(deployment, queue).into_iter().any(|statement| {
            is_of_all(statement, "Deny", "sqs:*")
                && sole(&statement["Condition"], "Bool", "aws:SecureTransport")
                    .is_some_and(|tls| tls == "false")
        });
        unless(holds, "has no policy that denies everything but TLS")
    })
}

/// The roles that a gateway assumes to call a queue.
fn gateway_roles<'a>(deployment: &Deployment<'a>) -> BTreeSet<&'a str> {
    let operations = deployment.all(API).flat_map(super::api::operations);
    operations
        .filter_map(|(_, operation)| super::api::integration(operation)["credentials"].as_str())
        .collect()
}

fn senders(deployment: &Deployment<'_>) -> Faults {
    let gateways = gateway_roles(deployment);
    let may_send = |arn: &str| {
        let role = deployment.all(ROLE).find(|role| role.arn == arn);
        role.is_some_and(|role| role.logical_id == "RedriveRole" || gateways.contains(arn))
    };
    let complaint = |queue: &Resource| {
        let statements = statements(deployment, queue);
        let denials = statements.iter().filter(|statement| is_of_all(statement, "Deny", "sqs:SendMessage"));
        let mut excepted =
            denials.filter_map(|denial| sole(&denial["Condition"], "ArnNotEquals", "aws:PrincipalArn"));
        let Some(excepted) = excepted.next() else {
            return Some("lets every principal send that a policy allows".into());
        };
        let stranger = texts(excepted).find(|arn| !may_send(arn));
        stranger.map(|arn| format!("lets {arn} send, which is neither a gateway's role nor the redrive role"))
    };
    let ingest = polled(deployment).into_iter().map(|(_, queue)| queue);
    ingest.filter_map(|queue| Some(Fault::of(queue, complaint(queue)?))).collect()
}
