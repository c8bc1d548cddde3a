//! The calls to the back ends of methods, and their replies.

use bytes::Bytes;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// A form for a queue at `/{account}/{queue}`.
    Queue { path: String, form: Vec<u8> },
    /// A synchronous invocation.
    Function { arn: String, payload: Bytes },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Bytes,
    /// Whether the function failed, so that `body` is its error document.
    pub function_error: bool,
    pub request_id: Option<String>,
}
