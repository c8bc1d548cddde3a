//! What the handlers need from the outside.

use lambda_kit::CallError;
use lambda_kit::ledger::{Committed, Entry, Waited};
use vocabulary::{CommandId, PropertyId};

use crate::domain::Contract;

/// The contracts: one per property.
pub trait Contracts {
    /// The property's current contract (a consistent read).
    fn find(&self, property: &PropertyId) -> impl Future<Output = Result<Option<Contract>, CallError>>;

    /// How a command has waited so far; `None` if it does not wait.
    fn waited(&self, command: &CommandId) -> impl Future<Output = Result<Option<Waited>, CallError>>;

    /// Writes a command's record and, if the command is applied, the contract: both or neither. `Overtaken`
    /// when the stored contract is not the version just before `contract`.
    fn commit(
        &self,
        entry: &Entry,
        contract: Option<&Contract>,
    ) -> impl Future<Output = Result<Committed<Contract>, CallError>>;
}
