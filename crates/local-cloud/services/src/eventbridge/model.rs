//! Rules and targets as templates and API callers write them, and the checks that both share.

use std::collections::BTreeMap;

use cloud_languages::event_pattern::Pattern;
use cloud_languages::input_template::{Path, Template};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::violation;

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html>
const MAX_PATTERN_LENGTH: usize = 2048;

/// A target of a rule. A member that is not listed (`SqsParameters`, `EcsParameters`, ...)
/// is refused when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Target {
    /// Unique in the rule.
    pub id: String,
    /// What receives the event.
    pub arn: String,
    /// No effect here: permissions are not enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Constant JSON that is sent in the event's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The part of the event that is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_path: Option<String>,
    /// A text made of parts of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_transformer: Option<InputTransformer>,
    /// How long delivery is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Where events go that could not be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_config: Option<DeadLetterConfig>,
}

/// Named paths and a template with their names in angle brackets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct InputTransformer {
    /// Variable to JSON path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_paths_map: BTreeMap<String, String>,
    /// The text.
    pub input_template: String,
}

/// Limits of retrying; the defaults are AWS's (185 times, 24 hours).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct RetryPolicy {
    /// 0 to 185.
    #[serde(default = "max_attempts")]
    pub maximum_retry_attempts: i64,
    /// 60 to 86,400 seconds.
    #[serde(default = "max_age")]
    pub maximum_event_age_in_seconds: i64,
}

fn max_attempts() -> i64 {
    185
}

fn max_age() -> i64 {
    86_400
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { maximum_retry_attempts: max_attempts(), maximum_event_age_in_seconds: max_age() }
    }
}

/// A dead-letter queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct DeadLetterConfig {
    /// The ARN of a standard queue.
    pub arn: Option<String>,
}

/// What kind of thing receives an event; the text is what names it.
#[derive(Debug, Clone, PartialEq)]
pub enum Receiver {
    /// A function's ARN.
    Function(String),
    /// A state machine's ARN.
    StateMachine(String),
    /// A bus's name.
    Bus(String),
    /// A log group's name.
    LogGroup(String),
    /// A queue's name.
    Queue(String),
}

impl Receiver {
    /// Reads a target's ARN.
    ///
    /// # Errors
    /// One sentence, for what cannot be a target here.
    pub fn parse(arn: &str) -> Result<Self, String> {
        let mut parts = arn.splitn(6, ':');
        let (Some("arn"), Some(_), Some(service), Some(_), Some(_), Some(resource)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
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
    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RetryPolicy.html>
    fn check(&self, member: &str) -> Result<(), String> {
        for (name, value, least, most) in [
            ("maximumRetryAttempts", self.maximum_retry_attempts, 0, 185),
            ("maximumEventAgeInSeconds", self.maximum_event_age_in_seconds, 60, 86_400),
        ] {
            let bound = match value {
                value if value < least => format!("greater than or equal to {least}"),
                value if value > most => format!("less than or equal to {most}"),
                _ => continue,
            };
            let constraint = format!("Member must have value {bound}");
            return Err(violation(value, &format!("{member}.{name}"), &constraint));
        }
        Ok(())
    }
}

impl Target {
    /// Checks what EventBridge checks when a target is put; `member` is where it stands.
    ///
    /// # Errors
    /// One sentence that names what is wrong.
    pub fn check(&self, member: &str) -> Result<(), String> {
        let receiver = Receiver::parse(&self.arn)?;
        let inputs = [self.input.is_some(), self.input_path.is_some(), self.input_transformer.is_some()];
        let inputs = inputs.iter().filter(|given| **given).count();
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
            let read = serde_json::from_str::<serde::de::IgnoredAny>(input);
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

    /// The ARN of the dead-letter queue.
    pub fn dead_letter_queue(&self) -> Option<&str> {
        self.dead_letter_config.as_ref()?.arn.as_deref()
    }

    /// What the target is sent for an event.
    pub fn payload(&self, event: &Value, rule_arn: &str, ingested: &str) -> String {
        if let Some(input) = &self.input {
            return input.clone();
        }
        if let Some(path) = &self.input_path {
            let found = Path::parse(path).ok().and_then(|path| path.find(event).cloned());
            return found.unwrap_or(Value::Null).to_string();
        }
        match &self.input_transformer {
            Some(transformer) => transformer.apply(event, rule_arn, ingested),
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

    fn apply(&self, event: &Value, rule_arn: &str, ingested: &str) -> String {
        Template::parse(&self.input_template).render(|name| match name {
            "aws.events.rule-arn" => Some(rule_arn.into()),
            "aws.events.rule-name" => rule_arn.rsplit('/').next().map(Value::from),
            "aws.events.event.ingestion-time" => Some(ingested.into()),
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

/// Reads a pattern's text, as PutRule takes it.
///
/// # Errors
/// The reason, for `InvalidEventPatternException`.
pub fn parse_pattern(text: &str) -> Result<Pattern, String> {
    if text.len() > MAX_PATTERN_LENGTH {
        return Err(format!("the event pattern is longer than {MAX_PATTERN_LENGTH} characters"));
    }
    let pattern: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Pattern::parse(&pattern)
}

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
        assert_eq!(target(json!({})).payload(&event, RULE, "t"), event.to_string());
        assert_eq!(target(json!({ "Input": "[1]" })).payload(&event, RULE, "t"), "[1]");
        assert_eq!(target(json!({ "InputPath": "$.detail.a" })).payload(&event, RULE, "t"), r#"{"b":2}"#);
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
        let payload: Value = serde_json::from_str(&target.payload(&event, RULE, "t")).unwrap();
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
