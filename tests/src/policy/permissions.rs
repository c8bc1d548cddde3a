//! IAM, as far as a template shows it: one role for each function, no wildcard without a reason, no access
//! from outside. `tests/permissions.rs` compares roles with recorded calls.

use std::collections::BTreeSet;

use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::api::{integration, operations};
use super::deployment::{API, FUNCTION, MACHINE, ROLE, RULE, list, texts};
use super::failures::PIPE;
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, PROPERTIES, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "own-role",
        holds: "IAM: one role per function",
        check: own_role,
        notices: &[
            Mutation::swap(CONTRACTS, "QueryFunction", POLICIES, "Role: !GetAtt IngestFunctionRole.Arn")
                .naming("IngestFunctionRole"),
            Mutation::swap(
                CONTRACTS,
                "QueryFunction",
                POLICIES,
                "Role: arn:aws:iam::123456789012:role/of-all",
            ),
        ],
    },
    Rule {
        name: "wildcard-resource",
        holds: "IAM: no * in a resource without a reason",
        check: wildcard_resource,
        notices: &[
            Mutation::swap(
                CONTRACTS,
                "QueryFunction",
                "Resource: [!GetAtt ContractsTable.Arn, !GetAtt CommandsTable.Arn]",
                "Resource: \"*\"",
            )
            .naming("QueryFunctionRole"),
            Mutation::swap(WEB, "WebApiRole", "Resource: !GetAtt WebIngestQueue.Arn", "Resource: \"*\""),
            Mutation::swap(
                WEB,
                "SearchFunction",
                "Resource: !GetAtt ListingsTable.Arn",
                "Resource: !Sub \"arn:${AWS::Partition}:dynamodb:*:*:table/*\"",
            )
            .naming("SearchFunctionRole"),
            Mutation::swap(
                WEB,
                "SearchFunction",
                "Resource: !GetAtt ListingsTable.Arn",
                "Resource: !Sub \"${ListingsTable.Arn}?\"",
            )
            .naming("SearchFunctionRole"),
            Mutation::swap(
                WEB,
                "SearchFunction",
                "Resource: !GetAtt ListingsTable.Arn",
                "Resource: !Sub \"arn:${AWS::Partition}:logs:*\"",
            )
            .naming("SearchFunctionRole"),
            Mutation::swap(
                WEB,
                "SearchFunction",
                "Resource: !GetAtt ListingsTable.Arn",
                "Resource: !Sub \"arn:${AWS::Partition}:s3:::/*\"",
            )
            .naming("SearchFunctionRole"),
            Mutation::swap(
                PROPERTIES,
                "OnApprovalEndedFunction",
                ":execution:${ApprovalStateMachine.Name}:*",
                ":*",
            )
            .naming("OnApprovalEndedFunctionRole"),
            Mutation::swap(
                PROPERTIES,
                "OnApprovalEndedFunction",
                ":execution:${ApprovalStateMachine.Name}:*",
                ":execution:*:*",
            )
            .naming("OnApprovalEndedFunctionRole"),
            Mutation::swap(ACCOUNT, "CloudFormationRole", ":table/uni-prop-${Stage}-*", ":table/*"),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "- lambda:DeleteEventSourceMapping",
                "- iam:PassRole",
            ),
            Mutation::swap(ACCOUNT, "CloudFormationRole", ":table/uni-prop-", ":table/*-uni-prop-"),
            Mutation::swap(ACCOUNT, "CloudFormationRole", ":dynamodb:${AWS::Region}:", ":dynamodb:*:"),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                ":sqs:${AWS::Region}:${AWS::AccountId}:",
                ":sqs:${AWS::Region}:*:",
            ),
        ],
    },
    Rule {
        name: "wildcard-action",
        holds: "IAM: no * in an action that is allowed",
        check: wildcard_action,
        notices: &[
            Mutation::swap(CONTRACTS, "QueryFunction", "Action: dynamodb:GetItem", "Action: dynamodb:*")
                .naming("QueryFunctionRole"),
            Mutation::swap(WEB, "WebApiRole", "Action: sqs:SendMessage", "Action: \"*\""),
            Mutation::swap(WEB, "WebApiRole", "Action: sqs:SendMessage", "Action: sqs:?endMessage"),
            Mutation::swap(WEB, "WebApiRole", "Action: sqs:SendMessage", "NotAction: sqs:DeleteQueue"),
            Mutation::swap(
                ACCOUNT,
                "DeployRole",
                "Action: cloudformation:GetTemplateSummary",
                "Action: cloudformation:*",
            ),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "[cloudformation:*, ",
                "[cloudformation:*, iam:*, ",
            ),
        ],
    },
    Rule {
        name: "managed-policies",
        holds: "IAM: of AWS's managed policies, only those of a fixed list: logs and traces",
        check: managed_policies,
        notices: &[Mutation::swap(
            CONTRACTS,
            "QueryFunction",
            "Policies:",
            "Policies:\n        - arn:aws:iam::aws:policy/AmazonDynamoDBFullAccess",
        )
        .naming("QueryFunctionRole")],
    },
    Rule {
        name: "trust",
        holds: "IAM: a role is taken on by the one service that uses it, CloudFormation's on no condition; a redrive role by this account; one for \
                GitHub by the jobs of one environment of one repository",
        check: trust,
        notices: &[
            Mutation::swap(
                WEB,
                "WebApiRole",
                "Principal: { Service: apigateway.amazonaws.com }",
                "Principal: \"*\"",
            ),
            Mutation::swap(
                CONTRACTS,
                "StatusPipeRole",
                "Principal: { Service: pipes.amazonaws.com }",
                "Principal: { AWS: \"222222222222\" }",
            ),
            Mutation::swap(
                CONTRACTS,
                "StatusPipeRole",
                "Principal: { Service: pipes.amazonaws.com }",
                "Principal: { AWS: !Sub \"arn:${AWS::Partition}:iam::${AWS::AccountId}:root\" }",
            ),
            Mutation::swap(CONTRACTS, "StatusPipeRole", "pipes.amazonaws.com", "ec2.amazonaws.com"),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "cloudformation.amazonaws.com",
                "ec2.amazonaws.com",
            ),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "            Action: sts:AssumeRole\n",
                "            Action: sts:AssumeRole
            Condition: { StringEquals: { \"aws:SourceAccount\": !Ref AWS::AccountId } }\n",
            ),
            Mutation::drop(ACCOUNT, "DeployRole", "token.actions.githubusercontent.com:sub"),
            Mutation::drop(ACCOUNT, "DeployRole", "token.actions.githubusercontent.com:aud"),
            Mutation::swap(ACCOUNT, "DeployRole", "StringEquals:", "StringLike:"),
            Mutation::swap(
                ACCOUNT,
                "DeployRole",
                "!Sub repo:${GitHubRepository}:environment:${Stage}",
                "repo:*",
            ),
        ],
    },
    Rule {
        name: "strangers",
        holds: "the bus policy lets no other account in unless named, nor does the policy of any other resource; \
                a service is let in for this account only",
        check: strangers,
        notices: &[
            Mutation::swap(WEB, "WebEventBusPolicy", "${AWS::AccountId}:root", "222222222222:root"),
            Mutation::swap(
                WEB,
                "WebEventBusPolicy",
                "Statement:",
                "Action: events:PutEvents\n      Principal: \"*\"\n      Unread:",
            ),
            Mutation::swap(
                PROPERTIES,
                "EventsDLQPolicy",
                "Statement:",
                "Statement:
          - { Effect: Allow, Principal: \"*\", Action: sqs:SendMessage, Resource: !GetAtt EventsDLQ.Arn }",
            ),
            Mutation::swap(
                CONTRACTS,
                "CatchAllLogsPolicy",
                "\"Principal\":{\"Service\":[\"events.amazonaws.com\",\"delivery.logs.amazonaws.com\"]}",
                "\"Principal\":\"*\"",
            ),
            Mutation::swap(
                "template.yaml",
                "AlarmTopicPolicy",
                "Principal: { Service",
                "NotPrincipal: { Service",
            ),
            Mutation::add(
                WEB,
                "WebEventBus",
                "      Policy: { Statement: { Effect: Allow, Principal: \"*\", Action: events:PutEvents } }",
            ),
            Mutation::add(
                WEB,
                "ListingsTable",
                "      ResourcePolicy:
        PolicyDocument: { Statement: [{ Effect: Allow, Principal: \"*\", Action: dynamodb:GetItem }] }",
            ),
            Mutation::swap(
                PROPERTIES,
                "EventsDLQPolicy",
                "Statement:",
                "Statement:
          - Effect: Allow
            Principal: { Service: events.amazonaws.com }
            Action: sqs:ReceiveMessage
            Resource: !GetAtt EventsDLQ.Arn",
            ),
            Mutation::drop("template.yaml", "AlarmTopicPolicy", "StringEquals"),
            Mutation::swap("template.yaml", "AlarmTopicPolicy", "!Ref AWS::AccountId", "\"222222222222\""),
        ],
    },
    Rule {
        name: "boundary",
        holds: "IAM: every role of the application takes the permissions boundary that the deployment gives, and \
                none where it gives none",
        check: boundary,
        notices: &[
            Mutation::drop(CONTRACTS, "ApiRole", "PermissionsBoundary"),
            Mutation::drop(WEB, "RedriveRole", "PermissionsBoundary"),
            Mutation::drop(PROPERTIES, "ApprovalStateMachine", "PermissionsBoundary")
                .naming("ApprovalStateMachineRole"),
            Mutation::drop("web-service/subscriptions.yaml", "SubscriptionRole", "PermissionsBoundary"),
            Mutation::add(
                WEB,
                "SearchFunction",
                "      PermissionsBoundary: arn:aws:iam::123456789012:policy/another",
            )
            .naming("SearchFunctionRole"),
        ],
    },
    Rule {
        name: "boundary-kept",
        holds: "IAM: who deploys makes roles and gives them rights only within the boundary, which it can neither \
                take off nor change",
        check: boundary_kept,
        notices: &[
            Mutation::drop(ACCOUNT, "CloudFormationRole", "StringEquals: { \"iam:PermissionsBoundary\""),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "\"iam:PermissionsBoundary\": !Ref BoundaryPolicy",
                "\"iam:PermissionsBoundary\": \"*\"",
            ),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "[iam:DeleteRole, ",
                "[iam:DeleteRole, iam:PutRolePolicy, ",
            ),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "[iam:DeleteRole, ",
                "[iam:DeleteRole, iam:DeleteRolePermissionsBoundary, ",
            ),
            Mutation::swap(
                ACCOUNT,
                "CloudFormationRole",
                "[iam:DeleteRole, ",
                "[iam:DeleteRole, iam:CreatePolicyVersion, ",
            ),
        ],
    },
    Rule {
        name: "handlers",
        holds: "IAM: who deploys may do everywhere what takes no resource: named resources alone never match",
        check: handlers,
        notices: &[
            Mutation::drop(ACCOUNT, "CloudFormationRole", "- events:PutPermission"),
            Mutation::drop(ACCOUNT, "CloudFormationRole", "- logs:DescribeIndexPolicies"),
            Mutation::drop(ACCOUNT, "CloudFormationRole", "- sns:Unsubscribe"),
        ],
    },
    Rule {
        name: "invocation",
        holds: "IAM: a function is called from the one source that its permission names",
        check: invocation,
        notices: &[Mutation::drop(WEB, "SearchPermission", "SourceArn")],
    },
];

const ACCOUNT: &str = "account.yaml";

/// The policies of a function, as they are written.
const POLICIES: &str = "Policies:
        - Version: \"2012-10-17\"
          Statement:
            - Effect: Allow
              Action: dynamodb:GetItem
              Resource: [!GetAtt ContractsTable.Arn, !GetAtt CommandsTable.Arn]";

/// The actions that may stand beside `Resource: "*"`. Source of each: the Service Authorization
/// Reference, whose column "Resource types" is empty for them, unless something else is said;
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>.
const WITHOUT_RESOURCE: [(&str, &str); 16] = [
    ("comprehend:DetectSentiment", "a text is no resource"),
    ("dynamodb:ListStreams", "lists all streams; a pipe looks for its table's"),
    ("logs:CreateLogDelivery", "Step Functions delivers its log"),
    ("logs:DeleteLogDelivery", "as above"),
    ("logs:DescribeLogGroups", "as above; Step Functions looks through all groups"),
    ("logs:DescribeResourcePolicies", "as above"),
    ("logs:GetLogDelivery", "as above"),
    ("logs:ListLogDeliveries", "as above"),
    ("logs:PutResourcePolicy", "as above"),
    ("logs:UpdateLogDelivery", "as above"),
    ("rekognition:DetectModerationLabels", "its one resource is a model of one's own, and none is used"),
    ("xray:GetSamplingRules", "traces are no resources"),
    ("xray:GetSamplingStatisticSummaries", "as above"),
    ("xray:GetSamplingTargets", "as above"),
    ("xray:PutTelemetryRecords", "as above"),
    ("xray:PutTraceSegments", "as above"),
];

/// The roles that deploy a whole stage, in `account.yaml`, and the boundary of the roles that they make.
/// They may have every action of a service and patterns of these names, since they make what bears them;
/// never all resources. Each with its service and how its last part begins.
const DEPLOYERS: [&str; 3] = ["BoundaryPolicy", "CloudFormationRole", "DeployRole"];
#[rustfmt::skip]
const THEIR_NAMES: [(&str, &str, &str); 31] = [
    ("apigateway", "/restapis/", "APIs, their stages and deployments have ids, no names"),
    ("apigateway", "/tags/", "as above"),
    ("cloudformation", "stack/aws-sam-cli-managed-default/", "SAM's own stack, with the bucket for artefacts"),
    ("cloudformation", "stack/uni-prop-{Stage}", "what is called after application and stage"),
    ("cloudformation", "transform/", "SAM's transform"),
    ("cloudwatch", "alarm:uni-prop-{Stage}", "called after the stage"),
    ("dynamodb", "table/uni-prop-{Stage}-", "called after the stage"),
    ("events", "*/unicorn-", "buses, their rules and archives"),
    ("events", "event-bus/unicorn-", "buses"),
    ("events", "rule/uni-prop-{Stage}-", "called after the stage"),
    ("iam", "role/aws-service-role/ops.apigateway.amazonaws.com/", "API Gateway's own role"),
    ("iam", "role/uni-prop-{Stage}/", "roles below the path of the stage"),
    ("lambda", "function:uni-prop-{Stage}-", "called after the stage"),
    ("logs", "delivery-destination:unicorn-", "logs of buses"),
    ("logs", "delivery-source:unicorn-", "logs of buses"),
    ("logs", "log-group:/aws/apigateway/uni-prop-{Stage}-", "access logs"),
    ("logs", "log-group:/aws/events/{Stage}/unicorn-", "all events of a bus"),
    ("logs", "log-group:/aws/lambda/uni-prop-{Stage}-", "logs of functions"),
    ("logs", "log-group:/aws/vendedlogs/events/event-bus/unicorn-contracts-eventbus-{Stage}", "errors of a bus"),
    ("logs", "log-group:/aws/vendedlogs/events/event-bus/unicorn-properties-eventbus-{Stage}", "as above"),
    ("logs", "log-group:/aws/vendedlogs/events/event-bus/unicorn-web-eventbus-{Stage}", "as above"),
    ("logs", "log-group:/aws/vendedlogs/pipes/uni-prop-{Stage}-", "errors of a pipe"),
    ("logs", "log-group:/aws/vendedlogs/states/uni-prop-{Stage}-", "logs of workflows"),
    ("pipes", "pipe/uni-prop-{Stage}-", "called after the stage"),
    ("s3", "aws-sam-cli-managed-default-", "SAM's bucket for artefacts"),
    ("s3", "uni-prop-{Stage}-images-", "called after the stage"),
    ("schemas", "*/unicorn-", "registries and their schemas"),
    ("sns", "uni-prop-{Stage}-", "called after the stage"),
    ("sqs", "uni-prop-{Stage}-", "called after the stage"),
    ("states", "execution:uni-prop-{Stage}-", "called after the state machine"),
    ("states", "stateMachine:uni-prop-{Stage}-", "called after the stage"),
];
/// Services whose ARNs have no region, or no account:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>.
const GLOBAL: [&str; 2] = ["iam", "s3"];
const WITHOUT_ACCOUNT: [&str; 2] = ["apigateway", "s3"];

/// Their statements about all resources. Actions in these have no wildcard.
const OF_DEPLOYERS: [(&str, &str); 2] = [
    ("NoResourcesKnown", "actions without a resource, or whose resources have ids that nobody knows before"),
    ("ReadTemplates", "a template that is no stack's yet has no ARN"),
];

/// AWS's policies that may be attached; each allows its few actions on everything. SAM attaches the
/// first two to every function:
/// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources-function.html>.
const MANAGED: [(&str, &str); 3] = [
    ("AWSXrayWriteOnlyAccess", "traces"),
    ("service-role/AWSLambdaBasicExecutionRole", "a function's logs"),
    (
        "service-role/AmazonAPIGatewayPushToCloudWatchLogs",
        "API Gateway's role for the logs of all APIs, in account.yaml",
    ),
];

/// The service that assumes the role of a resource, by type, and those that assume roles of `account.yaml`.
const SERVICES: [(&str, &str); 5] = [
    (API, "apigateway.amazonaws.com"),
    (FUNCTION, "lambda.amazonaws.com"),
    (MACHINE, "states.amazonaws.com"),
    (PIPE, "pipes.amazonaws.com"),
    (RULE, "events.amazonaws.com"),
];
const ROLES_OF_ACCOUNT: [(&str, &str); 2] = [
    ("ApiGatewayLogRole", "apigateway.amazonaws.com"),
    ("CloudFormationRole", "cloudformation.amazonaws.com"),
];

/// The services that a policy lets in without a condition on the account, for which action, and why.
const FOR_ANYBODY: [(&str, &str, &[&str], &str); 3] = [
    (
        "AWS::SQS::QueuePolicy",
        "events.amazonaws.com",
        &["sqs:SendMessage"],
        "the rule dead-letter-senders looks at its sources one by one",
    ),
    (
        "AWS::Logs::ResourcePolicy",
        "events.amazonaws.com",
        &["logs:CreateLogStream", "logs:PutLogEvents"],
        "as the guide of EventBridge gives it for a rule's log group: \
         <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html>",
    ),
    (
        "AWS::Logs::ResourcePolicy",
        "delivery.logs.amazonaws.com",
        &["logs:CreateLogStream", "logs:PutLogEvents"],
        "as above",
    ),
];

fn is_deployer(resource: &Resource) -> bool {
    resource.file.template() == "account.yaml" && DEPLOYERS.contains(&resource.logical_id.as_str())
}

fn own_role(deployment: &Deployment<'_>) -> Faults {
    let mut faults = deployment.each(FUNCTION, |function| {
        unless(deployment.named(ROLE, &function.properties["Role"]).is_some(), "has a role from elsewhere")
    });
    faults.extend(deployment.each(ROLE, |role| {
        let takes = |resource: &&Resource| {
            ["Role", "RoleArn"].iter().any(|key| resource.properties[key] == *role.arn)
        };
        let users: Vec<&Resource> = deployment.resources().filter(takes).collect();
        let of_functions = users.iter().any(|user| user.kind == FUNCTION);
        let names: Vec<&str> = users.iter().map(|user| user.logical_id.as_str()).collect();
        unless(!of_functions || users.len() == 1, format!("is shared by {}", names.join(" and ")))
    }));
    faults
}

fn statements(document: &Value) -> impl Iterator<Item = &Value> {
    list(&document["Statement"])
}

/// Every statement of every policy of the deployment, each with its resource.
fn all_statements<'a>(deployment: &Deployment<'a>) -> Vec<(&'a Resource, Value)> {
    let mut found = Vec::new();
    for resource in deployment.resources() {
        let given = &resource.properties;
        let inline = list(&given["Policies"]).map(|policy| &policy["PolicyDocument"]);
        // Of queues, topics and logs; of buses and APIs; of tables and their streams; of a bus, one statement.
        let own = [
            &given["PolicyDocument"],
            &given["Policy"],
            &given["Body"]["x-amazon-apigateway-policy"],
            &given["ResourcePolicy"]["PolicyDocument"],
            &given["StreamSpecification"]["ResourcePolicy"]["PolicyDocument"],
            given,
        ];
        for document in inline.chain(own) {
            // The resource policy of logs is text.
            let parsed = document.as_str().and_then(|text| serde_json::from_str(text).ok());
            let document: Value = parsed.unwrap_or_else(|| document.clone());
            found.extend(statements(&document).map(|statement| (resource, statement.clone())));
        }
    }
    found
}

/// A fault for each resource: the first of its statements for which `complaint` returns a text.
fn each_statement(
    deployment: &Deployment<'_>,
    complaint: impl Fn(&Resource, &Value) -> Option<String>,
) -> Faults {
    let wrong = all_statements(deployment)
        .into_iter()
        .filter_map(|(resource, statement)| Some(Fault::of(resource, complaint(resource, &statement)?)));
    let mut faults: Faults = wrong.collect();
    faults.dedup_by(|one, other| (&one.file, &one.resource) == (&other.file, &other.resource));
    faults
}

/// Whether IAM reads a pattern: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>.
fn is_wild(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a pattern stands for the parts of one resource: the objects of a bucket, the streams of a log
/// group, the executions of a state machine.
fn is_one_thing(arn: &str) -> bool {
    let named = |name: &str| !name.is_empty() && !is_wild(name);
    let objects = arn.strip_prefix("arn:aws:s3:::").and_then(|rest| rest.strip_suffix("/*"));
    let streams = arn.strip_prefix("arn:aws:logs:").and_then(|rest| rest.strip_suffix(":*"));
    let group = streams.filter(|rest| named(rest)).and_then(|rest| rest.split_once(":log-group:"));
    let executions = arn.strip_prefix("arn:aws:states:").and_then(|rest| rest.strip_suffix(":*"));
    let machine = executions.filter(|rest| named(rest)).and_then(|rest| rest.split_once(":execution:"));
    [objects, group.map(|(_, name)| name), machine.map(|(_, name)| name)].into_iter().flatten().any(named)
}

/// Whether a pattern stands for resources that have the names of the stage.
fn is_of_stage(deployment: &Deployment<'_>, arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let &[_, _, service, region, account, resource] = parts.as_slice() else { return false };
    let somewhere = GLOBAL.contains(&service) || !region.is_empty() && !is_wild(region);
    let is_transform = account == "aws" && resource.starts_with("transform/");
    let someones = WITHOUT_ACCOUNT.contains(&service) || account == deployment.account() || is_transform;
    let is_named = |(of, start, _): &(&str, &str, &str)| {
        *of == service && resource.starts_with(&start.replace("{Stage}", deployment.stage()))
    };
    somewhere && someones && THEIR_NAMES.iter().any(is_named)
}

fn wildcard_resource(deployment: &Deployment<'_>) -> Faults {
    each_statement(deployment, |resource, statement| {
        if !statement["NotResource"].is_null() {
            return Some("names only resources to which it does not apply".to_owned());
        }
        let without_resource = |action: &str| WITHOUT_RESOURCE.iter().any(|(known, _)| *known == action);
        let has_reason = |arn: &str| match arn {
            "*" if texts(&statement["Action"]).all(without_resource) => true,
            "*" if is_deployer(resource) => {
                let of_roles = |action: &str| action.to_ascii_lowercase().starts_with("iam:");
                OF_DEPLOYERS.iter().any(|(sid, _)| statement["Sid"] == *sid)
                    && !texts(&statement["Action"]).any(of_roles)
            }
            "*" => false,
            _ => is_one_thing(arn) || is_deployer(resource) && is_of_stage(deployment, arn),
        };
        let arn = texts(&statement["Resource"]).find(|arn| is_wild(arn) && !has_reason(arn))?;
        let actions: Vec<&str> = texts(&statement["Action"]).collect();
        Some(format!("has Resource {arn:?} for {}", actions.join(", ")))
    })
}

fn wildcard_action(deployment: &Deployment<'_>) -> Faults {
    each_statement(deployment, |resource, statement| {
        // A denial may have a wildcard.
        if statement["Effect"] == "Deny" {
            return None;
        }
        if !statement["NotAction"].is_null() {
            return Some("allows everything but a few actions".to_owned());
        }
        let named = is_deployer(resource) && texts(&statement["Resource"]).all(|arn| arn != "*");
        // A principal with all rights on roles can give itself all rights.
        let has_reason = |action: &str| {
            let whole = action.strip_suffix(":*");
            named && whole.is_some_and(|service| !is_wild(service) && !service.eq_ignore_ascii_case("iam"))
        };
        let action = texts(&statement["Action"]).find(|action| is_wild(action) && !has_reason(action))?;
        Some(format!("allows {action:?}"))
    })
}

fn managed_policies(deployment: &Deployment<'_>) -> Faults {
    deployment.each(ROLE, |role| {
        let known = |arn: &str| {
            let name = arn.strip_prefix("arn:aws:iam::aws:policy/");
            name.is_some_and(|name| MANAGED.iter().any(|(known, _)| *known == name))
        };
        let unknown = texts(&role.properties["ManagedPolicyArns"]).find(|arn| !known(arn));
        unknown.map(|arn| format!("has {arn}"))
    })
}

/// Whether an account, or an ARN of one, is the deployment's own.
fn is_own(deployment: &Deployment<'_>, principal: &str) -> bool {
    let account = deployment.account();
    principal == account || principal.split(':').nth(4) == Some(account)
}

/// The services that assume a role: those of the resources that name it.
fn users_of<'a>(deployment: &Deployment<'a>, role: &Resource) -> BTreeSet<&'static str> {
    let of_account = ROLES_OF_ACCOUNT
        .iter()
        .filter(|(id, _)| role.file.template() == "account.yaml" && role.logical_id == *id);
    let uses = |resource: &&'a Resource| -> bool {
        let given = &resource.properties;
        let named = |value: &Value| value == role.arn.as_str();
        match resource.kind.as_str() {
            API => operations(resource).any(|(_, operation)| named(&integration(operation)["credentials"])),
            RULE => list(&given["Targets"]).any(|target| named(&target["RoleArn"])),
            _ => named(&given["Role"]) || named(&given["RoleArn"]),
        }
    };
    let service = |resource: &Resource| SERVICES.iter().find(|(kind, _)| resource.kind == *kind);
    let users = deployment.resources().filter(uses).filter_map(service);
    users.chain(of_account).map(|(_, service)| *service).collect()
}

fn trust(deployment: &Deployment<'_>) -> Faults {
    let parameter = |name: &str| deployment.application.root().and_then(|root| root.parameters.get(name));
    let jobs = parameter("GitHubRepository")
        .map(|repository| format!("repo:{repository}:environment:{}", deployment.stage()));
    let of_github = json!({ "StringEquals": {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": jobs,
    } });
    deployment.each(ROLE, |role| {
        let own = |arn: &str| is_own(deployment, arn);
        let users = users_of(deployment, role);
        let good = statements(&role.properties["AssumeRolePolicyDocument"]).all(|statement| {
            // CloudFormation does not always name the account for which it acts: `sam pipeline` had the
            // condition and removed it, https://github.com/aws/aws-sam-cli/issues/3027 and /pull/3038.
            if role.logical_id == "CloudFormationRole" && !statement["Condition"].is_null() {
                return false;
            }
            let Some(principal) = statement["Principal"].as_object() else { return false };
            principal.iter().all(|(kind, who)| match kind.as_str() {
                "Service" => texts(who).count() == 1 && texts(who).all(|who| users.contains(who)),
                // The account's own policies decide who may assume it.
                "AWS" => role.logical_id == "RedriveRole" && texts(who).all(own),
                "Federated" => texts(who).all(own) && statement["Condition"] == of_github,
                _ => false,
            })
        });
        unless(good, "can be assumed by others than the service that uses it, or from outside")
    })
}

/// Whether a statement holds only for what this account has a service do:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html>.
fn is_for_own(deployment: &Deployment<'_>, statement: &Value) -> bool {
    ["StringEquals", "ArnEquals", "ArnLike"].iter().any(|operator| {
        ["aws:SourceAccount", "aws:SourceArn"].iter().any(|key| {
            let given = &statement["Condition"][operator][key];
            texts(given).next().is_some() && texts(given).all(|source| is_own(deployment, source))
        })
    })
}

fn strangers(deployment: &Deployment<'_>) -> Faults {
    let mut faults = each_statement(deployment, |resource, statement| {
        if statement["Effect"] != "Allow" {
            return None;
        }
        if !statement["NotPrincipal"].is_null() {
            return Some("lets every principal in except a few".to_owned());
        }
        // Only the policy of a resource has a principal.
        let who = statement.get("Principal")?;
        let own = |arn: &str| is_own(deployment, arn);
        let excepted = |service: &str| {
            let mut known =
                FOR_ANYBODY.iter().filter(|(kind, of, ..)| resource.kind == *kind && *of == service);
            known
                .any(|(_, _, actions, _)| texts(&statement["Action"]).all(|action| actions.contains(&action)))
        };
        let known = who.as_object().is_some_and(|who| {
            who.iter().all(|(kind, who)| match kind.as_str() {
                "Service" => is_for_own(deployment, statement) || texts(who).all(excepted),
                "AWS" => texts(who).all(own),
                _ => false,
            })
        });
        unless(known, format!("lets {who} in"))
    });
    // The older form has no statement; its principal is an account or `*`.
    faults.extend(deployment.each("AWS::Events::EventBusPolicy", |policy| {
        let who = policy.properties.get("Principal")?.as_str().unwrap_or_default();
        unless(is_own(deployment, who), format!("lets {who} in"))
    }));
    faults
}

fn boundary(deployment: &Deployment<'_>) -> Faults {
    let root = deployment.application.root();
    let given = root.and_then(|root| root.parameters.get("PermissionsBoundary")).map_or("", String::as_str);
    // A person creates the account's own roles, and they have another path.
    let of_application = |role: &Resource| role.file.template() != "account.yaml";
    deployment.each(ROLE, |role| {
        let taken = role.properties["PermissionsBoundary"].as_str().unwrap_or_default();
        unless(!of_application(role) || taken == given, format!("has the boundary {taken:?}, not {given:?}"))
    })
}

/// The actions that give rights to a role. Each of them supports the condition key:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html#access_policies_boundaries-delegate>.
const GIVE_RIGHTS: [&str; 4] =
    ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"];

fn boundary_kept(deployment: &Deployment<'_>) -> Faults {
    let arn = deployment.all("AWS::IAM::ManagedPolicy").map(|policy| policy.arn.as_str()).next();
    let within = json!({ "StringEquals": { "iam:PermissionsBoundary": arn } });
    each_statement(deployment, |role, statement| {
        if role.kind != ROLE || statement["Effect"] != "Allow" {
            return None;
        }
        texts(&statement["Action"]).find_map(|action| {
            let gives = GIVE_RIGHTS.contains(&action);
            let unties = action == "iam:DeleteRolePermissionsBoundary";
            let of_policies =
                action.starts_with("iam:") && action.contains("Policy") && !action.contains("Role");
            let good = if gives { statement["Condition"] == within } else { !unties && !of_policies };
            unless(good, format!("may {action} beyond the boundary"))
        })
    })
}

/// What the handlers of the types in our templates call and takes no resource, reading of lists left out:
/// `handlers` of each type's schema in the CloudFormation registry, as cfn-lint 1.58.0 carries them, and
/// the Service Authorization Reference. Left out too: what is called for properties that no template of
/// ours has (a VPC, field indexes). The three of SNS are listed there with the topic since 2026, and
/// without a resource before.
const TAKE_NO_RESOURCE: [&str; 22] = [
    "events:PutPermission",
    "events:RemovePermission",
    "kms:ListAliases",
    "lambda:CreateEventSourceMapping",
    "lambda:ListEventSourceMappings",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DeleteResourcePolicy",
    "logs:DescribeDeliveries",
    "logs:DescribeDeliveryDestinations",
    "logs:DescribeDeliverySources",
    "logs:DescribeIndexPolicies",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "sns:GetSubscriptionAttributes",
    "sns:SetSubscriptionAttributes",
    "sns:Unsubscribe",
    "states:ValidateStateMachineDefinition",
];

fn handlers(deployment: &Deployment<'_>) -> Faults {
    let deployers = deployment.all(ROLE).filter(|role| role.logical_id == "CloudFormationRole");
    let lacking = deployers.filter_map(|role| {
        let everywhere = list(&role.properties["Policies"])
            .flat_map(|policy| statements(&policy["PolicyDocument"]))
            .filter(|statement| statement["Resource"] == "*");
        let allowed: BTreeSet<&str> = everywhere.flat_map(|statement| texts(&statement["Action"])).collect();
        let missing = TAKE_NO_RESOURCE.iter().find(|action| !allowed.contains(*action))?;
        Some(Fault::of(role, format!("does not allow {missing} on every resource")))
    });
    lacking.collect()
}

fn invocation(deployment: &Deployment<'_>) -> Faults {
    deployment.each("AWS::Lambda::Permission", |permission| {
        let source = permission.properties["SourceArn"].as_str().unwrap_or_default();
        let service =
            permission.properties["Principal"].as_str().is_some_and(|who| who.ends_with(".amazonaws.com"));
        unless(service && source.starts_with("arn:"), "does not name the source that may call the function")
    })
}
