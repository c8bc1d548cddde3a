//! Events of type `EventBridgeRule`: a rule with one target, and its dead-letter queue.

use cloud_core::resource::Refusal;
use serde_json::{Value, json};

use super::generated::{Generated, get_att_arn};
use super::properties::Properties;
use crate::template::document::Declared;

/// The target of the rule.
pub(super) struct Target {
    pub arn: Value,
    /// Of the target's id, where the template gives none.
    pub suffix: &'static str,
    /// The role that EventBridge assumes; functions have a permission instead.
    pub role: Option<Value>,
}

/// The rule `id`, and with `DeadLetterConfig.Type: SQS` a queue and its policy.
pub(super) fn transform(
    id: &str,
    mut given: Properties,
    target: Target,
    condition: &Option<String>,
) -> Result<Generated, Refusal> {
    let mut resources = Vec::new();
    given.pass(&["EventBusName", "State"]);
    let pattern = given.require("Pattern")?;
    given.set("EventPattern", pattern);
    given.rename("RuleName", "Name");
    let target_id = match given.take("Target") {
        Some(named) => {
            let mut named = Properties::below(named, given.at.key("Target"), "Target")?;
            let id = named.require("Id")?;
            named.finish()?;
            id
        }
        None => Value::String(target_id(id, target.suffix)),
    };
    let mut out = json!({ "Id": target_id, "Arn": target.arn });
    if let Some(role) = target.role {
        out["RoleArn"] = role;
    }
    for (key, value) in given.take_all(&["Input", "InputPath", "InputTransformer", "RetryPolicy"]) {
        out[key] = value;
    }
    if let Some(config) = given.take("DeadLetterConfig") {
        let at = given.at.key("DeadLetterConfig");
        let mut config = Properties::below(config, at.clone(), "DeadLetterConfig")?;
        let arn = match (config.take("Arn"), config.take("Type")) {
            (Some(arn), None) => arn,
            (None, Some(kind)) if kind == "SQS" => {
                let queue = match config.take("QueueLogicalId") {
                    Some(Value::String(id)) => id,
                    Some(_) => return Err(at.key("QueueLogicalId").refuse("must be a literal text")),
                    None => format!("{id}Queue"),
                };
                resources.extend(dead_letter_queue(id, &queue, condition));
                get_att_arn(&queue)
            }
            _ => return Err(at.refuse("needs either Arn or Type: SQS")),
        };
        config.finish()?;
        out["DeadLetterConfig"] = json!({ "Arn": arn });
    }
    given.set("Targets", json!([out]));
    let rule = Declared::generated("AWS::Events::Rule", given.finish()?.into(), condition.clone());
    resources.push((id.to_owned(), rule));
    Ok(resources)
}

fn dead_letter_queue(rule: &str, queue: &str, condition: &Option<String>) -> Generated {
    let policy = json!({
        "Queues": [{ "Ref": queue }],
        "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{
                "Action": "sqs:SendMessage",
                "Effect": "Allow",
                "Principal": { "Service": "events.amazonaws.com" },
                "Resource": get_att_arn(queue),
                "Condition": { "ArnEquals": { "aws:SourceArn": get_att_arn(rule) } },
            }],
        },
    });
    let generate = |kind, properties| Declared::generated(kind, properties, condition.clone());
    vec![
        (queue.to_owned(), generate("AWS::SQS::Queue", json!({}))),
        (format!("{rule}QueuePolicy"), generate("AWS::SQS::QueuePolicy", policy)),
    ]
}

/// EventBridge takes ids of 64 characters, and SAM cuts longer ones before the suffix.
fn target_id(id: &str, suffix: &str) -> String {
    id.chars().take(64_usize.saturating_sub(suffix.len())).chain(suffix.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::target_id;

    #[test]
    fn the_id_of_a_target_is_cut_to_64_characters_before_its_suffix() {
        assert_eq!(target_id("MachineStart", "StepFunctionsTarget"), "MachineStartStepFunctionsTarget");
        let long = target_id("ApprovalStateMachinePublicationApprovalRequested", "StepFunctionsTarget");
        assert_eq!(long, "ApprovalStateMachinePublicationApprovalRequesStepFunctionsTarget");
    }
}
