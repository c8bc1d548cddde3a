//! The query protocol: a form with `Action` and `Version`, XML as the answer.
//! <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>

use std::sync::Arc;

use axum::response::Response;
use cloud_core::service::Protocol;
use cloud_core::{AwsError, Cloud};
use serde_json::{Value, json};

use super::request::Request;
use super::response::set_header;
use super::xml::Xml;
use super::{form, query_sqs};

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    let fields = request.form();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
    let action = field("Action");
    let (service, namespace) = service_of(cloud, request, field("Version"));
    let mut response = if service == "sqs" {
        query_sqs::handle(cloud, request, namespace, action).await
    } else {
        match answer(cloud, service, action, &fields).await {
            Ok(result) => form::success(request, namespace, action, |xml| {
                xml.element(&format!("{action}Result"), |xml| write(xml, &result));
            }),
            Err(error) => form::refuse(request, namespace, &error),
        }
    };
    set_header(&mut response, "x-amzn-requestid", &request.id);
    response
}

/// The command line asks STS who it is: its API version and XML namespace, as rows have them.
const STS: (&str, &str, &str) = ("sts", "2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/");

/// Name and XML namespace of the service, by its signature or by its API version.
fn service_of<'a>(cloud: &Cloud, request: &'a Request, version: &str) -> (&'a str, &'static str) {
    let spoken = cloud.services().flat_map(|row| row.protocols.iter().map(|protocol| (row.name, protocol)));
    let rows = spoken.filter_map(|(name, protocol)| match *protocol {
        Protocol::Query { version, namespace } => Some((name, version, namespace)),
        _ => None,
    });
    let mut rows = rows.chain([STS]);
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
    fields: &[(String, String)],
) -> Result<Value, AwsError> {
    match (service, action) {
        (_, "") => Err(AwsError::client("MissingAction", "The request names no Action.")),
        ("sts", "GetCallerIdentity") => Ok(json!({
            "Arn": format!("arn:aws:iam::{}:root", cloud.settings.account),
            "UserId": cloud.settings.account,
            "Account": cloud.settings.account,
        })),
        _ => cloud.call(service, action, form::decode(fields)?).await,
    }
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
        other => xml.value(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_members_and_what_is_absent_is_not_written() {
        let mut xml = Xml::new();
        write(&mut xml, &json!({"Reason": null, "Outputs": [{"OutputKey": "k"}], "Retain": false}));
        let text = xml.root("X", "", |_| {});
        let expected = "<Outputs><member><OutputKey>k</OutputKey></member></Outputs><Retain>false</Retain>";
        assert!(text.contains(expected) && !text.contains("Reason"), "{text}");
    }
}
