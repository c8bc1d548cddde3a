//! The execution role that SAM makes for a function or a state machine that names none. Nothing enforces it
//! here, but its references are evaluated, and tests read it.

use cloud_core::resource::Refusal;
use serde_json::{Value, json};

use super::properties::{Properties, is_function};
use crate::template::document::Declared;
use crate::template::place::Place;

pub(super) struct Role {
    id: String,
    service: &'static str,
    pub path: Option<Value>,
    pub boundary: Option<Value>,
    managed: Vec<Value>,
    inline: Vec<Value>,
}

impl Role {
    /// The role `{owner}Role`, which `service` assumes.
    pub fn new(owner: &str, service: &'static str) -> Self {
        let id = format!("{owner}Role");
        Self { id, service, path: None, boundary: None, managed: Vec::new(), inline: Vec::new() }
    }

    /// Its logical id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Attaches a managed policy of AWS, given by its path.
    pub fn managed(&mut self, path: &str) {
        let arn = json!(format!("arn:aws:iam::aws:policy/{path}"));
        if !self.managed.contains(&arn) {
            self.managed.push(arn);
        }
    }

    /// Allows it to send to a queue.
    pub fn may_send(&mut self, policy: String, queue: &Value) {
        let document = json!({
            "Statement": [{ "Action": "sqs:SendMessage", "Effect": "Allow", "Resource": queue }],
        });
        if !self.inline.iter().any(|known| known["PolicyDocument"] == document) {
            self.inline.push(json!({ "PolicyName": policy, "PolicyDocument": document }));
        }
    }

    /// Takes the properties `Role` and `Policies`: gives the role that the template names, or else attaches
    /// the policies. AWS ignores policies beside a role; they are refused here, since nobody means that.
    pub fn policies_unless_own(&mut self, given: &mut Properties) -> Result<Option<Value>, Refusal> {
        let at = given.at.key("Policies");
        let policies = given.take("Policies");
        let own = given.take("Role");
        if own.is_some() && policies.is_some() {
            return Err(at.refuse("has no effect beside Role"));
        }
        self.policies(policies, &at)?;
        Ok(own)
    }

    /// Attaches statements, and managed policies by name or ARN.
    fn policies(&mut self, policies: Option<Value>, at: &Place) -> Result<(), Refusal> {
        let policies = match policies {
            Some(Value::Array(items)) => items,
            one => one.into_iter().collect(),
        };
        for (index, policy) in policies.into_iter().enumerate() {
            match policy {
                Value::String(name) if name.starts_with("arn:") => self.managed.push(Value::String(name)),
                Value::String(name) if SERVICE_ROLES.contains(&name.as_str()) => {
                    self.managed(&format!("service-role/{name}"));
                }
                Value::String(name) => self.managed(&name),
                policy => match self.statement(policy, index) {
                    Some(policy) => self.inline.push(policy),
                    None => {
                        let reason = "only names, ARNs and statements are emulated, not SAM policy templates";
                        return Err(at.item(index).refuse(reason));
                    }
                },
            }
        }
        Ok(())
    }

    /// An inline policy of a statement document, or of an `Fn::If` that chooses one.
    fn statement(&self, policy: Value, index: usize) -> Option<Value> {
        let named = |document: Value| json!({ "PolicyName": format!("{}Policy{index}", self.id), "PolicyDocument": document });
        match policy {
            Value::Object(map) if map.contains_key("Statement") => Some(named(Value::Object(map))),
            Value::Object(map) if is_function(&map) => {
                let [condition, then, otherwise] = map.get("Fn::If")?.as_array()?.as_slice() else {
                    return None;
                };
                let branch = |branch: &Value| match branch {
                    Value::Object(map) if map.contains_key("Statement") => Some(named(branch.clone())),
                    no_value if *no_value == json!({ "Ref": "AWS::NoValue" }) => Some(branch.clone()),
                    _ => None,
                };
                Some(json!({ "Fn::If": [condition, branch(then)?, branch(otherwise)?] }))
            }
            _ => None,
        }
    }

    pub fn declared(self, tags: &Value, condition: Option<String>) -> (String, Declared) {
        let mut properties = json!({
            "AssumeRolePolicyDocument": assumed_by(self.service),
            "ManagedPolicyArns": self.managed,
            "Policies": self.inline,
            "Tags": tags,
        });
        for (key, value) in [("Path", self.path), ("PermissionsBoundary", self.boundary)] {
            if let Some(value) = value {
                properties[key] = value;
            }
        }
        (self.id, Declared::generated("AWS::IAM::Role", properties, condition))
    }
}

/// Managed policies under the path `service-role/`; SAM looks a name up in the account.
const SERVICE_ROLES: [&str; 4] = [
    "AWSLambdaBasicExecutionRole",
    "AWSLambdaDynamoDBExecutionRole",
    "AWSLambdaRole",
    "AWSLambdaSQSQueueExecutionRole",
];

/// The trust policy of a role that a service assumes.
pub(super) fn assumed_by(service: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Action": ["sts:AssumeRole"], "Effect": "Allow", "Principal": { "Service": [service] } }],
    })
}
