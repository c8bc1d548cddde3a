//! What a rule of the business says to a command.

/// The answer of a service's `decide`: pure, and all that a handler needs to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<W, R> {
    /// Write this, and the command is applied.
    Write(W),
    /// Never, for this reason.
    Reject(R),
    /// Not now: what the command needs may be on its way. Rejected for this reason once its
    /// time is up.
    NotYet(R),
}

/// Why a command is rejected, as a client reads it.
pub trait Reason {
    /// A stable code, `snake_case`: part of the contract with clients.
    fn code(&self) -> &'static str;
    /// One plain sentence.
    fn sentence(&self) -> &'static str;
}
