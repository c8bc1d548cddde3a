//! Transactions of a table, and why one was cancelled.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};

use crate::CallError;
use crate::item::Item;

/// How a transaction ended.
#[derive(Debug, PartialEq)]
pub enum Transaction {
    /// All is written.
    Done,
    /// Nothing is written: the condition of the write at this index (from 0) does not hold.
    ConditionFailed {
        index: usize,
        /// The stored item, if the write requests it with `ReturnValuesOnConditionCheckFailure`.
        item: Option<Item>,
    },
    /// Nothing is written: another transaction is using one of the items. The SDK does not retry this
    /// itself.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling>
    Collided,
}

/// Writes all of `writes` or none.
///
/// # Errors
/// When the call fails, or the transaction is cancelled for another reason, e.g. throttling or an item that
/// is too large. The reason's code decides whether that may pass.
pub async fn transact(client: &Client, writes: Vec<TransactWriteItem>) -> Result<Transaction, CallError> {
    let sent = client.transact_write_items().set_transact_items(Some(writes)).send().await;
    let Err(error) = sent else { return Ok(Transaction::Done) };
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancelled_by(cancelled.cancellation_reasons())
        }
        _ => Err(CallError::from_sdk(error)),
    }
}

fn cancelled_by(reasons: &[CancellationReason]) -> Result<Transaction, CallError> {
    let at = |code| reasons.iter().position(|reason| reason.code() == Some(code));
    if let Some(index) = at("ConditionalCheckFailed") {
        return Ok(Transaction::ConditionFailed { index, item: reasons[index].item.clone() });
    }
    if at("TransactionConflict").is_some() {
        return Ok(Transaction::Collided);
    }
    let failed = reasons.iter().find(|reason| reason.code().is_some_and(|code| code != "None"));
    let code = failed.and_then(CancellationReason::code);
    let message = failed.and_then(CancellationReason::message).unwrap_or("no message");
    let text = format!("the transaction was cancelled: {}: {message}", code.unwrap_or("no code"));
    Err(CallError::by_code(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dynoxide runs transactions one after the other, so that none collides there.
    #[test]
    fn a_collision_of_transactions_is_told_from_a_condition_that_does_not_hold() {
        let cancelled = |codes: &[&str]| {
            let reasons: Vec<_> =
                codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect();
            cancelled_by(&reasons)
        };
        assert_eq!(cancelled(&["None", "TransactionConflict"]), Ok(Transaction::Collided));
        assert_eq!(
            cancelled(&["TransactionConflict", "ConditionalCheckFailed"]),
            Ok(Transaction::ConditionFailed { index: 1, item: None }),
            "a condition is decided whatever else happened"
        );
        let other = |code| cancelled(&["None", code]).unwrap_err().kind();
        assert_eq!(other("ThrottlingError"), "Unavailable");
        assert_eq!(other("ValidationError"), "Refused", "an item that is too large");
    }
}
