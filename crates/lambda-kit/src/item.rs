//! Items of a table.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::CallError;

/// A `DynamoDB` item, or the key of one.
pub type Item = HashMap<String, AttributeValue>;

/// Reads the item with this key as the last write left it.
///
/// # Errors
/// When the call fails.
pub async fn get_item(client: &Client, table: &str, key: Item) -> Result<Option<Item>, CallError> {
    let request = client.get_item().table_name(table).set_key(Some(key)).consistent_read(true);
    Ok(request.send().await.map_err(CallError::from_sdk)?.item)
}
