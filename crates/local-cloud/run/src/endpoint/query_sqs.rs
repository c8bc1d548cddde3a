//! SQS over the query protocol, which its clients spoke before November 2023, such as version 2.9 of the
//! AWS command line (Debian's). The members are those of the JSON protocol under other names: lists and maps
//! are flattened, and have the name of one item.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-xml.html>

use std::sync::Arc;

use axum::response::Response;
use cloud_core::{AwsError, Cloud};
use serde_json::{Map, Value};

use super::form;
use super::request::Request;
use super::xml::Xml;

/// Numbers in JSON; a form has no types.
#[rustfmt::skip]
const NUMBERS: [&str; 6] = [
    "VisibilityTimeout", "DelaySeconds", "MaxNumberOfMessages", "WaitTimeSeconds", "MaxResults",
    "MaxNumberOfMessagesPerSecond",
];

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request, namespace: &str, action: &str) -> Response {
    let answer = async { cloud.call("sqs", action, input(request, action)?).await };
    match answer.await {
        Ok(result) => form::success(request, namespace, action, |xml| {
            if result.as_object().is_some_and(|members| !members.is_empty()) {
                xml.element(&format!("{action}Result"), |xml| write(xml, action, &result));
            }
        }),
        Err(mut error) => {
            if let Some(Value::String(code)) = error.details.remove("QueryErrorCode") {
                error.code = code;
            }
            form::refuse(request, namespace, &error)
        }
    }
}

fn input(request: &Request, action: &str) -> Result<Value, AwsError> {
    let Value::Object(fields) = form::decode(&request.form())? else { return Ok(Value::Null) };
    let mut input = members_of(action, fields)?;
    // Clients post to the address of the queue, and not all name it in the form as well.
    if request.path != "/" {
        input.entry("QueueUrl").or_insert_with(|| request.path.clone().into());
    }
    Ok(input.into())
}

/// The members of a request, or of an entry of a batch, as the JSON protocol names and types them.
fn members_of(action: &str, form: Map<String, Value>) -> Result<Map<String, Value>, AwsError> {
    let entry = format!("{action}RequestEntry");
    let mut members = Map::new();
    for (name, value) in form {
        let (name, value) = match name.as_str() {
            "Attribute" => ("Attributes", pairs(value, "Name")),
            "MessageAttribute" => ("MessageAttributes", pairs(value, "Name")),
            "MessageSystemAttribute" => ("MessageSystemAttributes", pairs(value, "Name")),
            "Tag" if action == "CreateQueue" => ("tags", pairs(value, "Key")),
            "Tag" => ("Tags", pairs(value, "Key")),
            "AttributeName" => ("AttributeNames", items(value).into()),
            "MessageAttributeName" => ("MessageAttributeNames", items(value).into()),
            "MessageSystemAttributeName" => ("MessageSystemAttributeNames", items(value).into()),
            "TagKey" => ("TagKeys", items(value).into()),
            name if name == entry => {
                let entries = items(value).into_iter().map(|item| match item {
                    Value::Object(item) => members_of(action, item).map(Value::from),
                    other => Ok(other),
                });
                ("Entries", entries.collect::<Result<_, _>>()?)
            }
            name => (name, typed(name, value)?),
        };
        members.insert(name.into(), value);
    }
    Ok(members)
}

fn typed(name: &str, value: Value) -> Result<Value, AwsError> {
    match &value {
        Value::String(text) if NUMBERS.contains(&name) => text.parse().map(i64::into).map_err(|_| {
            let sentence =
                format!("Value {text} for parameter {name} is invalid. Reason: Must be an integer.");
            AwsError::client("InvalidParameterValue", sentence)
        }),
        _ => Ok(value),
    }
}

/// The items of a list, without the gaps in the form's numbers.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.into_iter().filter(|item| !item.is_null()).collect(),
        other => vec![other],
    }
}

/// `[{"Name": k, "Value": v}]` as `{k: v}`.
fn pairs(value: Value, key: &str) -> Value {
    let pair = |mut item: Value| {
        let name = item[key].as_str()?.to_string();
        Some((name, item["Value"].take()))
    };
    items(value).into_iter().filter_map(pair).collect::<Map<_, _>>().into()
}

fn write(xml: &mut Xml, action: &str, result: &Value) {
    for (name, member) in result.as_object().into_iter().flatten() {
        let item = match name.as_str() {
            "Messages" => "Message",
            "QueueUrls" | "queueUrls" => "QueueUrl",
            "Successful" => &format!("{action}ResultEntry"),
            "Failed" => "BatchResultErrorEntry",
            "Results" => "ListMessageMoveTasksResultEntry",
            "Attributes" => "Attribute",
            "MessageAttributes" => "MessageAttribute",
            "Tags" => "Tag",
            name => name,
        };
        match member {
            Value::Array(items) => {
                items.iter().for_each(|value| xml.element(item, |xml| content(xml, action, value)));
            }
            Value::Object(map) => map.iter().for_each(|pair| write_pair(xml, action, item, pair)),
            Value::Null => {}
            value => xml.element(item, |xml| content(xml, action, value)),
        }
    }
}

fn write_pair(xml: &mut Xml, action: &str, item: &str, (name, value): (&String, &Value)) {
    xml.element(item, |xml| {
        xml.text(if item == "Tag" { "Key" } else { "Name" }, name);
        xml.element("Value", |xml| content(xml, action, value));
    });
}

fn content(xml: &mut Xml, action: &str, value: &Value) {
    match value {
        Value::Object(_) => write(xml, action, value),
        other => xml.value(other),
    }
}
