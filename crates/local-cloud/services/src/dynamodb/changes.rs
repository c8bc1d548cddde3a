//! Ticks of tables that were written to: readers of a table's stream wait for them instead of
//! polling, and are not woken by what happens to other tables.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// One counter for each table that somebody reads the stream of.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<HashMap<String, watch::Sender<u64>>>);

impl Changes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ticks whenever an item of `table` may have changed.
    pub fn of(&self, table: &str) -> watch::Receiver<u64> {
        self.lock().entry(table.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Some of these tables may have changed; any may, where none is named.
    pub fn tick<'a>(&self, tables: impl IntoIterator<Item = &'a String>) {
        let readers = self.lock();
        let mut tables = tables.into_iter().peekable();
        if tables.peek().is_none() {
            readers.values().for_each(|reader| reader.send_modify(|count| *count += 1));
        }
        for table in tables {
            if let Some(reader) = readers.get(table) {
                reader.send_modify(|count| *count += 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_wakes_the_readers_of_its_tables_and_no_others() {
        let changes = Changes::default();
        let (mut a, mut b) = (changes.of("a"), changes.of("b"));
        let mut seen =
            || (a.has_changed().unwrap(), b.has_changed().unwrap(), a.borrow_and_update().to_owned());
        changes.tick(["a".to_owned(), "unread".to_owned()].iter());
        assert_eq!(seen(), (true, false, 1));
        // A statement of PartiQL names its table in words of its own.
        changes.tick([].iter());
        assert_eq!(seen(), (true, true, 2));
        b.borrow_and_update();
    }
}
