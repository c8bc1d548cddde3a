//! The target of a rule, in the form of templates and API calls: the receiver, and its input.

use std::collections::BTreeMap;

use cloud_core::api::check_number;
use cloud_core::clock::rfc3339_seconds;
use cloud_languages::input_template::{Path, Template};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Other members (`SqsParameters`, `EcsParameters`, ...) are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Target {
    pub id: String,
    pub arn: String,
    /// No effect here: permissions are not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Constant JSON, sent instead of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_transformer: Option<InputTransformer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_config: Option<DeadLetterConfig>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct InputTransformer {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    input_paths_map: BTreeMap<String, String>,
    input_template: String,
}

/// AWS's defaults are 185 attempts and 24 hours.
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RetryPolicy.html>
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
pub struct RetryPolicy {
    pub maximum_retry_attempts: i64,
    pub maximum_event_age_in_seconds: i64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { maximum_retry_attempts: 185, maximum_event_age_in_seconds: 86_400 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct DeadLetterConfig {
    /// The ARN of a standard queue.
    pub arn: Option<String>,
}

/// The receiver of an event: functions and state machines by ARN, the others by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Receiver {
    Function(String),
    StateMachine(String),
    Bus(String),
    LogGroup(String),
    Queue(String),
}

impl Receiver {
    /// Reads a target's ARN; refuses one that cannot be a target here.
    pub fn parse(arn: &str) -> Result<Self, String> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", _, service, _, _, resource] = parts[..] else {
            return Err(format!(
                "Parameter {arn} is not valid. Reason: Provided Arn is not in correct format."
            ));
        };
        match service {
            "lambda" if resource.starts_with("function:") => Ok(Self::Function(arn.to_owned())),
            "states" if resource.starts_with("stateMachine:") => Ok(Self::StateMachine(arn.to_owned())),
            "sqs" => Ok(Self::Queue(resource.to_owned())),
            "logs" => match resource.strip_prefix("log-group:") {
                Some(name) => Ok(Self::LogGroup(name.trim_end_matches(":*").to_owned())),
                None => Err(format!("`{arn}` is not a log group")),
            },
            "events" => match resource.strip_prefix("event-bus/") {
                Some(name) => Ok(Self::Bus(name.to_owned())),
                None => Err(format!("a target of kind `{resource}` is not emulated")),
            },
            _ => Err(format!("the target `{arn}` is not emulated")),
        }
    }
}

impl RetryPolicy {
    fn check(&self, member: &str) -> Result<(), String> {
        let named = |name: &str| format!("{member}.{name}");
        check_number(&named("maximumRetryAttempts"), self.maximum_retry_attempts, 0..=185)?;
        let age = self.maximum_event_age_in_seconds;
        check_number(&named("maximumEventAgeInSeconds"), age, 60..=86_400)
    }
}

impl Target {
    /// Checks what PutTargets checks; `member` is the target's place in the input.
    pub fn check(&self, member: &str) -> Result<(), String> {
        let receiver = Receiver::parse(&self.arn)?;
        let inputs = [self.input.is_some(), self.input_path.is_some(), self.input_transformer.is_some()];
        let inputs = inputs.into_iter().filter(|given| *given).count();
        if inputs > 1 {
            return Err(format!(
                "Only one of Input, InputPath, or InputTransformer must be provided for target {}.",
                self.id
            ));
        }
        if inputs > 0 && matches!(receiver, Receiver::Bus(_) | Receiver::LogGroup(_)) {
            return Err(format!(
                "Input, InputPath and InputTransformer are not emulated for buses and log groups, as target {} is one.",
                self.id
            ));
        }
        if let Some(input) = &self.input {
            let read = serde_json::from_str::<IgnoredAny>(input);
            read.map_err(|error| format!("JSON syntax error in input for target {}: {error}", self.id))?;
        }
        if let Some(path) = &self.input_path {
            Path::parse(path)?;
        }
        if let Some(transformer) = &self.input_transformer {
            transformer.check()?;
        }
        if let Some(policy) = &self.retry_policy {
            policy.check(&format!("{member}.retryPolicy"))?;
        }
        match self.dead_letter_queue().map(Receiver::parse) {
            None | Some(Ok(Receiver::Queue(_))) => Ok(()),
            Some(_) => Err("DeadLetterConfig.Arn is not the ARN of a queue".into()),
        }
    }

    /// The queue's ARN.
    pub fn dead_letter_queue(&self) -> Option<&str> {
        self.dead_letter_config.as_ref()?.arn.as_deref()
    }

    /// The target's input for an event that was accepted at `accepted_ms`.
    pub fn payload(&self, event: &Value, rule_arn: &str, accepted_ms: i64) -> String {
        if let Some(input) = &self.input {
            return input.clone();
        }
        if let Some(path) = &self.input_path {
            let found = Path::parse(path).ok().and_then(|path| path.find(event).cloned());
            return found.unwrap_or(Value::Null).to_string();
        }
        match &self.input_transformer {
            Some(transformer) => transformer.apply(event, rule_arn, accepted_ms),
            None => event.to_string(),
        }
    }
}

impl InputTransformer {
    fn check(&self) -> Result<(), String> {
        // https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_InputTransformer.html
        if self.input_paths_map.len() > 100 {
            return Err("InputPathsMap takes at most 100 entries".into());
        }
        for (name, path) in &self.input_paths_map {
            if name.to_ascii_lowercase().starts_with("aws") {
                return Err(format!("the InputPathsMap key `{name}` must not start with AWS"));
            }
            Path::parse(path)?;
        }
        for name in Template::parse(&self.input_template).names() {
            if !self.input_paths_map.contains_key(name) && !PREDEFINED.contains(&name) {
                return Err(format!("InputTemplate uses <{name}>, which InputPathsMap does not define"));
            }
        }
        Ok(())
    }

    fn apply(&self, event: &Value, rule_arn: &str, accepted_ms: i64) -> String {
        Template::parse(&self.input_template).render(|name| match name {
            "aws.events.rule-arn" => Some(rule_arn.into()),
            "aws.events.rule-name" => rule_arn.rsplit('/').next().map(Value::from),
            "aws.events.event.ingestion-time" => Some(rfc3339_seconds(accepted_ms).into()),
            "aws.events.event.json" => Some(event.clone()),
            "aws.events.event" => {
                let mut event = event.clone();
                event.as_object_mut().map(|members| members.remove("detail"));
                Some(event)
            }
            _ => Path::parse(self.input_paths_map.get(name)?).ok()?.find(event).cloned(),
        })
    }
}

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html#eb-transform-input-predefined>
const PREDEFINED: [&str; 5] = [
    "aws.events.rule-arn",
    "aws.events.rule-name",
    "aws.events.event.ingestion-time",
    "aws.events.event",
    "aws.events.event.json",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(members: Value) -> Target {
        let mut target = json!({ "Id": "t", "Arn": "arn:aws:sqs:us-east-1:123456789012:q" });
        for (name, member) in members.as_object().unwrap() {
            target[name] = member.clone();
        }
        serde_json::from_value(target).unwrap()
    }

    const RULE: &str = "arn:aws:events:us-east-1:123456789012:rule/bus/my-rule";

    #[test]
    fn a_target_gets_the_event_or_a_part_or_a_constant() {
        let event = json!({ "id": "1", "detail": { "a": { "b": 2 } } });
        assert_eq!(target(json!({})).payload(&event, RULE, 0), event.to_string());
        assert_eq!(target(json!({ "Input": "[1]" })).payload(&event, RULE, 0), "[1]");
        assert_eq!(target(json!({ "InputPath": "$.detail.a" })).payload(&event, RULE, 0), r#"{"b":2}"#);
    }

    #[test]
    fn an_input_transformer_fills_its_template() {
        let event = json!({ "id": "1", "detail": { "instance": "i-1", "list": [1] } });
        let transformer = json!({ "InputTransformer": {
            "InputPathsMap": { "i": "$.detail.instance", "l": "$.detail.list" },
            "InputTemplate": "{\"i\": <i>, \"l\": <l>, \"text\": \"<i> by <aws.events.rule-name>\", \"e\": <aws.events.event>}"
        }});
        let target = target(transformer);
        target.check("targets.1.member").unwrap();
        let payload: Value = serde_json::from_str(&target.payload(&event, RULE, 0)).unwrap();
        assert_eq!(payload, json!({ "i": "i-1", "l": [1], "text": "i-1 by my-rule", "e": { "id": "1" } }));
    }

    #[test]
    fn without_a_policy_delivery_is_tried_185_times_within_a_day() {
        let half: RetryPolicy = serde_json::from_value(json!({ "MaximumRetryAttempts": 0 })).unwrap();
        assert_eq!((half.maximum_retry_attempts, half.maximum_event_age_in_seconds), (0, 86_400));
        let none = RetryPolicy::default();
        assert_eq!((none.maximum_retry_attempts, none.maximum_event_age_in_seconds), (185, 86_400));
    }

    #[test]
    fn a_target_that_cannot_be_honoured_is_refused() {
        let refusal = |members: Value| target(members).check("targets.1.member").unwrap_err();
        assert!(refusal(json!({ "Input": "{" })).starts_with("JSON syntax error in input for target t"));
        assert!(refusal(json!({ "Input": "1", "InputPath": "$" })).starts_with("Only one of Input"));
        assert!(refusal(json!({ "RetryPolicy": { "MaximumRetryAttempts": 186 } })).contains("185"));
        assert!(refusal(json!({ "RetryPolicy": { "MaximumEventAgeInSeconds": 59 } })).contains("60"));
        assert_eq!(
            refusal(json!({ "RetryPolicy": { "MaximumRetryAttempts": -1 } })),
            "1 validation error detected: Value '-1' at 'targets.1.member.retryPolicy.maximumRetryAttempts' failed to satisfy constraint: Member must have value greater than or equal to 0"
        );
        assert_eq!(
            refusal(json!({ "Arn": "xyz" })),
            "Parameter xyz is not valid. Reason: Provided Arn is not in correct format."
        );
        assert!(refusal(json!({ "Arn": "arn:aws:sns:us-east-1:1:t" })).contains("not emulated"));
        assert!(
            refusal(json!({ "DeadLetterConfig": { "Arn": "arn:aws:sns:us-east-1:1:t" } })).contains("queue")
        );
        assert!(refusal(json!({ "InputTransformer": { "InputTemplate": "<x>" } })).contains("<x>"));
        let unknown = json!({ "Id": "t", "Arn": "a", "SqsParameters": {} });
        let error = serde_json::from_value::<Target>(unknown).unwrap_err().to_string();
        assert!(error.contains("SqsParameters"), "{error}");
    }
}
