//! The forms of the query protocol, and its errors.
//! <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>

use axum::response::Response;
use cloud_core::AwsError;
use serde_json::{Map, Value, json};

use super::request::Request;
use super::response::respond;
use super::xml::Xml;

pub(super) const XML: &str = "text/xml";

/// No list of the emulated actions is longer. It bounds what a hostile index can allocate.
const MAX_LIST: usize = 1000;

/// Reads `A.member.1.B=x` as `{"A": [{"B": "x"}]}`. All values are text, because a form has no types.
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

fn put(into: &mut Value, parts: &[&str], value: &str) -> Option<()> {
    let Some((part, rest)) = parts.split_first() else {
        *into = value.into();
        return Some(());
    };
    let number = part.parse::<usize>().ok();
    if into.is_null() {
        *into = if number.is_some() { json!([]) } else { json!({}) };
    }
    let place = match number {
        Some(number) => {
            let list = into.as_array_mut()?;
            let index = number.checked_sub(1).filter(|index| *index < MAX_LIST)?;
            if list.len() <= index {
                list.resize(index + 1, Value::Null);
            }
            list.get_mut(index)?
        }
        None => into.as_object_mut()?.entry(*part).or_insert(Value::Null),
    };
    put(place, rest, value)
}

/// `<{action}Response>` with what `result` writes, and the request id.
pub(super) fn success(
    request: &Request,
    namespace: &str,
    action: &str,
    result: impl FnOnce(&mut Xml),
) -> Response {
    let body = Xml::new().root(&format!("{action}Response"), namespace, |xml| {
        result(xml);
        xml.element("ResponseMetadata", |xml| xml.text("RequestId", &request.id));
    });
    respond(200, XML, body)
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
}
