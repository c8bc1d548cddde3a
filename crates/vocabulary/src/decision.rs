//! What a rule of the business says to a command.

/// The answer of a service's `decide`: pure, and all that a handler needs to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<W, R> {
    /// Write this, and the command is applied.
    Write(W),
    /// Reject it at once: no command that is still on its way can change that.
    Reject(R),
    /// The command that it builds on may still be on its way: wait long, then reject it.
    NotYet(R),
    /// The present state does not allow it, and an earlier command may still change the state:
    /// wait briefly, then reject it.
    NotNow(R),
}

/// Why a command is rejected, as a client reads it.
pub trait Reason {
    /// A stable code, `snake_case`: part of the contract with clients.
    fn code(&self) -> &'static str;

    /// One plain sentence.
    fn sentence(&self) -> &'static str;
}
