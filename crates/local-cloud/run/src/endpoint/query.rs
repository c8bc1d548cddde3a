//! The query protocol: a form with `Action` and `Version`, XML as the answer.
//! <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>

use std::sync::Arc;

use axum::response::Response;
use cloud_core::service::Protocol;
use cloud_core::{AwsError, Cloud};
use serde_json::{Map, Value, json};

use super::request::Request;
use super::xml::Xml;
use super::{query_sqs, respond, set_header};

pub(super) const XML: &str = "text/xml";

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    let form = request.form();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
    let action = field("Action");
    let (service, namespace) = service_of(cloud, request, field("Version"));
    let mut response = if service == "sqs" {
        query_sqs::handle(cloud, request, action).await
    } else {
        match answer(cloud, service, action, &form).await {
            Ok(result) => success(request, namespace, action, &result),
            Err(error) => refuse(request, namespace, &error),
        }
    };
    set_header(&mut response, "x-amzn-requestid", &request.id);
    response
}

/// Services of which the command line asks one thing, or that are refused by name: with their API versions
/// and XML namespaces.
const OTHERS: [(&str, &str, &str); 2] = [
    ("sts", "2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"),
    ("iam", "2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/"),
];

/// Name and XML namespace of the service, known by its signature or by its API version.
fn service_of<'a>(cloud: &Cloud, request: &'a Request, version: &str) -> (&'a str, &'static str) {
    let spoken = cloud.services().flat_map(|row| row.protocols.iter().map(|protocol| (row.name, protocol)));
    let rows = spoken.filter_map(|(name, protocol)| match *protocol {
        Protocol::Query { version, namespace } => Some((name, version, namespace)),
        _ => None,
    });
    let mut rows = rows.chain(OTHERS);
    match request.signed_service() {
        Some(signed) => {
            let row = rows.find(|(name, ..)| *name == signed);
            (signed, row.map_or("", |(.., namespace)| namespace))
        }
        None => {
            let row = rows.find(|(_, known, _)| *known == version);
            row.map_or(("this service", ""), |(name, _, namespace)| (name, namespace))
        }
    }
}

async fn answer(
    cloud: &Arc<Cloud>,
    service: &str,
    action: &str,
    form: &[(String, String)],
) -> Result<Value, AwsError> {
    match (service, action) {
        (_, "") => Err(AwsError::client("MissingAction", "The request names no Action.")),
        ("sts", "GetCallerIdentity") => Ok(json!({
            "Arn": format!("arn:aws:iam::{}:root", cloud.settings.account),
            "UserId": cloud.settings.account,
            "Account": cloud.settings.account,
        })),
        _ => cloud.call(service, action, decode(form)?).await,
    }
}

/// `A.member.1.B=x` as `{"A": [{"B": "x"}]}`. All values are text: a form knows no types.
pub(super) fn decode(form: &[(String, String)]) -> Result<Value, AwsError> {
    let mut input = Value::Object(Map::new());
    for (name, value) in form {
        if matches!(name.as_str(), "Action" | "Version") || name.starts_with("X-Amz-") {
            continue;
        }
        let parts: Vec<&str> = name.split('.').filter(|part| *part != "member").collect();
        put(&mut input, &parts, value)
            .ok_or_else(|| AwsError::client("MalformedQueryString", format!("{name} cannot be read.")))?;
    }
    Ok(input)
}

/// No list of the emulated actions is longer; bounds what a hostile index can allocate.
const LONGEST_LIST: usize = 1000;

fn put(into: &mut Value, parts: &[&str], value: &str) -> Option<()> {
    let Some((part, rest)) = parts.split_first() else {
        *into = value.into();
        return Some(());
    };
    let place = match part.parse::<usize>() {
        Ok(number) => {
            if into.is_null() {
                *into = json!([]);
            }
            let list = into.as_array_mut()?;
            let index = number.checked_sub(1).filter(|index| *index < LONGEST_LIST)?;
            if list.len() <= index {
                list.resize(index + 1, Value::Null);
            }
            list.get_mut(index)?
        }
        Err(_) => {
            if into.is_null() {
                *into = json!({});
            }
            into.as_object_mut()?.entry(*part).or_insert(Value::Null)
        }
    };
    put(place, rest, value)
}

fn success(request: &Request, namespace: &str, action: &str, result: &Value) -> Response {
    let body = Xml::new().root(&format!("{action}Response"), namespace, |xml| {
        xml.element(&format!("{action}Result"), |xml| write(xml, result));
        xml.element("ResponseMetadata", |xml| xml.text("RequestId", &request.id));
    });
    respond(200, XML, body)
}

/// Times are text already: ISO 8601, as this protocol writes them.
fn write(xml: &mut Xml, value: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(_, member)| !member.is_null()) {
                xml.element(name, |xml| write(xml, member));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| xml.element("member", |xml| write(xml, item))),
        Value::String(text) => xml.content(text),
        Value::Null => {}
        other => xml.content(&other.to_string()),
    }
}

pub(super) fn refuse(request: &Request, namespace: &str, error: &AwsError) -> Response {
    let body = Xml::new().root("ErrorResponse", namespace, |xml| {
        xml.element("Error", |xml| {
            xml.text("Type", if error.is_server_fault() { "Receiver" } else { "Sender" });
            xml.text("Code", &error.code);
            xml.text("Message", &error.message);
        });
        xml.text("RequestId", &request.id);
    });
    respond(error.status, XML, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(form: &[(&str, &str)]) -> Vec<(String, String)> {
        form.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn members_of_a_form_become_lists_and_objects() {
        let form = pairs(&[
            ("Action", "CreateStack"),
            ("StackName", "s"),
            ("Parameters.member.1.ParameterKey", "Stage"),
            ("Parameters.member.1.ParameterValue", "local"),
            ("Capabilities.member.1", "A"),
            ("Capabilities.member.2", "B"),
        ]);
        assert_eq!(
            decode(&form).unwrap(),
            json!({
                "StackName": "s",
                "Parameters": [{"ParameterKey": "Stage", "ParameterValue": "local"}],
                "Capabilities": ["A", "B"],
            })
        );
    }

    #[test]
    fn a_form_that_contradicts_itself_is_refused() {
        assert!(decode(&pairs(&[("A", "x"), ("A.B", "y")])).is_err());
        assert!(decode(&pairs(&[("A.member.999999999", "y")])).is_err());
    }

    #[test]
    fn lists_hold_members_and_what_is_absent_is_not_written() {
        let mut xml = Xml::new();
        write(&mut xml, &json!({"Reason": null, "Outputs": [{"OutputKey": "k"}], "Retain": false}));
        let text = xml.root("X", "", |_| {});
        let expected = "<Outputs><member><OutputKey>k</OutputKey></member></Outputs><Retain>false</Retain>";
        assert!(text.contains(expected) && !text.contains("Reason"), "{text}");
    }
}
