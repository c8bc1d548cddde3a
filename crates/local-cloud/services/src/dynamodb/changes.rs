//! Which tables a write changes, and the ticks that wake the readers of their streams.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::watch;

/// A counter for each table whose stream somebody reads.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<HashMap<String, watch::Sender<u64>>>);

impl Changes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        cloud_core::lock(&self.0)
    }

    /// Ticks whenever an item of `table` may have changed.
    pub fn of(&self, table: &str) -> watch::Receiver<u64> {
        self.lock().entry(table.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Wakes the readers of these tables; of all tables, where none is named.
    pub fn tick<'a>(&self, tables: impl IntoIterator<Item = &'a String>) {
        let readers = self.lock();
        let tables: Vec<&String> = tables.into_iter().collect();
        let changed = readers.iter().filter(|(table, _)| tables.is_empty() || tables.contains(table));
        changed.for_each(|(_, reader)| reader.send_modify(|count| *count += 1));
    }
}

/// `TableName` of the request or of the parts of a transaction, or the names of a batch; none for a
/// statement of PartiQL.
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
    fn a_write_wakes_the_readers_of_its_tables_and_no_others() {
        let changes = Changes::default();
        let (mut a, mut b) = (changes.of("a"), changes.of("b"));
        let mut seen =
            || (a.has_changed().unwrap(), b.has_changed().unwrap(), a.borrow_and_update().to_owned());
        changes.tick(["a".to_owned(), "unread".to_owned()].iter());
        assert_eq!(seen(), (true, false, 1));
        // The table of a PartiQL statement is not known.
        changes.tick([].iter());
        assert_eq!(seen(), (true, true, 2));
        b.borrow_and_update();
    }

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
