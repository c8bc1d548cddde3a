//! The ledger of commands: what became of each, kept in a table of its own and written in
//! one transaction with the effect, so that there is never one without the other. It is what
//! makes a redelivered command harmless and a client's own retry one command.
//!
//! Two kinds of rows, of one shape: `COMMAND#{id}`, and `KEY#{agent}#{idempotency key}`,
//! which repeats the row of the first command that used the key.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use vocabulary::{CommandId, Decision, IdempotencyKey, Reason, Timestamp};

use crate::Unavailable;
use crate::batch::Outcome;
use crate::command::Command;

/// A `DynamoDB` item.
pub type Item = HashMap<String, AttributeValue>;

/// Seconds that a row is kept: 30 days, longer than queue (4 days) and dead-letter queue
/// (14 days) together can keep a message, and the promise of an idempotency key.
const KEPT_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Who sent a command, as long as agents need not sign in: keys are kept per agent.
const ANYONE: &str = "anyone";

/// When a row may be written.
#[derive(Clone, Copy)]
struct Condition {
    expression: &'static str,
    /// Whether it compares with the time of the request, which `DynamoDB` refuses to be given
    /// where it is not used.
    looks_at_the_time: bool,
}

/// By its own command, until that command is decided.
const MAY_BE_WRITTEN: Condition = Condition {
    expression: "attribute_not_exists(pk) OR (command_id = :me AND #status = :pending)",
    looks_at_the_time: false,
};

/// The same, and by any command once the key has expired: `DynamoDB` deletes an expired row
/// within days, not at once.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>
const KEY_MAY_BE_USED: Condition = Condition {
    expression: "attribute_not_exists(pk) OR (command_id = :me AND #status = :pending) OR expires_at <= :now",
    looks_at_the_time: true,
};

/// How often a lost race is decided anew before the message goes back to the queue.
const MOST_RACES: usize = 8;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandStatus {
    /// Seen, and waiting for what it needs.
    Pending,
    /// Done.
    Applied,
    /// Never.
    Rejected,
}

/// What became of a command, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The command.
    pub command_id: CommandId,
    /// Where it stands.
    pub status: CommandStatus,
    /// Why it waits or was rejected; a stable code.
    pub reason: Option<String>,
    /// The reason as a sentence.
    pub message: Option<String>,
}

/// The reasons that every service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyMisuse {
    Reused,
    Invalid,
}

impl Reason for KeyMisuse {
    fn code(&self) -> &'static str {
        match self {
            Self::Reused => "idempotency_key_reused",
            Self::Invalid => "invalid_idempotency_key",
        }
    }

    fn sentence(&self) -> &'static str {
        match self {
            Self::Reused => "This Idempotency-Key was used before, with another request.",
            Self::Invalid => "An Idempotency-Key is 1 to 128 visible ASCII characters.",
        }
    }
}

/// One row to be written, with what a later command of the same key is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What a client will read.
    pub record: Record,
    /// The key under which the record is repeated; `None` where the key is not this command's.
    key: Option<IdempotencyKey>,
    fingerprint: String,
    /// Unix seconds.
    requested_at: i64,
}

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    pk: String,
    #[serde(flatten)]
    record: Record,
    fingerprint: String,
    expires_at: i64,
}

/// The first command that used an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// What became of it.
    pub record: Record,
    /// Its route and body.
    pub fingerprint: String,
}

/// How a transaction went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed<S> {
    /// Written.
    Done,
    /// This command was applied or rejected before: it is a redelivery.
    Before,
    /// Another command used the key first.
    KeyTaken(First),
    /// Somebody else changed the aggregate; this is what it is now.
    Overtaken(Option<S>),
}

impl Entry {
    fn new(command: &Command, status: CommandStatus, reason: Option<&dyn Reason>) -> Self {
        Self {
            record: Record {
                command_id: command.id.clone(),
                status,
                reason: reason.map(|reason| reason.code().to_owned()),
                message: reason.map(|reason| reason.sentence().to_owned()),
            },
            key: command.key().and_then(Result::ok),
            fingerprint: command.fingerprint(),
            requested_at: command.requested_at.as_millis() / 1_000,
        }
    }

    fn without_key(self) -> Self {
        Self { key: None, ..self }
    }
}

/// Decides a command and writes the decision, again and again while others win the race.
///
/// `current` is the aggregate as far as the caller has read it (`None` also for "not read":
/// the write's condition will tell). `commit` writes the entry and, for a `Write`, its
/// effect, in one transaction.
///
/// # Errors
/// When the store fails, or the aggregate is contended beyond reason.
pub async fn settle<S, W, R: Reason>(
    command: &Command,
    now: Timestamp,
    patience: Duration,
    current: Option<S>,
    decide: impl Fn(Option<&S>) -> Decision<W, R>,
    commit: impl AsyncFn(&Entry, Option<&W>) -> Result<Committed<S>, Unavailable>,
) -> Result<Outcome, Unavailable> {
    if let Some(Err(_)) = command.key() {
        let entry = Entry::new(command, CommandStatus::Rejected, Some(&KeyMisuse::Invalid));
        commit(&entry, None).await?;
        return Ok(Outcome::Done);
    }
    let mut current = current;
    for _ in 0..MOST_RACES {
        let decision = decide(current.as_ref());
        let wait = match &decision {
            Decision::NotYet(_) => command.retry_after(now, patience),
            _ => None,
        };
        let (entry, effect) = match &decision {
            Decision::Write(effect) => (Entry::new(command, CommandStatus::Applied, None), Some(effect)),
            Decision::NotYet(reason) if wait.is_some() => {
                (Entry::new(command, CommandStatus::Pending, Some(reason)), None)
            }
            Decision::NotYet(reason) | Decision::Reject(reason) => {
                (Entry::new(command, CommandStatus::Rejected, Some(reason)), None)
            }
        };
        match commit(&entry, effect).await? {
            Committed::Done => {
                tracing::info!(status = ?entry.record.status, reason = entry.record.reason, "command settled");
                return Ok(wait.map_or(Outcome::Done, Outcome::Again));
            }
            Committed::Before => return Ok(Outcome::Done),
            Committed::Overtaken(actual) => current = actual,
            Committed::KeyTaken(first) => return repeat(command, &first, commit).await,
        }
    }
    Err(Unavailable("the aggregate is contended".into()))
}

/// Gives `command` the outcome of the first command that used its key.
async fn repeat<S, W>(
    command: &Command,
    first: &First,
    commit: impl AsyncFn(&Entry, Option<&W>) -> Result<Committed<S>, Unavailable>,
) -> Result<Outcome, Unavailable> {
    let mut entry = Entry::new(command, CommandStatus::Rejected, Some(&KeyMisuse::Reused)).without_key();
    let mut outcome = Outcome::Done;
    if first.fingerprint == entry.fingerprint {
        entry.record = Record { command_id: command.id.clone(), ..first.record.clone() };
        if first.record.status == CommandStatus::Pending {
            // However long that takes: the first may have been requested later than this one,
            // or be held up by a fault, and its outcome is the only one that this one can have.
            outcome = Outcome::Again(command.backoff());
        }
    }
    commit(&entry, None).await?;
    Ok(outcome)
}

/// What became of commands.
pub trait Records {
    /// The record of one; `None` where no function has seen it.
    fn record(&self, id: &CommandId) -> impl Future<Output = Result<Option<Record>, Unavailable>>;
}

/// The ledger's table.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
}

impl Ledger {
    /// The ledger kept in `table`.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// What became of a command; `None` where no function has seen it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn find(&self, id: &CommandId) -> Result<Option<Record>, Unavailable> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(command_pk(id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(Unavailable::from_sdk)?;
        answer.item.map(|item| read_row(item).map(|row| row.record)).transpose()
    }

    /// Writes `entry` and `effects` in one transaction. An effect that is to tell what it
    /// collided with sets `ReturnValuesOnConditionCheckFailure` to `ALL_OLD`; `overtaken`
    /// reads the first such item, or `None` where the condition failed on nothing.
    ///
    /// # Errors
    /// When the table cannot be written, or the transaction collides with others beyond reason.
    pub async fn commit<S>(
        &self,
        entry: &Entry,
        effects: Vec<TransactWriteItem>,
        overtaken: impl FnOnce(Option<Item>) -> Result<Option<S>, Unavailable>,
    ) -> Result<Committed<S>, Unavailable> {
        let mut writes = vec![self.put(command_pk(&entry.record.command_id), entry, MAY_BE_WRITTEN)?];
        if let Some(key) = &entry.key {
            writes.push(self.put(format!("KEY#{ANYONE}#{key}"), entry, KEY_MAY_BE_USED)?);
        }
        let own_rows = writes.len();
        writes.extend(effects);
        for _ in 0..MOST_RACES {
            let sent =
                self.client.transact_write_items().set_transact_items(Some(writes.clone())).send().await;
            let Err(error) = sent else { return Ok(Committed::Done) };
            let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
                error.as_service_error()
            else {
                return Err(Unavailable::from_sdk(error));
            };
            let reasons = cancelled.cancellation_reasons();
            let item = |index: usize| reasons[index].item.clone();
            match Cancelled::by(reasons) {
                Cancelled::Condition(0) => return Ok(Committed::Before),
                Cancelled::Condition(index) if index < own_rows => {
                    let row = read_row(item(index).unwrap_or_default())?;
                    let first = First { record: row.record, fingerprint: row.fingerprint };
                    return Ok(Committed::KeyTaken(first));
                }
                Cancelled::Condition(index) => return Ok(Committed::Overtaken(overtaken(item(index))?)),
                Cancelled::Collision => {}
                Cancelled::Other(codes) => {
                    return Err(Unavailable(format!("the transaction was cancelled: {codes}")));
                }
            }
        }
        Err(Unavailable("the transaction collided with others, again and again".into()))
    }

    fn put(&self, pk: String, entry: &Entry, condition: Condition) -> Result<TransactWriteItem, Unavailable> {
        let row = Row {
            pk,
            record: entry.record.clone(),
            fingerprint: entry.fingerprint.clone(),
            expires_at: entry.requested_at + KEPT_SECONDS,
        };
        let mut put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(serde_dynamo::to_item(row).map_err(Unavailable::from_sdk)?))
            .condition_expression(condition.expression)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":me", AttributeValue::S(entry.record.command_id.to_string()))
            .expression_attribute_values(":pending", AttributeValue::S("PENDING".into()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if condition.looks_at_the_time {
            put = put.expression_attribute_values(":now", AttributeValue::N(entry.requested_at.to_string()));
        }
        Ok(TransactWriteItem::builder().put(put.build().map_err(Unavailable::from_sdk)?).build())
    }
}

/// Why a transaction was cancelled.
#[derive(Debug, PartialEq, Eq)]
enum Cancelled {
    /// The condition of the write at this place does not hold.
    Condition(usize),
    /// Another transaction is at work on one of the items. Nothing is decided: it is sent again,
    /// which the SDK does not do by itself.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling>
    Collision,
    /// The codes of anything else, throttling for one.
    Other(String),
}

impl Cancelled {
    fn by(reasons: &[CancellationReason]) -> Self {
        let at = |code| reasons.iter().position(|reason| reason.code() == Some(code));
        if let Some(index) = at("ConditionalCheckFailed") {
            Self::Condition(index)
        } else if at("TransactionConflict").is_some() {
            Self::Collision
        } else {
            let codes: Vec<_> = reasons.iter().filter_map(CancellationReason::code).collect();
            Self::Other(codes.join(", "))
        }
    }
}

fn command_pk(id: &CommandId) -> String {
    format!("COMMAND#{id}")
}

fn read_row(item: Item) -> Result<Row, Unavailable> {
    serde_dynamo::from_item(item).map_err(Unavailable::from_sdk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::command;
    use crate::fixture::dynamodb;

    struct No;

    impl Reason for No {
        fn code(&self) -> &'static str {
            "no"
        }
        fn sentence(&self) -> &'static str {
            "Not this one."
        }
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn ledger() -> Ledger {
        Ledger::new(dynamodb(&[("commands", &["pk"])]).await.unwrap(), "commands")
    }

    /// Settles a command whose decision is fixed, without an effect on any aggregate.
    async fn settled(
        ledger: &Ledger,
        command: &Command,
        decision: Decision<(), No>,
        now: Timestamp,
    ) -> Outcome {
        let decision = std::cell::RefCell::new(Some(decision));
        settle(
            command,
            now,
            PATIENCE,
            None::<()>,
            |_| decision.borrow_mut().take().unwrap(),
            async |entry, _| ledger.commit(entry, vec![], |_| Ok(None)).await,
        )
        .await
        .unwrap()
    }

    async fn status(ledger: &Ledger, id: &str) -> (CommandStatus, Option<String>) {
        let record = ledger.find(&id.parse().unwrap()).await.unwrap().unwrap();
        (record.status, record.reason)
    }

    #[tokio::test]
    async fn a_command_that_no_function_has_seen_has_no_record() {
        assert_eq!(ledger().await.find(&"never".parse().unwrap()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_waiting_command_is_pending_until_it_is_applied_and_then_for_good() {
        let ledger = ledger().await;
        let command = command();
        let now = command.requested_at;
        assert_eq!(
            settled(&ledger, &command, Decision::NotYet(No), now).await,
            Outcome::Again(Duration::from_secs(2))
        );
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Pending, Some("no".into())));
        assert_eq!(settled(&ledger, &command, Decision::Write(()), now).await, Outcome::Done);
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Applied, None));
        assert_eq!(settled(&ledger, &command, Decision::Reject(No), now).await, Outcome::Done);
        assert_eq!(
            status(&ledger, "c-1").await,
            (CommandStatus::Applied, None),
            "a redelivery changes nothing"
        );
    }

    #[tokio::test]
    async fn a_command_whose_time_is_up_is_rejected() {
        let ledger = ledger().await;
        let command = command();
        let late = command.requested_at.plus_millis(30_000);
        assert_eq!(settled(&ledger, &command, Decision::NotYet(No), late).await, Outcome::Done);
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Rejected, Some("no".into())));
    }

    #[tokio::test]
    async fn a_clients_retry_gets_the_outcome_of_the_first_under_its_own_id() {
        let ledger = ledger().await;
        let first = Command { idempotency_key: Some("order-17".into()), ..command() };
        let retry = Command { id: "c-2".parse().unwrap(), ..first.clone() };
        settled(&ledger, &first, Decision::Reject(No), first.requested_at).await;
        settled(&ledger, &retry, Decision::Write(()), retry.requested_at).await;
        assert_eq!(status(&ledger, "c-2").await, (CommandStatus::Rejected, Some("no".into())));
    }

    #[tokio::test]
    async fn a_retry_of_a_waiting_command_waits_with_it() {
        let ledger = ledger().await;
        let first = Command { idempotency_key: Some("order-17".into()), ..command() };
        let retry = Command { id: "c-2".parse().unwrap(), ..first.clone() };
        let now = first.requested_at;
        settled(&ledger, &first, Decision::NotYet(No), now).await;
        let outcome = settled(&ledger, &retry, Decision::Write(()), now).await;
        assert_eq!(outcome, Outcome::Again(Duration::from_secs(2)));
        settled(&ledger, &first, Decision::Write(()), now).await;
        assert_eq!(settled(&ledger, &retry, Decision::Write(()), now).await, Outcome::Done);
        assert_eq!(status(&ledger, "c-2").await, (CommandStatus::Applied, None));
    }

    /// A standard queue keeps no order: the first to arrive may be the later request.
    #[tokio::test]
    async fn a_retry_never_gives_up_before_the_first_command_does() {
        let ledger = ledger().await;
        let retry = Command { idempotency_key: Some("order-17".into()), ..command() };
        let arrived_first = Command {
            id: "c-2".parse().unwrap(),
            requested_at: retry.requested_at.plus_millis(10_000),
            ..retry.clone()
        };
        settled(&ledger, &arrived_first, Decision::NotYet(No), arrived_first.requested_at).await;
        let retrys_time_is_up = retry.requested_at.plus_millis(31_000);
        let outcome = settled(&ledger, &retry, Decision::NotYet(No), retrys_time_is_up).await;
        assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
        assert_eq!(status(&ledger, "c-1").await.0, CommandStatus::Pending);
        settled(&ledger, &arrived_first, Decision::Write(()), retrys_time_is_up).await;
        assert_eq!(settled(&ledger, &retry, Decision::NotYet(No), retrys_time_is_up).await, Outcome::Done);
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Applied, None));
    }

    #[tokio::test]
    async fn a_key_is_kept_for_30_days_and_free_again_after_them() {
        let ledger = ledger().await;
        let first = Command { idempotency_key: Some("order-17".into()), ..command() };
        let requested = |id: &str, after_seconds: i64| Command {
            id: id.parse().unwrap(),
            body: "[]".into(),
            requested_at: first.requested_at.plus_millis(after_seconds * 1_000),
            ..first.clone()
        };
        settled(&ledger, &first, Decision::Write(()), first.requested_at).await;
        let within = requested("c-2", KEPT_SECONDS - 1);
        settled(&ledger, &within, Decision::Write(()), within.requested_at).await;
        assert_eq!(status(&ledger, "c-2").await.1.as_deref(), Some("idempotency_key_reused"));
        // Its row has expired, and DynamoDB has not deleted it yet.
        let after = requested("c-3", KEPT_SECONDS);
        settled(&ledger, &after, Decision::Write(()), after.requested_at).await;
        assert_eq!(status(&ledger, "c-3").await, (CommandStatus::Applied, None));
        let again = Command { id: "c-4".parse().unwrap(), ..after.clone() };
        settled(&ledger, &again, Decision::Reject(No), again.requested_at).await;
        assert_eq!(status(&ledger, "c-4").await, (CommandStatus::Applied, None), "the key is the new one's");
    }

    #[tokio::test]
    async fn the_same_key_with_another_body_is_rejected() {
        let ledger = ledger().await;
        let first = Command { idempotency_key: Some("order-17".into()), ..command() };
        let other = Command { id: "c-2".parse().unwrap(), body: "[]".into(), ..first.clone() };
        settled(&ledger, &first, Decision::Write(()), first.requested_at).await;
        settled(&ledger, &other, Decision::Write(()), other.requested_at).await;
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Applied, None));
        assert_eq!(status(&ledger, "c-2").await.1.as_deref(), Some("idempotency_key_reused"));
    }

    /// dynoxide runs transactions one after the other, so that none collides there.
    #[test]
    fn a_collision_of_transactions_is_told_from_a_condition_that_does_not_hold() {
        let cancelled = |codes: &[&str]| {
            let reasons: Vec<_> =
                codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect();
            Cancelled::by(&reasons)
        };
        assert_eq!(cancelled(&["None", "TransactionConflict"]), Cancelled::Collision);
        assert_eq!(
            cancelled(&["TransactionConflict", "ConditionalCheckFailed"]),
            Cancelled::Condition(1),
            "a condition is decided whatever else happened"
        );
        assert_eq!(cancelled(&["None", "ThrottlingError"]), Cancelled::Other("None, ThrottlingError".into()));
    }

    #[tokio::test]
    async fn a_malformed_key_is_rejected() {
        let ledger = ledger().await;
        let command = Command { idempotency_key: Some("two words".into()), ..command() };
        settled(&ledger, &command, Decision::Write(()), command.requested_at).await;
        assert_eq!(status(&ledger, "c-1").await.1.as_deref(), Some("invalid_idempotency_key"));
    }
}
