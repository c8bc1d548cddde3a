//! What the handlers need from the outside.

use lambda_kit::CallError;
use lambda_kit::ledger::{Committed, Entry, Waited};
use vocabulary::{CommandId, PropertyId};

use crate::domain::Contract;

/// The contracts, one per property.
pub trait Contracts {
    /// The property's current contract, as of now.
    fn find(&self, property: &PropertyId) -> impl Future<Output = Result<Option<Contract>, CallError>>;

    /// How a command has waited so far; `None` where it does not wait.
    fn waited(&self, command: &CommandId) -> impl Future<Output = Result<Option<Waited>, CallError>>;

    /// Records what became of a command and, where it was applied, writes the contract: both
    /// or neither. Overtaken when the property's contract is not the one just before `contract`.
    fn commit(
        &self,
        entry: &Entry,
        contract: Option<&Contract>,
    ) -> impl Future<Output = Result<Committed<Contract>, CallError>>;
}
