//! SendMessage over the query protocol, as API Gateway sends it to a queue.

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use percent_encoding::percent_decode;
use serde_json::{Value, json};

use super::digest::{Attribute, Attributes};
use super::message::{self, Sent};
use super::outgoing::Outgoing;
use super::{fault, store};

/// Answers a form (`Action=SendMessage&MessageBody=...`) that is posted to `/{account}/{queue}` with a status
/// and the JSON of SQS under `Accept: application/json` (`{"SendMessageResponse":{...}}` or
/// `{"Error":{"Code","Message","Type"},"RequestId"}`).
pub(crate) async fn query(cloud: &Arc<Cloud>, path: &str, form: &[u8]) -> (u16, Value) {
    let request = cloud.random.uuid();
    match send(cloud, path, form) {
        Ok(sent) => {
            let body = json!({ "SendMessageResponse": {
                "SendMessageResult": {
                    "MD5OfMessageAttributes": sent.attributes_md5,
                    "MD5OfMessageBody": sent.body_md5,
                    "MD5OfMessageSystemAttributes": sent.system_attributes_md5,
                    "MessageId": sent.message_id,
                    "SequenceNumber": null,
                },
                "ResponseMetadata": { "RequestId": request },
            }});
            (200, body)
        }
        Err(mut error) => {
            if error.code == "QueueDoesNotExist" {
                error.message = "The specified queue does not exist for this wsdl version.".into();
            }
            let kind = if error.is_server_fault() { "Receiver" } else { "Sender" };
            let fault = json!({ "Code": fault::query_code(&error), "Message": error.message, "Type": kind });
            (error.status, json!({ "Error": fault, "RequestId": request }))
        }
    }
}

fn send(cloud: &Cloud, path: &str, form: &[u8]) -> Result<Sent, AwsError> {
    let form = decode(form)?;
    let value = |name: &str| parameter(&form, name);
    match value("Action") {
        Some("SendMessage") => {}
        Some(other) => {
            return Err(AwsError::not_emulated("sqs", &format!("{other} over the query protocol")));
        }
        None => {
            return Err(AwsError::client("MissingAction", "The request must contain the parameter Action."));
        }
    }
    let queue = store::by_url(cloud, path)?;
    let delay = |text: &str| {
        let invalid = |_| fault::invalid_value(text, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.");
        text.parse().map_err(invalid)
    };
    // SQS ignores parameters that SendMessage does not have.
    let message = Outgoing {
        id: None,
        message_body: value("MessageBody").map(str::to_owned),
        delay_seconds: value("DelaySeconds").map(delay).transpose()?,
        message_attributes: attributes(&form, "MessageAttribute")?,
        message_system_attributes: attributes(&form, "MessageSystemAttribute")?,
        message_group_id: value("MessageGroupId").map(str::to_owned),
        message_deduplication_id: value("MessageDeduplicationId").map(str::to_owned),
    };
    message::send(cloud, &queue, message)
}

/// AWS does not document which of two values of a parameter counts; here it is the last.
fn parameter<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Reads `{prefix}.N.Name`, `.Value.StringValue`, `.Value.BinaryValue` and `.Value.DataType`, from 1 up to the
/// first missing number.
fn attributes(form: &[(String, String)], prefix: &str) -> Result<Attributes, AwsError> {
    let mut attributes = Attributes::new();
    for n in 1.. {
        let part = |suffix: &str| parameter(form, &format!("{prefix}.{n}.{suffix}")).map(str::to_owned);
        let Some(name) = part("Name") else { break };
        let untyped = || format!("The message attribute '{name}' must contain a message attribute type.");
        let attribute = Attribute {
            string_value: part("Value.StringValue"),
            binary_value: part("Value.BinaryValue"),
            data_type: part("Value.DataType").ok_or_else(|| fault::invalid(untyped()))?,
            ..Attribute::default()
        };
        if attributes.insert(name.clone(), attribute).is_some() {
            return Err(fault::invalid(format!("Message (user) attribute name '{name}' already exists.")));
        }
    }
    Ok(attributes)
}

/// Reads `application/x-www-form-urlencoded`: `+` is a space, `%XX` a byte. Refuses text that is not UTF-8.
fn decode(form: &[u8]) -> Result<Vec<(String, String)>, AwsError> {
    let text = |bytes: &[u8]| {
        let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        String::from_utf8(percent_decode(&spaced).collect())
            .map_err(|_| AwsError::client("MalformedQueryString", "The query string is not valid UTF-8."))
    };
    form.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut sides = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
            Ok((text(name)?, text(value)?))
        })
        .collect()
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
