//! IAM, as far as a template shows it: a role for each function, no wildcard without a reason, nobody
//! from outside. Whether a role allows what its code calls, no more and no less, is seen from the
//! calls that tests record.

use local_cloud::resource::Resource;
use serde_json::Value;

use super::deployment::{FUNCTION, ROLE, list, texts};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};

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
            Mutation::swap(ACCOUNT, "CloudFormationRole", ":table/uni-prop-${Stage}-*", ":table/*"),
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
            Mutation::swap(WEB, "WebApiRole", "Action: sqs:SendMessage", "NotAction: sqs:DeleteQueue"),
            Mutation::swap(
                ACCOUNT,
                "DeployRole",
                "Action: cloudformation:GetTemplateSummary",
                "Action: cloudformation:*",
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
        holds: "IAM: a role is taken on by one service, or by this account",
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
        ],
    },
    Rule {
        name: "strangers",
        holds: "the bus policy lets no other account in unless named, nor does the policy of any other resource",
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
const CONTRACTS: &str = "contracts-service/template.yaml";
const PROPERTIES: &str = "properties-service/template.yaml";
const WEB: &str = "web-service/template.yaml";

/// All that a function is allowed, as it is written.
const POLICIES: &str = "Policies:
        - Version: \"2012-10-17\"
          Statement:
            - Effect: Allow
              Action: dynamodb:GetItem
              Resource: [!GetAtt ContractsTable.Arn, !GetAtt CommandsTable.Arn]";

/// The actions that may stand beside `Resource: "*"`. Source of each: the Service Authorization
/// Reference, whose column "Resource types" is empty for them, unless something else is said;
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>.
const WITHOUT_RESOURCE: [(&str, &str); 15] = [
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
    ("xray:GetSamplingTargets", "as above"),
    ("xray:PutTelemetryRecords", "as above"),
    ("xray:PutTraceSegments", "as above"),
];

/// Resources that end with a star and are still one thing.
const ONE_THING: [(&str, &str, &str); 2] = [
    ("arn:aws:s3:::", "/*", "the objects of one bucket"),
    ("arn:aws:logs:", ":*", "the streams of one log group"),
];

/// The roles that deploy a whole stage, in `account.yaml`. They may have every action of a service and
/// patterns of these names, since they make what bears them; never all resources.
const DEPLOYERS: [&str; 2] = ["CloudFormationRole", "DeployRole"];
const THEIR_NAMES: [(&str, &str); 6] = [
    ("uni-prop-", "what is called after the application"),
    ("unicorn-", "buses and what belongs to them"),
    (":log-group:/aws/", "the log groups of functions, APIs, workflows and buses"),
    (":apigateway:", "APIs, their stages and deployments have ids, no names"),
    ("aws-sam-cli-managed-default", "SAM's own stack, with the bucket for artefacts"),
    (":aws:transform/", "SAM's transform"),
];

/// Their statements about all resources, which have no wildcard in an action then.
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

/// Every policy of the deployment that says what may be done, each statement with its resource.
fn all_statements<'a>(deployment: &Deployment<'a>) -> Vec<(&'a Resource, Value)> {
    let mut found = Vec::new();
    for resource in deployment.resources() {
        let given = &resource.properties;
        let inline = list(&given["Policies"]).map(|policy| &policy["PolicyDocument"]);
        for document in inline.chain([&given["PolicyDocument"], given]) {
            // That of a log's resource policy is text.
            let parsed = document.as_str().and_then(|text| serde_json::from_str(text).ok());
            let document: Value = parsed.unwrap_or_else(|| document.clone());
            found.extend(statements(&document).map(|statement| (resource, statement.clone())));
        }
    }
    found
}

/// A fault for each resource, for the first of its statements that `complaint` says something about.
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

fn wildcard_resource(deployment: &Deployment<'_>) -> Faults {
    each_statement(deployment, |resource, statement| {
        if !statement["NotResource"].is_null() {
            return Some("says only which resources it does not mean".to_owned());
        }
        let without_resource = |action: &str| WITHOUT_RESOURCE.iter().any(|(known, _)| *known == action);
        let has_reason = |arn: &str| match arn {
            "*" if is_deployer(resource) => OF_DEPLOYERS.iter().any(|(sid, _)| statement["Sid"] == *sid),
            "*" => texts(&statement["Action"]).all(without_resource),
            _ if is_deployer(resource) => THEIR_NAMES.iter().any(|(name, _)| arn.contains(name)),
            _ => {
                arn.matches('*').count() == 1
                    && ONE_THING.iter().any(|(start, end, _)| arn.starts_with(start) && arn.ends_with(end))
            }
        };
        let arn = texts(&statement["Resource"]).find(|arn| arn.contains('*') && !has_reason(arn))?;
        let actions: Vec<&str> = texts(&statement["Action"]).collect();
        Some(format!("has Resource {arn:?} for {}", actions.join(", ")))
    })
}

fn wildcard_action(deployment: &Deployment<'_>) -> Faults {
    each_statement(deployment, |resource, statement| {
        // To deny everything is what a wildcard is for.
        if statement["Effect"] == "Deny" {
            return None;
        }
        if !statement["NotAction"].is_null() {
            return Some("allows everything but a few actions".to_owned());
        }
        let named = is_deployer(resource) && texts(&statement["Resource"]).all(|arn| arn != "*");
        let has_reason = |action: &str| named && action.ends_with(":*");
        let action =
            texts(&statement["Action"]).find(|action| action.contains('*') && !has_reason(action))?;
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

fn trust(deployment: &Deployment<'_>) -> Faults {
    deployment.each(ROLE, |role| {
        let own = |arn: &str| is_own(deployment, arn);
        let good = statements(&role.properties["AssumeRolePolicyDocument"]).all(|statement| {
            let Some(principal) = statement["Principal"].as_object() else { return false };
            principal.iter().all(|(kind, who)| match kind.as_str() {
                "Service" => texts(who).count() == 1,
                "AWS" => texts(who).all(own),
                // GitHub's tokens, for one repository: see account.yaml.
                "Federated" => texts(who).all(own) && statement["Condition"].is_object(),
                _ => false,
            })
        });
        unless(good, "can be taken on by more than one service, or from outside")
    })
}

fn strangers(deployment: &Deployment<'_>) -> Faults {
    let mut faults = each_statement(deployment, |_, statement| {
        // Only the policy of a resource says who.
        let who = statement.get("Principal").filter(|_| statement["Effect"] == "Allow")?;
        let own = |arn: &str| is_own(deployment, arn);
        let known = who.as_object().is_some_and(|who| {
            who.iter().all(|(kind, who)| kind == "Service" || kind == "AWS" && texts(who).all(own))
        });
        unless(known, format!("lets {who} in"))
    });
    // The older form has no statement, and an account or everybody as its principal.
    faults.extend(deployment.each("AWS::Events::EventBusPolicy", |policy| {
        let who = policy.properties.get("Principal")?.as_str().unwrap_or_default();
        unless(is_own(deployment, who), format!("lets {who} in"))
    }));
    faults
}

fn invocation(deployment: &Deployment<'_>) -> Faults {
    deployment.each("AWS::Lambda::Permission", |permission| {
        let source = permission.properties["SourceArn"].as_str().unwrap_or_default();
        let service =
            permission.properties["Principal"].as_str().is_some_and(|who| who.ends_with(".amazonaws.com"));
        unless(service && source.starts_with("arn:"), "does not say from where the function is called")
    })
}
