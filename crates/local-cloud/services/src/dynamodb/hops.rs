//! The live log of writes: which action on which tables. No item is shown, since items
//! hold names of people and task tokens.

use std::collections::BTreeSet;

use serde_json::Value;

/// Logs a write that DynamoDB answered with `status`.
pub(super) fn log(action: &str, tables: &BTreeSet<String>, status: u16) {
    if !tracing::enabled!(target: "hop", tracing::Level::INFO) {
        return;
    }
    let tables = tables.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match status {
        200 => tracing::info!(target: "hop", service = "dynamodb", resource = %tables, action, "written"),
        // A condition that fails is how the services see a redelivery: no reason to warn.
        _ => {
            tracing::info!(target: "hop", service = "dynamodb", resource = %tables, action, status, "refused")
        }
    }
}

/// `TableName` of the request or of the parts of a transaction, or the names of a batch; none
/// for a statement of PartiQL.
pub(super) fn tables_of(body: &[u8]) -> BTreeSet<String> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = |part: &Value| part["TableName"].as_str().map(str::to_string);
    let batch = request["RequestItems"].as_object().into_iter().flatten().map(|(table, _)| table.clone());
    let parts = request["TransactItems"].as_array().into_iter().flatten();
    let parts = parts.filter_map(Value::as_object).flat_map(|part| part.values().filter_map(name));
    name(&request).into_iter().chain(batch).chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tables_of_every_kind_of_write_are_known() {
        let tables =
            |request: Value| tables_of(request.to_string().as_bytes()).into_iter().collect::<Vec<_>>();
        assert_eq!(tables(json!({"TableName": "a", "Item": {}})), ["a"]);
        assert_eq!(tables(json!({"RequestItems": {"a": [], "b": []}})), ["a", "b"]);
        let parts = json!([{"Put": {"TableName": "b"}}, {"Update": {"TableName": "a"}}, {"Delete": {"TableName": "a"}}]);
        assert_eq!(tables(json!({"TransactItems": parts})), ["a", "b"]);
    }
}
