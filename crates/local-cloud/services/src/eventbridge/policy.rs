//! The policies of buses: kept and shown, never enforced.

use cloud_core::Cloud;
use cloud_core::store::StoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::names::bus_arn;
use super::store;

/// The bus's policy document; `None` without statements.
pub fn document(cloud: &Cloud, bus: &str) -> Result<Option<String>, StoreError> {
    let statements = cloud.store.read(|db| store::statements(db, bus))?;
    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    Ok((!statements.is_empty()).then(|| document.to_string()))
}

/// The statements of a policy document, each with an id.
pub fn statements_of(document: &Value) -> Result<Vec<Value>, String> {
    let mut statements = match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        one @ Value::Object(_) => vec![one.clone()],
        _ => return Err("the policy has no Statement".into()),
    };
    for (index, statement) in statements.iter_mut().enumerate() {
        if statement["Sid"].is_null() {
            statement["Sid"] = format!("Statement{index}").into();
        }
    }
    Ok(statements)
}

/// The statement of an `AWS::Events::EventBusPolicy` that has an action and a principal (an account, or `*`).
pub fn statement(
    cloud: &Cloud,
    bus: &str,
    id: &str,
    action: &str,
    principal: &str,
    condition: Option<&Condition>,
) -> Value {
    let principal = match principal {
        "*" => json!("*"),
        account => json!({ "AWS": format!("arn:aws:iam::{account}:root") }),
    };
    let mut statement = json!({
        "Sid": id, "Effect": "Allow", "Principal": principal, "Action": action, "Resource": bus_arn(cloud, bus),
    });
    if let Some(Condition { kind, key, value }) = condition {
        statement["Condition"] = json!({ kind: { key: value } });
    }
    statement
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Condition {
    #[serde(rename = "Type")]
    kind: String,
    key: String,
    value: String,
}
