//! The decision of a service about a command.

/// The result of a service's `decide`. It is all that a handler needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<W, R> {
    /// Apply the command: write this.
    Write(W),
    /// Reject it at once: no earlier command that arrives later can change that.
    Reject(R),
    /// The command that it depends on may arrive later: wait up to two minutes, then reject it.
    NotYet(R),
    /// The present state does not allow it, and an earlier command may still arrive and change the state:
    /// wait up to 14 seconds, then reject it.
    NotNow(R),
}

/// Why a command is rejected, as the client reads it.
pub trait Reason {
    /// A stable code, `snake_case`: part of the contract with clients.
    fn code(&self) -> &'static str;

    /// One plain sentence.
    fn sentence(&self) -> &'static str;
}
