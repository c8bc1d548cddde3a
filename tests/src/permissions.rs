//! Compares what a role allows with what its owner needs: the recorded calls and, for each kind of
//! trigger, a fixed list of the actions that AWS takes with the role. No I/O: it reads evaluated templates
//! and recorded calls, and returns sentences.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use cloud_core::calls::Call;
use cloud_core::resource::Resource;
use cloud_languages::template::Application;
use serde_json::Value;

use crate::templates::of_kind;

/// An action on a resource. Both can have wildcards, as in a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// `dynamodb:PutItem`.
    pub action: String,
    /// An ARN, or `*`.
    pub resource: String,
}

impl Permission {
    /// An action on a resource.
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into() }
    }

    /// Whether this permission includes the other.
    pub fn covers(&self, other: &Self) -> bool {
        matches(&self.action, &other.action) && matches(&self.resource, &other.resource)
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}

/// `*` stands for any text, `?` for any one character.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>
fn matches(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut left) = (pattern.chars(), text.chars());
    match (wanted.next(), left.next()) {
        (Some('*'), None) => matches(wanted.as_str(), text),
        (Some('*'), Some(_)) => matches(wanted.as_str(), text) || matches(pattern, left.as_str()),
        (Some(wants), Some(has)) if wants == '?' || wants == has => matches(wanted.as_str(), left.as_str()),
        (wants, has) => wants.is_none() && has.is_none(),
    }
}

/// The differences between what `who` is allowed and what it needs, as sentences.
pub fn compare(who: &str, allowed: &BTreeSet<Permission>, needed: &BTreeSet<Permission>) -> Vec<String> {
    let surplus = allowed.difference(needed).map(|permission| {
        let narrow: Vec<String> =
            needed.iter().filter(|need| permission.covers(need)).map(ToString::to_string).collect();
        match narrow.is_empty() {
            true => format!("{who} is allowed {permission}, which it never uses"),
            false => format!("{who} is allowed {permission}, wider than what it uses: {}", narrow.join(", ")),
        }
    });
    let missing = needed.iter().filter(|need| !allowed.iter().any(|permission| permission.covers(need)));
    let missing = missing.map(|need| format!("{who} uses {need}, which it is not allowed"));
    surplus.chain(missing).collect()
}

/// The statements of a role: its own, and those of the policies that are attached to it.
fn statements<'a>(application: &'a Application, role: &'a Resource) -> impl Iterator<Item = &'a Value> {
    let attached = of_kind(application, "AWS::IAM::Policy").into_iter().filter(|policy| {
        list(&policy.properties["Roles"]).iter().any(|name| *name == role.physical_id.as_str())
    });
    let own = list(&role.properties["Policies"]).iter();
    own.chain(attached.map(|policy| &policy.properties))
        .flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]))
}

/// Everything that a role's policies allow. Conditions are left out: `CONDITIONS` lists them.
///
/// # Errors
/// When a policy has a form that this module does not read.
pub fn allowed(application: &Application, role: &Resource) -> anyhow::Result<BTreeSet<Permission>> {
    let mut allowed = BTreeSet::new();
    for arn in list(&role.properties["ManagedPolicyArns"]) {
        let arn = arn.as_str().unwrap_or_default();
        let (_, actions) = MANAGED
            .iter()
            .find(|(name, _)| arn.strip_prefix("arn:aws:iam::aws:policy/") == Some(name))
            .with_context(|| format!("{} has the policy {arn}, which is not known here", role.logical_id))?;
        allowed.extend(actions.iter().map(|action| Permission::new(*action, "*")));
    }
    for statement in statements(application, role) {
        let members = statement.as_object().into_iter().flat_map(|statement| statement.keys());
        let unread = members
            .filter(|name| !["Sid", "Effect", "Action", "Resource", "Condition"].contains(&name.as_str()));
        let unread: Vec<_> = unread.collect();
        ensure!(
            unread.is_empty(),
            "a statement of {} has {unread:?}, which is not read here",
            role.logical_id
        );
        ensure!(statement["Effect"] == "Allow", "a statement of {} does not allow", role.logical_id);
        for action in list(&statement["Action"]) {
            for resource in list(&statement["Resource"]) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                allowed.insert(Permission::new(text(action), text(resource)));
            }
        }
    }
    Ok(allowed)
}

/// All conditions in the policies of roles, each as (role, Sid, condition). They are listed because a
/// recorded call does not show whether it meets a condition.
const CONDITIONS: &[(&str, &str, &str)] = &[(
    "SearchFunctionRole",
    "ReadWhatIsPublished",
    r#"{"ForAllValues:StringLike":{"dynamodb:LeadingKeys":["SEARCH#*"]}}"#,
)];

/// The differences between the conditions of all roles and the `expected` ones, as sentences.
fn conditions(application: &Application, expected: &[(&str, &str, &str)]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for role in of_kind(application, "AWS::IAM::Role") {
        for statement in statements(application, role).filter(|given| !given["Condition"].is_null()) {
            let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
            found.insert((role.logical_id.clone(), sid, statement["Condition"].to_string()));
        }
    }
    let owned = |(role, sid, condition): &(&str, &str, &str)| {
        (String::from(*role), String::from(*sid), String::from(*condition))
    };
    let expected: BTreeSet<_> = expected.iter().map(owned).collect();
    let sentence = |(role, sid, condition): &(String, String, String), what: &str| {
        format!("the statement {sid:?} of {role} {what} the condition {condition}")
    };
    let more = found.difference(&expected).map(|it| sentence(it, "has, without a reason here,"));
    more.chain(expected.difference(&found).map(|it| sentence(it, "is without"))).collect()
}

/// A value or a list of values: policies take both.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(values) => values,
        one => std::slice::from_ref(one),
    }
}

const LOGS: [&str; 3] = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"];

const TRACES: [&str; 5] = [
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:GetSamplingStatisticSummaries",
];

const BASIC: &str = "service-role/AWSLambdaBasicExecutionRole";
const TRACING: &str = "AWSXrayWriteOnlyAccess";

/// The managed policies that SAM attaches, by the text after `arn:aws:iam::aws:policy/`. Every function gets
/// the first, tracing adds the second, and an event from a queue or a stream adds one of the others, which
/// let the function poll them all (samtranslator, `SamFunction._construct_role` and the `get_policy_arn` of
/// each event source). Their actions:
/// <https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html>
const MANAGED: [(&str, &[&str]); 4] = [
    (BASIC, &LOGS),
    (TRACING, &TRACES),
    (
        "service-role/AWSLambdaSQSQueueExecutionRole",
        &[
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ],
    ),
    (
        "service-role/AWSLambdaDynamoDBExecutionRole",
        &[
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ],
    ),
];

/// How a state machine delivers its log. None of the actions takes a resource.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-iam-policy>
const LOG_DELIVERY: [&str; 8] = [
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
];

/// How the mapping of a function polls a queue.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions>
const QUEUE: [&str; 3] = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];

/// How the mapping of a function, or a pipe, reads the stream of a table. It also lists streams, which
/// takes no resource.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html>,
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-permissions.html#eb-pipes-perms-ddb>
const STREAM: [&str; 3] = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"];

fn of_stream(arn: &str) -> impl Iterator<Item = Permission> {
    let list = Permission::new("dynamodb:ListStreams", "*");
    STREAM.iter().map(move |action| Permission::new(*action, arn)).chain([list])
}

fn managed(name: &str) -> impl Iterator<Item = Permission> + use<> {
    let actions = MANAGED.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, actions)| actions);
    everywhere(actions)
}

fn everywhere(actions: &'static [&'static str]) -> impl Iterator<Item = Permission> {
    actions.iter().map(|action| Permission::new(*action, "*"))
}

fn text<'a>(properties: &'a Value, path: &str) -> Option<&'a str> {
    properties.pointer(path).and_then(Value::as_str)
}

/// A resource that assumes a role.
#[derive(Debug)]
struct Owner<'a> {
    resource: &'a Resource,
    /// Its name in a finding.
    name: String,
    /// What AWS does with the role without a call by the application.
    fixed: Vec<Permission>,
}

/// The resources of the application that assume the role.
fn owners<'a>(application: &'a Application, role: &Resource) -> Vec<Owner<'a>> {
    let resources = || application.stacks.iter().flat_map(|stack| &stack.resources);
    resources()
        .filter_map(|resource| {
            let properties = &resource.properties;
            let is_role = |value: &Value| *value == role.arn.as_str();
            let fixed = match resource.kind.as_str() {
                "AWS::Lambda::Function" if is_role(&properties["Role"]) => of_function(application, resource),
                "AWS::StepFunctions::StateMachine" if is_role(&properties["RoleArn"]) => {
                    of_state_machine(properties)
                }
                "AWS::Pipes::Pipe" if is_role(&properties["RoleArn"]) => of_pipe(properties),
                "AWS::Events::Rule"
                    if list(&properties["Targets"]).iter().any(|target| is_role(&target["RoleArn"])) =>
                {
                    vec![]
                }
                "AWS::ApiGateway::RestApi" if mentions(&properties["Body"], &role.arn) => vec![],
                _ => return None,
            };
            let kind = resource.kind.rsplit("::").next().unwrap_or_default();
            Some(Owner { resource, name: format!("{kind} {}", resource.physical_id), fixed })
        })
        .collect()
}

fn mentions(document: &Value, arn: &str) -> bool {
    match document {
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| (name == "credentials" && value == arn) || mentions(value, arn)),
        Value::Array(items) => items.iter().any(|item| mentions(item, arn)),
        _ => false,
    }
}

fn of_function(application: &Application, function: &Resource) -> Vec<Permission> {
    let mut fixed: Vec<Permission> = managed(BASIC).collect();
    if text(&function.properties, "/TracingConfig/Mode") == Some("Active") {
        fixed.extend(managed(TRACING));
    }
    let is_own = |properties: &Value| {
        [&function.physical_id, &function.arn].iter().any(|name| properties["FunctionName"] == name.as_str())
    };
    for kind in ["AWS::Lambda::EventSourceMapping", "AWS::Lambda::EventInvokeConfig"] {
        for config in of_kind(application, kind).into_iter().filter(|config| is_own(&config.properties)) {
            let source = text(&config.properties, "/EventSourceArn").unwrap_or_default();
            if source.starts_with("arn:aws:sqs:") {
                fixed.extend(QUEUE.iter().map(|action| Permission::new(*action, source)));
            } else if source.starts_with("arn:aws:dynamodb:") {
                fixed.extend(of_stream(source));
            }
            // Lambda sends an event that failed for good with the role of the function.
            // https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
            let queue = text(&config.properties, "/DestinationConfig/OnFailure/Destination");
            fixed.extend(queue.map(|queue| Permission::new("sqs:SendMessage", queue)));
        }
    }
    fixed
}

fn of_state_machine(properties: &Value) -> Vec<Permission> {
    let logs = text(properties, "/LoggingConfiguration/Level").is_some_and(|level| level != "OFF");
    let traced =
        properties.pointer("/TracingConfiguration/Enabled").is_some_and(|on| on == true || on == "true");
    let logs = everywhere(&LOG_DELIVERY).filter(|_| logs);
    logs.chain(managed(TRACING).filter(|_| traced)).collect()
}

fn of_pipe(properties: &Value) -> Vec<Permission> {
    let source = text(properties, "/Source").unwrap_or_default();
    let queue = text(properties, "/SourceParameters/DynamoDBStreamParameters/DeadLetterConfig/Arn");
    of_stream(source).chain(queue.map(|queue| Permission::new("sqs:SendMessage", queue))).collect()
}

/// The permission that a recorded call needs. A policy cannot name the keys of objects and the names of
/// executions, because they are data.
fn need(call: &Call) -> Permission {
    let object = call.resource.strip_prefix("arn:aws:s3:::").and_then(|object| object.split_once('/'));
    let execution = call.resource.rsplit_once(':').filter(|(before, _)| before.contains(":execution:"));
    let resource = match (object, execution) {
        (Some((bucket, _)), _) => format!("arn:aws:s3:::{bucket}/*"),
        (None, Some((machine, _))) => format!("{machine}:*"),
        (None, None) => call.resource.clone(),
    };
    Permission::new(&call.action, resource)
}

/// The role that an operator assumes to move dead messages back. No resource assumes it.
const REDRIVE: &str = "RedriveRole";

/// The actions on the dead-letter queue that SQS needs to start, list and cancel such moves.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>
const REDRIVES: [&str; 6] = [
    "sqs:StartMessageMoveTask",
    "sqs:ListMessageMoveTasks",
    "sqs:CancelMessageMoveTask",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
];

/// The queues that have a dead-letter queue, each with the ARN of that one.
fn with_dead_letters(application: &Application) -> impl Iterator<Item = (&Resource, &str)> {
    let queues = of_kind(application, "AWS::SQS::Queue").into_iter();
    queues.filter_map(|it| Some((it, text(&it.properties, "/RedrivePolicy/deadLetterTargetArn")?)))
}

/// What an operator needs: for every queue of the role's stack that has a dead-letter queue.
fn of_operator(application: &Application, role: &Resource) -> BTreeSet<Permission> {
    with_dead_letters(application)
        .filter(|(queue, _)| queue.stack == role.stack)
        .flat_map(|(queue, dead)| {
            let send = Permission::new("sqs:SendMessage", &queue.arn);
            REDRIVES.iter().map(move |action| Permission::new(*action, dead)).chain([send])
        })
        .collect()
}

/// The differences between the roles of an application and the recorded calls, as sentences.
///
/// # Errors
/// When a policy cannot be read.
pub fn findings<'a>(
    application: &Application,
    calls: impl IntoIterator<Item = &'a Call> + Clone,
) -> anyhow::Result<Vec<String>> {
    let mut findings = conditions(application, CONDITIONS);
    let roles = of_kind(application, "AWS::IAM::Role");
    let has_operator =
        |stack: &str| roles.iter().any(|role| role.logical_id == REDRIVE && role.stack == stack);
    let stuck = with_dead_letters(application).filter(|(queue, _)| !has_operator(&queue.stack));
    findings.extend(
        stuck.map(|(queue, _)| format!("no role may move the dead messages of {} back", queue.logical_id)),
    );
    for role in &roles {
        let owners = owners(application, role);
        let allowed = allowed(application, role)?;
        if role.logical_id == REDRIVE && owners.is_empty() {
            let who = format!("the operator with {REDRIVE} of {}", role.stack);
            findings.extend(compare(&who, &allowed, &of_operator(application, role)));
            continue;
        }
        let names: Vec<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
        let who = names.join(" and ");
        if owners.is_empty() {
            findings.push(format!("no resource assumes {} of {}", role.logical_id, role.stack));
            continue;
        }
        if owners.len() > 1 && owners.iter().any(|owner| owner.resource.kind != "AWS::Events::Rule") {
            findings.push(format!("{who} share {}: only rules may share a role", role.logical_id));
        }
        let fixed: Vec<Permission> = owners.iter().flat_map(|owner| owner.fixed.clone()).collect();
        let calls = calls.clone().into_iter();
        let own = calls.filter(|call| owners.iter().any(|owner| call.principal == owner.resource.arn));
        // An action that the fixed list has for every resource needs no second permission.
        let own = own.map(need).filter(|need| !fixed.iter().any(|fixed| fixed.covers(need)));
        findings.extend(compare(&who, &allowed, &own.chain(fixed.clone()).collect()));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/listings";

    fn set(permissions: &[(&str, &str)]) -> BTreeSet<Permission> {
        permissions.iter().map(|(action, resource)| Permission::new(*action, *resource)).collect()
    }

    fn sentences(allowed: &[(&str, &str)], needed: &[(&str, &str)]) -> Vec<String> {
        compare("search", &set(allowed), &set(needed))
    }

    #[test]
    fn the_same_permissions_make_no_sentence() {
        let both = [("dynamodb:GetItem", TABLE), ("xray:PutTraceSegments", "*")];
        assert_eq!(sentences(&both, &both), [""; 0]);
    }

    #[test]
    fn an_action_too_many_is_reported() {
        let need = [("dynamodb:GetItem", TABLE)];
        assert_eq!(
            sentences(&[need[0], ("dynamodb:PutItem", TABLE)], &need),
            [format!("search is allowed dynamodb:PutItem on {TABLE}, which it never uses")]
        );
    }

    #[test]
    fn an_action_too_few_is_reported() {
        assert_eq!(
            sentences(&[], &[("dynamodb:GetItem", TABLE)]),
            [format!("search uses dynamodb:GetItem on {TABLE}, which it is not allowed")]
        );
    }

    #[test]
    fn a_wider_resource_or_action_is_reported() {
        let all_tables = TABLE.replace("listings", "*");
        let part = TABLE.replace("listings", "list*s");
        let letter = TABLE.replace("listings", "list?ngs");
        for (action, resource) in [
            ("dynamodb:GetItem", "*"),
            ("dynamodb:GetItem", all_tables.as_str()),
            ("dynamodb:GetItem", part.as_str()),
            ("dynamodb:GetItem", letter.as_str()),
            ("dynamodb:*", TABLE),
            ("*", TABLE),
        ] {
            let expected = format!(
                "search is allowed {action} on {resource}, wider than what it uses: dynamodb:GetItem on {TABLE}"
            );
            assert_eq!(sentences(&[(action, resource)], &[("dynamodb:GetItem", TABLE)]), [expected]);
        }
    }

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for pattern in ["abc", "*", "a*", "*c", "a*c", "a?c", "???", "**a?*"] {
            assert!(matches(pattern, "abc"), "{pattern}");
        }
        for pattern in ["", "ab", "abcd", "abc?", "??", "*b", "b*", "a?bc"] {
            assert!(!matches(pattern, "abc"), "{pattern}");
        }
    }

    #[test]
    fn the_right_action_on_the_wrong_resource_is_reported_twice() {
        let other = TABLE.replace("listings", "contracts");
        assert_eq!(
            sentences(&[("dynamodb:GetItem", &other)], &[("dynamodb:GetItem", TABLE)]),
            [
                format!("search is allowed dynamodb:GetItem on {other}, which it never uses"),
                format!("search uses dynamodb:GetItem on {TABLE}, which it is not allowed"),
            ]
        );
    }

    fn resource(kind: &str, id: &str, arn: &str, properties: Value) -> Resource {
        Resource {
            stack: "tests".into(),
            logical_id: id.into(),
            kind: kind.into(),
            physical_id: id.to_lowercase(),
            arn: arn.into(),
            properties,
            metadata: Value::Null,
            file: "template.yaml".into(),
        }
    }

    fn role(properties: Value) -> Resource {
        resource("AWS::IAM::Role", "SearchRole", "arn:role", properties)
    }

    /// One stack of these.
    fn application(resources: Vec<Resource>) -> Application {
        let mut application = crate::templates::load(&crate::project().unwrap(), crate::ROOT, &[]).unwrap();
        application.stacks.truncate(1);
        application.stacks[0].resources = resources;
        application
    }

    fn allowed(role: &Resource) -> anyhow::Result<BTreeSet<Permission>> {
        super::allowed(&application(vec![]), role)
    }

    #[test]
    fn a_policy_that_is_attached_to_a_role_counts_as_its_own() {
        let policy = |role: &str| {
            let statement = json!({"Effect": "Allow", "Action": "a:B", "Resource": "*"});
            let properties = json!({"Roles": [role], "PolicyDocument": {"Statement": [statement]}});
            application(vec![resource("AWS::IAM::Policy", "More", "arn:policy", properties)])
        };
        let role = role(json!({}));
        assert_eq!(super::allowed(&policy("searchrole"), &role).unwrap(), set(&[("a:B", "*")]));
        assert_eq!(super::allowed(&policy("another"), &role).unwrap(), set(&[]));
    }

    #[test]
    fn a_condition_more_and_a_condition_less_are_reported() {
        let with = |condition: Value| {
            let mut statement = json!({"Sid": "Read", "Effect": "Allow", "Action": "a:B", "Resource": "*"});
            statement["Condition"] = condition;
            application(vec![role(json!({"Policies": [{"PolicyDocument": {"Statement": [statement]}}]}))])
        };
        let (some, text) = (json!({"Bool": {"a:C": "true"}}), r#"{"Bool":{"a:C":"true"}}"#);
        let expected = [("SearchRole", "Read", text)];
        assert_eq!(conditions(&with(some.clone()), &expected), [""; 0]);
        let more = conditions(&with(some), &[]);
        assert_eq!(
            more,
            [format!(
                "the statement \"Read\" of SearchRole has, without a reason here, the condition {text}"
            )]
        );
        let less = conditions(&with(Value::Null), &expected);
        assert_eq!(less, [format!("the statement \"Read\" of SearchRole is without the condition {text}")]);
        let other = json!({"Bool": {"a:C": "false"}});
        assert_eq!(conditions(&with(other), &expected).len(), 2);
    }

    #[test]
    fn policies_are_read_whole_or_not_at_all() {
        let statement = |statement: Value| {
            allowed(&role(json!({"Policies": [{"PolicyDocument": {"Statement": statement}}]})))
        };
        let both = statement(json!({"Effect": "Allow", "Action": ["a:B", "a:C"], "Resource": [TABLE, "*"]}));
        assert_eq!(both.unwrap(), set(&[("a:B", TABLE), ("a:B", "*"), ("a:C", TABLE), ("a:C", "*")]));
        let logs = allowed(&role(
            json!({"ManagedPolicyArns": ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"]}),
        ));
        assert_eq!(logs.unwrap(), everywhere(&LOGS).collect());
        for unread in [
            json!({"Effect": "Deny", "Action": "a:B", "Resource": "*"}),
            json!({"Effect": "Allow", "NotAction": "a:B", "Resource": "*"}),
        ] {
            statement(unread).unwrap_err();
        }
        for unknown in [
            "arn:aws:iam::aws:policy/AdministratorAccess",
            "arn:aws:iam::123456789012:policy/service-role/AWSLambdaBasicExecutionRole",
            "arn:aws:iam::aws:policy/AWSLambdaBasicExecutionRole",
        ] {
            let role = role(json!({"ManagedPolicyArns": [unknown]}));
            assert!(allowed(&role).unwrap_err().to_string().contains(unknown));
        }
    }
}
