//! The ports of this service in memory, and the messages of its commands.

use std::cell::RefCell;
use std::collections::HashMap;

use lambda_kit::CallError;
use lambda_kit::fixture::{self, Calls, MemoryLedger};
use lambda_kit::ledger::{Committed, Entry, Record, Records, Waited};
use serde_json::{Value, json};
use vocabulary::{CommandId, PropertyId, Timestamp};

use crate::domain::Contract;
use crate::ports::Contracts;

/// `ms` after a moment of the tests.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + ms).unwrap()
}

/// Contracts and records as the tables keep them.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) contracts: RefCell<HashMap<PropertyId, Contract>>,
    pub(crate) ledger: MemoryLedger,
    pub(crate) calls: Calls<Self>,
}

impl World {
    /// The only contract.
    pub(crate) fn contract(&self) -> Option<Contract> {
        self.contracts.borrow().values().next().cloned()
    }

    /// Writes `contract`, but only onto the version just before it.
    fn write(&self, contract: &Contract) -> Committed<Contract> {
        let mut contracts = self.contracts.borrow_mut();
        let stored = contracts.get(&contract.property_id);
        let version = stored.map_or(0, |stored| stored.contract_version.0);
        if version + 1 != contract.contract_version.0 {
            return Committed::Overtaken(stored.cloned());
        }
        contracts.insert(contract.property_id.clone(), contract.clone());
        Committed::Done
    }
}

impl Contracts for World {
    async fn find(&self, property: &PropertyId) -> Result<Option<Contract>, CallError> {
        self.calls.call(self, "find", || self.contracts.borrow().get(property).cloned())
    }

    async fn waited(&self, command: &CommandId) -> Result<Option<Waited>, CallError> {
        Ok(self.ledger.waited(command))
    }

    async fn commit(
        &self,
        entry: &Entry,
        contract: Option<&Contract>,
    ) -> Result<Committed<Contract>, CallError> {
        let write = || contract.map_or(Committed::Done, |contract| self.write(contract));
        self.calls.call(self, "commit", || self.ledger.commit(entry, write))
    }
}

impl Records for World {
    async fn record(&self, id: &CommandId) -> Result<Option<Record>, CallError> {
        self.calls.call(self, "record", || self.ledger.record(id))
    }
}

/// A command, requested at `at(0)`; a body that is a text is sent as it is.
pub(crate) fn message(id: &str, method: &str, body: &Value) -> Value {
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    fixture::message(id, method, "", &body, at(0))
}

/// The body of a create.
pub(crate) fn create_body() -> Value {
    json!({
        "property_id": "usa/anytown/main-street/111", "seller_name": "Smith & Sons",
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
    })
}
