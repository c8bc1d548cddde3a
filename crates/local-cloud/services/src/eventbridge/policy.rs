//! The policies of buses: kept and shown. Nothing here is allowed or denied by them.

use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use rusqlite::{Connection, Transaction, params};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{invalid, read_input};
use super::bus::{self, bus_arn};

/// The bus's policy document, where it has any statement.
pub fn document(cloud: &Cloud, bus: &str) -> Result<Option<String>, StoreError> {
    let statements = cloud.store.read(|db| statements(db, bus))?;
    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    Ok((!statements.is_empty()).then(|| document.to_string()))
}

fn statements(db: &Connection, bus: &str) -> rusqlite::Result<Vec<Value>> {
    db.prepare_cached("SELECT statement FROM events_policies WHERE bus = ?1 ORDER BY rowid")?
        .query_map([bus], |row| super::store::json_column(row, 0))?
        .collect()
}

/// Adds a statement, or replaces the one with its id.
pub fn put(tx: &Transaction<'_>, bus: &str, statement: &Value, from_template: bool) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO events_policies VALUES (?1, ?2, ?3, ?4) ON CONFLICT (bus, sid) DO UPDATE SET
         statement = excluded.statement, from_template = excluded.from_template",
        params![bus, statement["Sid"].as_str(), statement.to_string(), from_template],
    )?;
    Ok(())
}

/// The statements of a policy document, each with an id.
///
/// # Errors
/// One sentence.
pub fn statements_of(document: &Value) -> Result<Vec<Value>, String> {
    let statements = match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        one @ Value::Object(_) => vec![one.clone()],
        _ => return Err("the policy has no Statement".into()),
    };
    let numbered = |(index, mut statement): (usize, Value)| {
        if statement["Sid"].is_null() {
            statement["Sid"] = format!("Statement{index}").into();
        }
        statement
    };
    Ok(statements.into_iter().enumerate().map(numbered).collect())
}

/// The statement that an id, an action and a principal (an account, or `*`) stand for.
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

/// A condition of one key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Condition {
    #[serde(rename = "Type")]
    kind: String,
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PutPermission {
    event_bus_name: Option<String>,
    action: Option<String>,
    principal: Option<String>,
    statement_id: Option<String>,
    condition: Option<Condition>,
    policy: Option<String>,
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutPermission.html>
pub fn put_permission(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: PutPermission = read_input(input)?;
    let bus = bus::find(cloud, input.event_bus_name.as_deref())?.name;
    if let Some(policy) = input.policy {
        let document: Value =
            serde_json::from_str(&policy).map_err(|_| invalid("This policy contains invalid Json"))?;
        let statements = statements_of(&document).map_err(invalid)?;
        // "If you include this parameter", the whole policy is replaced.
        cloud.store.write(|tx| {
            tx.execute("DELETE FROM events_policies WHERE bus = ?1", [&bus])?;
            statements.iter().try_for_each(|statement| put(tx, &bus, statement, false))
        })?;
        return Ok(json!({}));
    }
    let (Some(action), Some(principal), Some(id)) = (input.action, input.principal, input.statement_id)
    else {
        return Err(invalid("Parameters Action, Principal and StatementId must be specified, or Policy."));
    };
    if action != "events:PutEvents" {
        return Err(invalid("Provided value in parameter 'action' is not supported."));
    }
    let statement = statement(cloud, &bus, &id, &action, &principal, input.condition.as_ref());
    cloud.store.write(|tx| put(tx, &bus, &statement, false))?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RemovePermission {
    event_bus_name: Option<String>,
    statement_id: Option<String>,
    #[serde(default)]
    remove_all_permissions: bool,
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_RemovePermission.html>
pub fn remove_permission(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: RemovePermission = read_input(input)?;
    let bus = bus::find(cloud, input.event_bus_name.as_deref())?.name;
    let removed = cloud.store.write(|tx| match &input.statement_id {
        Some(id) if !input.remove_all_permissions => {
            tx.execute("DELETE FROM events_policies WHERE bus = ?1 AND sid = ?2", [&bus, id])
        }
        _ => tx.execute("DELETE FROM events_policies WHERE bus = ?1", [&bus]),
    })?;
    if removed == 0 && !input.remove_all_permissions {
        let message = "Statement with the provided id does not exist.";
        return Err(AwsError::client("ResourceNotFoundException", message));
    }
    Ok(json!({}))
}
