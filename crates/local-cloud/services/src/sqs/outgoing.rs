//! A message to send, and the checks that SQS makes before it accepts it.

use cloud_core::AwsError;
use cloud_core::api::is_name;
use serde::Deserialize;

use super::digest::{Attribute, Attributes};
use super::fault;
use super::queue::Queue;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Outgoing {
    /// The entry's id in a batch.
    pub id: Option<String>,
    pub message_body: Option<String>,
    pub delay_seconds: Option<i64>,
    #[serde(default)]
    pub message_attributes: Attributes,
    #[serde(default)]
    pub message_system_attributes: Attributes,
    pub message_group_id: Option<String>,
    /// FIFO queues only.
    pub message_deduplication_id: Option<String>,
}

impl Outgoing {
    pub fn body(&self) -> &str {
        self.message_body.as_deref().unwrap_or_default()
    }

    /// Bytes that count against the limits: body and attributes, names and types included
    /// (SQSDeveloperGuide, quotas-messages, sqs-message-metadata).
    pub fn size(&self) -> usize {
        let attributes = self.message_attributes.iter().map(|(name, attribute)| {
            name.len() + attribute.data_type.len() + attribute.bytes().map_or(0, |value| value.len())
        });
        self.body().len() + attributes.sum::<usize>()
    }

    pub fn check(&self, queue: &Queue) -> Result<(), AwsError> {
        if self.body().is_empty() {
            return Err(fault::missing("MessageBody"));
        }
        check_text(self.body())?;
        if let Some(delay) = self.delay_seconds.filter(|delay| !(0..=900).contains(delay)) {
            let reason = "DelaySeconds must be >= 0 and <= 900.";
            return Err(fault::invalid_value(delay, "DelaySeconds", reason));
        }
        if let Some(id) = &self.message_deduplication_id {
            let reason = "The request include parameter that is not valid for this queue type.";
            return Err(fault::invalid_value(id, "MessageDeduplicationId", reason));
        }
        let sound = |group: &str| group.len() <= 128 && group.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(group) = self.message_group_id.as_ref().filter(|group| group.is_empty() || !sound(group))
        {
            let reason = "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.";
            return Err(fault::invalid_value(group, "MessageGroupId", reason));
        }
        check_attributes(&self.message_attributes)?;
        // The only system attribute that a sender may set (API_SendMessage).
        let trace = |name: &str, attribute: &Attribute| {
            name == "AWSTraceHeader" && attribute.data_type == "String" && attribute.string_value.is_some()
        };
        let mut system = self.message_system_attributes.iter();
        if let Some((name, _)) = system.find(|(name, attribute)| !trace(name, attribute)) {
            return Err(fault::invalid(format!("Message system attribute name '{name}' is invalid.")));
        }
        let limit = queue.number("MaximumMessageSize") as usize;
        if self.size() > limit {
            return Err(fault::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes."
            )));
        }
        Ok(())
    }
}

/// The characters of XML 1.0 (API_SendMessage).
fn check_text(text: &str) -> Result<(), AwsError> {
    let allowed = |character| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    if text.chars().all(allowed) { Ok(()) } else { Err(fault::contents()) }
}

/// The rules of SQSDeveloperGuide, sqs-message-metadata.
fn check_attributes(attributes: &Attributes) -> Result<(), AwsError> {
    if attributes.len() > 10 {
        let count = attributes.len();
        let message = format!("Number of message attributes [{count}] exceeds the allowed maximum [10].");
        return Err(fault::invalid(message));
    }
    for (name, attribute) in attributes {
        let lower = name.to_ascii_lowercase();
        let sound = name.len() <= 256
            && is_name(name, "_-.")
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
            && !lower.starts_with("aws.")
            && !lower.starts_with("amazon.");
        if !sound {
            return Err(fault::invalid(format!("Message (user) attribute name '{name}' is invalid.")));
        }
        if !attribute.string_list_values.is_empty() || !attribute.binary_list_values.is_empty() {
            let message = "Message attribute list values in SendMessage operation are not supported.";
            return Err(fault::unsupported(message));
        }
        check_value(name, attribute)?;
    }
    Ok(())
}

fn check_value(name: &str, attribute: &Attribute) -> Result<(), AwsError> {
    let kind = attribute.data_type.split('.').next().unwrap_or_default();
    let refuse = |reason: String| Err(fault::invalid(reason));
    if attribute.data_type.len() > 256 || !matches!(kind, "String" | "Number" | "Binary") {
        return refuse(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the following supported type prefixes: Binary, Number, String."
        ));
    }
    let right_member = match kind {
        "Binary" => attribute.binary_value.is_some(),
        _ => attribute.string_value.is_some(),
    };
    if !right_member || attribute.bytes().is_none_or(|value| value.is_empty()) {
        return refuse(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
        ));
    }
    let text = attribute.string_value.as_deref().unwrap_or_default();
    check_text(text)?;
    if kind == "Number" && !text.parse::<f64>().is_ok_and(f64::is_finite) {
        return refuse(format!("Can't cast the value of message (user) attribute '{name}' to a number."));
    }
    Ok(())
}
