//! Everything that fails for good ends in a dead-letter queue: messages of a queue, events of a rule's
//! target, events of an asynchronous function, records of a stream. AWS ignores a property for this in the
//! wrong place.

use std::collections::BTreeSet;

use cloud_core::resource::Resource;
use serde_json::Value;

use super::deployment::{FUNCTION, MAPPING, QUEUE, RULE, is_true, list, number, sole, texts};
use super::queues::{self, KEPT};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, PROPERTIES, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "dead-letters",
        holds: "a dead-letter queue for every target of a rule, every queue and stream that a function reads, every \
                pipe, and every function that is called asynchronously",
        check: queue_for_everything,
        notices: &[
            Mutation::drop(CONTRACTS, "IngestQueue", "RedrivePolicy"),
            Mutation::drop(CONTRACTS, "CatchAllRule", "DeadLetterConfig"),
            Mutation::drop(CONTRACTS, "StatusPipe", "DeadLetterConfig"),
            Mutation::drop(PROPERTIES, "ContractStatusStreamMapping", "DestinationConfig"),
            Mutation::drop(PROPERTIES, "OnApprovalEndedFunction", "EventInvokeConfig"),
            Mutation::drop(PROPERTIES, "OnApprovalEndedFunction", "DestinationConfig"),
            Mutation::drop(PROPERTIES, "ApprovalRequestedRule", "DeadLetterConfig"),
            Mutation::swap(
                WEB,
                "WebCatchAllRule",
                "!GetAtt EventsDLQ.Arn",
                "arn:aws:sqs:us-east-1:111111111111:gone",
            ),
            Mutation::drop("web-service/subscriptions.yaml", "ContractStatusChangedRule", "DeadLetterConfig"),
        ],
    },
    Rule {
        name: "dead-letter-place",
        holds: "a dead-letter property stands where its type reads it",
        check: place,
        notices: &[
            Mutation::add(
                CONTRACTS,
                "CatchAllRule",
                "      DeadLetterConfig: { Arn: !GetAtt CatchAllDLQ.Arn }",
            ),
            Mutation::add(
                CONTRACTS,
                "StatusPipe",
                "      RedrivePolicy: { deadLetterTargetArn: !GetAtt StatusPipeDLQ.Arn }",
            ),
        ],
    },
    Rule {
        name: "dead-letter-senders",
        holds: "the policy of a dead-letter queue lets EventBridge send for its rules, and for no other rule",
        check: rules_may_send,
        notices: &[
            Mutation::swap(
                CONTRACTS,
                "CatchAllDLQPolicy",
                "!GetAtt CatchAllRule.Arn",
                "[!GetAtt CatchAllRule.Arn, \"arn:aws:events:us-east-1:1:rule/gone\"]",
            )
            .naming("CatchAllDLQ"),
            Mutation::swap(
                WEB,
                "EventsDLQPolicy",
                "aws:SourceArn: !Sub",
                "aws:SourceArn:\n                - arn:aws:events:*\n                - !Sub",
            )
            .naming("EventsDLQ"),
            Mutation::swap(CONTRACTS, "CatchAllDLQPolicy", "sqs:SendMessage", "sqs:ReceiveMessage")
                .naming("CatchAllRule"),
            Mutation::swap(
                CONTRACTS,
                "CatchAllDLQPolicy",
                "Action: sqs:SendMessage",
                "Action: [sqs:SendMessage, sqs:PurgeQueue]",
            )
            .naming("CatchAllDLQ"),
            Mutation::swap(
                CONTRACTS,
                "CatchAllDLQPolicy",
                "\"aws:SourceArn\": !GetAtt CatchAllRule.Arn",
                "\"aws:SourceArn\": [!GetAtt CatchAllRule.Arn, \"*\"]",
            )
            .naming("CatchAllDLQ"),
            Mutation::drop(
                PROPERTIES,
                "EventsDLQPolicy",
                "- !Sub \"arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/uni-prop",
            )
            .naming("OnApprovalEndedRule"),
            // A list of services is one service and more; a second statement lets everybody's rules in.
            Mutation::swap(
                CONTRACTS,
                "CatchAllDLQPolicy",
                "- Sid: OnlyOverTls",
                "- Effect: Allow
            Principal: { Service: [events.amazonaws.com] }
            Action: [sqs:SendMessage]
            Resource: !GetAtt CatchAllDLQ.Arn
          - Sid: OnlyOverTls",
            )
            .naming("CatchAllDLQ"),
        ],
    },
    Rule {
        name: "event-retries",
        holds: "EventBridge: retry policy on every target; a function that is called asynchronously is called again",
        check: event_retries,
        notices: &[
            Mutation::drop(CONTRACTS, "CatchAllRule", "RetryPolicy"),
            Mutation::swap(WEB, "WebCatchAllRule", "MaximumRetryAttempts: 185", "MaximumRetryAttempts: 0"),
            Mutation::swap(
                PROPERTIES,
                "OnApprovalEndedFunction",
                "MaximumRetryAttempts: 2",
                "MaximumRetryAttempts: 0",
            )
            .naming("OnApprovalEndedFunctionEventInvokeConfig"),
        ],
    },
    Rule {
        name: "stream-retries",
        holds: "streams: bounded retries and age, batches bisected on error",
        check: stream_retries,
        notices: &[
            Mutation::drop(PROPERTIES, "ContractStatusStreamMapping", "MaximumRetryAttempts"),
            Mutation::drop(PROPERTIES, "ContractStatusStreamMapping", "BisectBatchOnFunctionError"),
            Mutation::drop(CONTRACTS, "StatusPipe", "MaximumRecordAgeInSeconds"),
            Mutation::swap(CONTRACTS, "StatusPipe", "MaximumRetryAttempts: 10", "MaximumRetryAttempts: -1"),
        ],
    },
    Rule {
        name: "pipe-late",
        holds: "a pipe is made after a mapping of its stack, minutes after its own role and stream: made at once, it \
                can find neither",
        check: late,
        notices: &[
            Mutation::drop(CONTRACTS, "StatusPipe", "DependsOn"),
            Mutation::swap(CONTRACTS, "StatusPipe", "IngestMapping, ", ""),
        ],
    },
];

pub(super) const PIPE: &str = "AWS::Pipes::Pipe";
const INVOKE_CONFIG: &str = "AWS::Lambda::EventInvokeConfig";

/// In seconds. A stream keeps records for a day:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>.
const STREAM: u64 = 86_400;
/// In seconds: the defaults of EventBridge and of Lambda's own queue:
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RetryPolicy.html>,
/// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>.
const EVENT: u64 = 86_400;
const INVOCATION: u64 = 21_600;

/// <https://github.com/hashicorp/terraform-provider-aws/issues/40572>
fn late(deployment: &Deployment<'_>) -> Faults {
    deployment.each(PIPE, |pipe| {
        let after = |id: &str| {
            let mut mappings = deployment.all(MAPPING);
            mappings.any(|mapping| mapping.stack == pipe.stack && mapping.logical_id == id)
        };
        unless(texts(&deployment.written(pipe)["DependsOn"]).any(after), "is made before any mapping")
    })
}

/// The dead-letter queue of something that can fail for good.
pub(super) struct DeadLetters<'a> {
    /// The resource that can fail.
    pub source: &'a Resource,
    /// Its dead-letter queue in the deployment, if it has one.
    pub queue: Option<&'a Resource>,
    /// Seconds for which the source keeps a message.
    pub kept: u64,
}

/// Everything that can fail for good: targets of rules, queues that are polled, streams, pipes, and
/// functions that are called asynchronously.
pub(super) fn dead_letters<'a>(deployment: &Deployment<'a>) -> Vec<DeadLetters<'a>> {
    let letters = |source: &'a Resource, queue: &Value, kept| DeadLetters {
        source,
        queue: deployment.named(QUEUE, queue),
        kept,
    };
    let mut all = Vec::new();
    for rule in deployment.all(RULE) {
        for target in list(&rule.properties["Targets"]) {
            let kept = number(&target["RetryPolicy"]["MaximumEventAgeInSeconds"]).unwrap_or(EVENT);
            all.push(letters(rule, &target["DeadLetterConfig"]["Arn"], kept));
        }
    }
    for mapping in deployment.all(MAPPING) {
        all.push(match deployment.named(QUEUE, &mapping.properties["EventSourceArn"]) {
            Some(queue) => {
                let kept = number(&queue.properties["MessageRetentionPeriod"]).unwrap_or(KEPT);
                letters(queue, &queue.properties["RedrivePolicy"]["deadLetterTargetArn"], kept)
            }
            None => {
                letters(mapping, &mapping.properties["DestinationConfig"]["OnFailure"]["Destination"], STREAM)
            }
        });
    }
    for pipe in deployment.all(PIPE) {
        let stream = &pipe.properties["SourceParameters"]["DynamoDBStreamParameters"];
        all.push(letters(pipe, &stream["DeadLetterConfig"]["Arn"], STREAM));
    }
    for function in asynchronous(deployment) {
        let config = deployment
            .all(INVOKE_CONFIG)
            .find(|config| config.properties["FunctionName"] == *function.physical_id);
        let given = config.map_or(&Value::Null, |config| &config.properties);
        let kept = number(&given["MaximumEventAgeInSeconds"]).unwrap_or(INVOCATION);
        all.push(letters(function, &given["DestinationConfig"]["OnFailure"]["Destination"], kept));
    }
    all
}

/// The functions that rules call. A rule delivers into Lambda's own queue; after that, the function and not
/// the rule handles failures.
fn asynchronous<'a>(deployment: &Deployment<'a>) -> Vec<&'a Resource> {
    let targets = deployment.all(RULE).flat_map(|rule| list(&rule.properties["Targets"]));
    let called: BTreeSet<&str> = targets.filter_map(|target| target["Arn"].as_str()).collect();
    deployment.all(FUNCTION).filter(|function| called.contains(function.arn.as_str())).collect()
}

fn queue_for_everything(deployment: &Deployment<'_>) -> Faults {
    let lost = dead_letters(deployment).into_iter().filter(|letters| letters.queue.is_none());
    lost.map(|letters| Fault::of(letters.source, "loses what fails: it has no dead-letter queue")).collect()
}

/// Where each type has its dead-letter property.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html>
const PLACES: [(&str, &str); 6] = [
    (QUEUE, "RedrivePolicy.deadLetterTargetArn"),
    (RULE, "Targets.DeadLetterConfig.Arn"),
    (MAPPING, "DestinationConfig.OnFailure.Destination"),
    (INVOKE_CONFIG, "DestinationConfig.OnFailure.Destination"),
    (FUNCTION, "DeadLetterConfig.TargetArn"),
    (PIPE, "SourceParameters.DynamoDBStreamParameters.DeadLetterConfig.Arn"),
];

/// The first keys of those properties, in every known spelling.
const KEYS: [&str; 5] =
    ["RedrivePolicy", "DeadLetterConfig", "DeadLetterQueue", "OnFailure", "deadLetterTargetArn"];

fn place(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    for resource in deployment.resources() {
        let mut found = Vec::new();
        paths(&resource.properties, "", &mut found);
        let read: Vec<&str> =
            PLACES.iter().filter(|(kind, _)| resource.kind == *kind).map(|(_, path)| *path).collect();
        let ignored = found.iter().find(|path| !read.iter().any(|place| place.starts_with(path.as_str())));
        faults.extend(
            ignored.map(|path| {
                Fault::of(resource, format!("has {path}, which {} does not read", resource.kind))
            }),
        );
    }
    faults
}

/// The paths of all dead-letter properties in a value; an item of a list has the path of the list.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                if KEYS.contains(&key.as_str()) {
                    found.push(path.clone());
                }
                paths(value, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, at, found)),
        _ => {}
    }
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html>
fn rules_may_send(deployment: &Deployment<'_>) -> Faults {
    let lets_send = |statement: &Value| {
        statement["Effect"] == "Allow"
            && texts(&statement["Principal"]["Service"]).any(|service| service == "events.amazonaws.com")
            && texts(&statement["Action"]).any(|action| action == "sqs:SendMessage")
    };
    let mut faults = Faults::new();
    for queue in deployment.all(QUEUE) {
        let gives_up_to = |rule: &Resource, to: &dyn Fn(&Value) -> bool| {
            list(&rule.properties["Targets"]).any(|target| to(&target["DeadLetterConfig"]["Arn"]))
        };
        let rules: Vec<&Resource> =
            deployment.all(RULE).filter(|rule| gives_up_to(rule, &|arn| *arn == *queue.arn)).collect();
        // Another policy rule reports a rule without a dead-letter queue.
        let is_known = |source: &str| {
            let mut rules = deployment.all(RULE).filter(|rule| is_like(source, &rule.arn));
            rules.any(|rule| gives_up_to(rule, &|arn| *arn == *queue.arn || arn.is_null()))
        };
        let statements: Vec<&Value> = queues::statements(deployment, queue)
            .into_iter()
            .filter(|statement| lets_send(statement))
            .collect();
        let sources: Vec<&str> =
            statements.iter().filter_map(|statement| sources_of(statement)).flat_map(texts).collect();
        let forgotten = rules.iter().filter(|rule| !sources.iter().any(|source| is_like(source, &rule.arn)));
        faults.extend(forgotten.map(|rule| Fault::of(rule, format!("may not send to {}", queue.logical_id))));
        let complaint = if let Some(other) = sources.iter().find(|source| !is_known(source)) {
            Some(format!("lets {other} send, which is no rule that gives up to it"))
        } else if statements.iter().any(|statement| sources_of(statement).is_none()) {
            Some("lets the rules of every account send".to_owned())
        } else {
            unless(
                statements.iter().all(|statement| texts(&statement["Action"]).count() == 1),
                "lets rules do more than send",
            )
        };
        faults.extend(complaint.map(|wrong| Fault::of(queue, wrong)));
    }
    faults
}

/// The sources that a statement names, if that is its only condition.
fn sources_of(statement: &Value) -> Option<&Value> {
    let condition = &statement["Condition"];
    ["ArnEquals", "ArnLike"].iter().find_map(|operator| sole(condition, operator, "aws:SourceArn"))
}

/// Whether `arn` matches a pattern whose wildcard is at most the end of its last segment, e.g.
/// `rule/my-bus/*`.
fn is_like(pattern: &str, arn: &str) -> bool {
    let names = |start: &str| start.split_once(":rule/").is_some_and(|(_, name)| !name.is_empty());
    let like = |start: &str| arn.starts_with(start) && names(start);
    pattern == arn || pattern.strip_suffix('*').is_some_and(like)
}

fn event_retries(deployment: &Deployment<'_>) -> Faults {
    let mut faults = deployment.each(RULE, |rule| {
        let mut targets = list(&rule.properties["Targets"]).map(|target| &target["RetryPolicy"]);
        let retried = |policy: &Value| {
            number(&policy["MaximumRetryAttempts"]).is_some_and(|times| times > 0)
                && number(&policy["MaximumEventAgeInSeconds"]).is_some_and(|age| age >= 60)
        };
        unless(targets.all(retried), "does not say how often and for how long its target is tried")
    });
    // By default Lambda calls the function two more times.
    faults.extend(deployment.each(INVOKE_CONFIG, |config| {
        unless(number(&config.properties["MaximumRetryAttempts"]) != Some(0), "calls its function only once")
    }));
    faults
}

fn stream_retries(deployment: &Deployment<'_>) -> Faults {
    // The default is -1, which means for ever; it is not a number here.
    let bounded = |given: &Value| {
        number(&given["MaximumRetryAttempts"]).is_some_and(|times| times > 0)
            && number(&given["MaximumRecordAgeInSeconds"]).is_some()
    };
    let mut faults = deployment.each(MAPPING, |mapping| {
        let given = &mapping.properties;
        let is_stream = deployment.named(QUEUE, &given["EventSourceArn"]).is_none();
        let good = bounded(given) && is_true(&given["BisectBatchOnFunctionError"]);
        unless(!is_stream || good, "lets one bad record hold its shard")
    });
    faults.extend(deployment.each(PIPE, |pipe| {
        let stream = &pipe.properties["SourceParameters"]["DynamoDBStreamParameters"];
        let good = bounded(stream) && stream["OnPartialBatchItemFailure"] == "AUTOMATIC_BISECT";
        unless(good, "lets one bad record hold its shard")
    }));
    faults
}
