//! The ledger of commands: a table with a record of each command's outcome. The record and the effect of a
//! command are written in one transaction, so there is never one without the other. Therefore a redelivered
//! command does no harm, and a client's retry is the same command.
//!
//! There are two kinds of rows with the same attributes: `COMMAND#{id}`, and `KEY#{hash of agent and
//! idempotency key}`, a copy of the row of the first command that used the key.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vocabulary::{CommandId, Decision, IdempotencyKey, Reason, Timestamp};

use crate::CallError;
use crate::batch::{Failure, Outcome};
use crate::command::Command;
use crate::item::{Item, get_item};
use crate::redelivery::{MAX_ATTEMPTS, PREDECESSOR_WAITS, STATE_WAITS, backoff, pause};
use crate::transaction::{Transaction, transact};

/// Seconds that a row is kept: 30 days, as the API promises for idempotency keys. A message can be in the
/// queue (4 days) and the dead-letter queue (14 days) for less than that.
const RETENTION_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The agent of every command, as long as agents do not sign in: keys are stored per agent.
const ANYONE: &str = "anyone";

/// Condition of a command's row: it is new, or its own and still pending.
const OWN_AND_PENDING: &str = "attribute_not_exists(pk) OR (command_id = :me AND #status = :pending)";

/// Condition of a key's row: as above; or the key has expired, since `DynamoDB` may delete an expired row
/// days later; or the row's command never finished and this is the same command again.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>
const KEY_IS_FREE: &str = "attribute_not_exists(pk) OR (command_id = :me AND #status = :pending) \
     OR expires_at <= :now \
     OR (#status = :pending AND fingerprint = :fingerprint \
         AND (attribute_not_exists(pending_until) OR pending_until <= :now))";

/// The status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandStatus {
    /// The command waits for another command.
    Pending,
    /// The command was applied.
    Applied,
    /// The command was rejected.
    Rejected,
}

/// The outcome of a command, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub command_id: CommandId,
    /// Its status.
    pub status: CommandStatus,
    /// Why it waits or was rejected: a stable code.
    pub reason: Option<String>,
    /// The reason as a sentence.
    pub message: Option<String>,
}

/// The reasons to reject a command that all services share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommonReason {
    KeyReused,
    InvalidKey,
    TooLarge,
}

impl Reason for CommonReason {
    fn code(&self) -> &'static str {
        match self {
            Self::KeyReused => "idempotency_key_reused",
            Self::InvalidKey => "invalid_idempotency_key",
            Self::TooLarge => "invalid_body",
        }
    }

    fn sentence(&self) -> &'static str {
        match self {
            Self::KeyReused => "This Idempotency-Key was used before, with another request.",
            Self::InvalidKey => "An Idempotency-Key is 1 to 128 visible ASCII characters.",
            Self::TooLarge => "The request holds more than can be stored.",
        }
    }
}

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// For the command that it depends on.
    Predecessor,
    /// For a state that allows it.
    State,
}

/// How a command has waited so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// How many waits it has begun for this.
    pub waits: u32,
    /// The receive (from 1) that began the last wait.
    pub receive: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    #[serde(flatten)]
    waited: Waited,
    /// In Unix seconds. A command that is still pending after this time never finished.
    pending_until: i64,
}

/// A row to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The outcome that a client reads.
    pub record: Record,
    /// The key whose row gets a copy; `None` if there is no key, or another command owns it.
    key: Option<IdempotencyKey>,
    fingerprint: String,
    /// In Unix seconds.
    requested_at: i64,
    /// The consumer's time, in Unix seconds.
    now: i64,
    waiting: Option<Waiting>,
}

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    pk: String,
    #[serde(flatten)]
    record: Record,
    fingerprint: String,
    expires_at: i64,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

/// The first command that used an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// Its outcome.
    pub record: Record,
    /// The fingerprint of its route and body.
    pub fingerprint: String,
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed<S> {
    /// All is written.
    Done,
    /// This command was applied or rejected before: this is a redelivery.
    AlreadySettled,
    /// Another command used the key first.
    KeyTaken(First),
    /// Another command changed the aggregate; this is its current state.
    Overtaken(Option<S>),
    /// Another transaction was using one of the rows. Nothing is decided.
    Collided,
}

impl Entry {
    fn new(command: &Command, now: Timestamp, status: CommandStatus, reason: Option<&dyn Reason>) -> Self {
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
            now: now.as_millis() / 1_000,
            waiting: None,
        }
    }

    fn rejected(command: &Command, now: Timestamp, reason: &dyn Reason) -> Self {
        Self::new(command, now, CommandStatus::Rejected, Some(reason))
    }

    fn without_key(self) -> Self {
        Self { key: None, ..self }
    }

    /// How the command has waited; `None` if it does not wait.
    pub fn waited(&self) -> Option<Waited> {
        self.waiting.map(|waiting| waiting.waited)
    }

    /// The row of a command that waits for `time` now. The command counts as never finished after this wait
    /// and all waits once more.
    fn waiting(self, waited: Waited, time: Duration) -> Self {
        let whole = time.as_secs() + PREDECESSOR_WAITS.iter().sum::<u64>();
        let pending_until = self.now + whole.cast_signed();
        Self { waiting: Some(Waiting { waited, pending_until }), ..self }
    }
}

/// Decides a command and writes the decision. Repeats both while it loses races.
///
/// `current` is the aggregate; `None` if there is none or the caller has not read it (the condition of the
/// write finds out). `waited` looks up how the command has waited so far ([`Ledger::waited`]). `commit`
/// writes the entry and, for a `Write`, its effect in one transaction.
///
/// # Errors
/// When a call fails, or the command loses every race.
pub async fn settle<S, W, R: Reason>(
    command: &Command,
    now: Timestamp,
    current: Option<S>,
    decide: impl Fn(Option<&S>) -> Decision<W, R>,
    waited: impl AsyncFn() -> Result<Option<Waited>, CallError>,
    commit: impl AsyncFn(&Entry, Option<&W>) -> Result<Committed<S>, CallError>,
) -> Result<Outcome, Failure> {
    if let Some(Err(_)) = command.key() {
        commit(&Entry::rejected(command, now, &CommonReason::InvalidKey), None).await?;
        return Ok(Outcome::Done);
    }
    let mut current = current;
    for attempt in 0..MAX_ATTEMPTS {
        pause(command.id.as_str(), attempt).await;
        let decision = decide(current.as_ref());
        let (mut entry, effect, wait) = entry_of(command, now, &decision, &waited).await?;
        let committed = match commit(&entry, effect).await {
            // No retry can store the effect. The record alone can be stored.
            Err(CallError::Refused(cause)) if effect.is_some() => {
                tracing::warn!(%cause, "the command cannot be stored");
                entry = Entry::rejected(command, now, &CommonReason::TooLarge);
                commit(&entry, None).await?
            }
            committed => committed?,
        };
        match committed {
            Committed::Done => {
                let Record { status, reason, .. } = &entry.record;
                let Some(time) = wait else {
                    tracing::info!(?status, reason, "command settled");
                    return Ok(Outcome::Done);
                };
                tracing::info!(?status, reason, seconds = time.as_secs(), "command waits");
                return Ok(Outcome::Again(time));
            }
            Committed::AlreadySettled => return Ok(Outcome::Done),
            Committed::Overtaken(actual) => current = actual,
            Committed::Collided => {}
            Committed::KeyTaken(first) => return repeat(command, now, &first, commit).await,
        }
    }
    Err(Failure::Contended)
}

/// The row of a decision and its effect; if the command waits, also for how long.
async fn entry_of<'a, W, R: Reason>(
    command: &Command,
    now: Timestamp,
    decision: &'a Decision<W, R>,
    waited: impl AsyncFn() -> Result<Option<Waited>, CallError>,
) -> Result<(Entry, Option<&'a W>, Option<Duration>), CallError> {
    let (waits_for, reason) = match decision {
        Decision::Write(effect) => {
            return Ok((Entry::new(command, now, CommandStatus::Applied, None), Some(effect), None));
        }
        Decision::Reject(reason) => return Ok((Entry::rejected(command, now, reason), None, None)),
        Decision::NotYet(reason) => (WaitsFor::Predecessor, reason),
        Decision::NotNow(reason) => (WaitsFor::State, reason),
    };
    Ok(match next_wait(command, waits_for, waited).await? {
        Some((time, waited)) => {
            let entry = Entry::new(command, now, CommandStatus::Pending, Some(reason));
            (entry.waiting(waited, time), None, Some(time))
        }
        None => (Entry::rejected(command, now, reason), None, None),
    })
}

/// How long the command waits now, and how it has waited after that; `None` when all waits are over.
///
/// The message's own receives count the waits, so a redriven or delayed message also waits. Receives that
/// failed are not waits: after them, the command waits at least as long as the back-off of a predecessor
/// that failed as often.
async fn next_wait(
    command: &Command,
    waits_for: WaitsFor,
    waited: impl AsyncFn() -> Result<Option<Waited>, CallError>,
) -> Result<Option<(Duration, Waited)>, CallError> {
    let receive = command.receive_count;
    let before = if receive > 1 { waited().await? } else { None };
    let (lost, waits) = match before {
        Some(before) if before.receive < receive => {
            let waits = if before.waits_for == waits_for { before.waits } else { 0 };
            (receive - 1 - before.receive, waits)
        }
        // Another copy of the message wrote the record, or this one was redriven and its receives count
        // from 1 again.
        Some(_) => (0, receive - 1),
        None => (receive - 1, 0),
    };
    let all: &[u64] = match waits_for {
        WaitsFor::Predecessor => &PREDECESSOR_WAITS,
        WaitsFor::State => &STATE_WAITS,
    };
    let planned = all.get(waits as usize).map(|seconds| Duration::from_secs(*seconds));
    let after_faults = (lost > 0).then(|| backoff(lost + 1));
    let time = planned.max(after_faults);
    let waited = Waited { waits_for, waits: (waits + 1).min(all.len() as u32), receive };
    Ok(time.map(|time| (time, waited)))
}

/// Gives `command` the outcome of the first command that used its key.
async fn repeat<S, W>(
    command: &Command,
    now: Timestamp,
    first: &First,
    commit: impl AsyncFn(&Entry, Option<&W>) -> Result<Committed<S>, CallError>,
) -> Result<Outcome, Failure> {
    let mut entry = Entry::rejected(command, now, &CommonReason::KeyReused).without_key();
    let mut outcome = Outcome::Done;
    if first.fingerprint == entry.fingerprint {
        entry.record = Record { command_id: command.id.clone(), ..first.record.clone() };
        if first.record.status == CommandStatus::Pending {
            // Wait until the first command is decided, or counts as never finished and this one takes over
            // the key.
            let receive = command.receive_count;
            let last = PREDECESSOR_WAITS.len() - 1;
            let index = (receive.saturating_sub(1) as usize).min(last);
            let time = Duration::from_secs(PREDECESSOR_WAITS[index]);
            // Waits for the first command do not count as its own waits.
            entry = entry.waiting(Waited { waits_for: WaitsFor::Predecessor, waits: 0, receive }, time);
            outcome = Outcome::Again(time);
        }
    }
    commit(&entry, None).await?;
    Ok(outcome)
}

/// The records of commands.
pub trait Records {
    /// The record of a command; `None` if no function has handled it.
    fn record(&self, id: &CommandId) -> impl Future<Output = Result<Option<Record>, CallError>>;
}

/// The ledger's table.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
}

impl Ledger {
    /// Uses this table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// The record of a command; `None` if no function has handled it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn find(&self, id: &CommandId) -> Result<Option<Record>, CallError> {
        Ok(self.row(id).await?.map(|row| row.record))
    }

    /// How a command has waited so far; `None` if it does not wait.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn waited(&self, id: &CommandId) -> Result<Option<Waited>, CallError> {
        let waits = |row: &Row| row.record.status == CommandStatus::Pending;
        Ok(self.row(id).await?.filter(waits).and_then(|row| row.waiting).map(|waiting| waiting.waited))
    }

    async fn row(&self, id: &CommandId) -> Result<Option<Row>, CallError> {
        let key = Item::from([("pk".into(), AttributeValue::S(command_pk(id)))]);
        get_item(&self.client, &self.table, key).await?.map(read_row).transpose()
    }

    /// Writes `entry` and `effects` in one transaction. `overtaken` reads the stored item of the effect
    /// whose condition does not hold: that effect needs `ReturnValuesOnConditionCheckFailure: ALL_OLD`. It
    /// gets `None` if there is no stored item.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn commit<S>(
        &self,
        entry: &Entry,
        effects: Vec<TransactWriteItem>,
        overtaken: impl FnOnce(Option<Item>) -> Result<Option<S>, CallError>,
    ) -> Result<Committed<S>, CallError> {
        let mut writes = vec![self.put(command_pk(&entry.record.command_id), entry, OWN_AND_PENDING)?];
        if let Some(key) = &entry.key {
            writes.push(self.put(key_pk(ANYONE, key), entry, KEY_IS_FREE)?);
        }
        let own_rows = writes.len();
        writes.extend(effects);
        match transact(&self.client, writes).await? {
            Transaction::Done => Ok(Committed::Done),
            Transaction::ConditionFailed { index: 0, .. } => Ok(Committed::AlreadySettled),
            Transaction::ConditionFailed { index, item } if index < own_rows => {
                let row = read_row(item.unwrap_or_default())?;
                Ok(Committed::KeyTaken(First { record: row.record, fingerprint: row.fingerprint }))
            }
            Transaction::ConditionFailed { item, .. } => Ok(Committed::Overtaken(overtaken(item)?)),
            Transaction::Collided => Ok(Committed::Collided),
        }
    }

    fn put(
        &self,
        pk: String,
        entry: &Entry,
        condition: &'static str,
    ) -> Result<TransactWriteItem, CallError> {
        let row = Row {
            pk,
            record: entry.record.clone(),
            fingerprint: entry.fingerprint.clone(),
            expires_at: entry.requested_at + RETENTION_SECONDS,
            waiting: entry.waiting,
        };
        let mut put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(serde_dynamo::to_item(row).map_err(CallError::refused)?))
            .condition_expression(condition)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":me", AttributeValue::S(entry.record.command_id.to_string()))
            .expression_attribute_values(":pending", AttributeValue::S("PENDING".into()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        // DynamoDB refuses values that the expression does not use.
        if condition == KEY_IS_FREE {
            put = put
                .expression_attribute_values(":now", AttributeValue::N(entry.now.to_string()))
                .expression_attribute_values(":fingerprint", AttributeValue::S(entry.fingerprint.clone()));
        }
        Ok(TransactWriteItem::builder().put(put.build().map_err(CallError::refused)?).build())
    }
}

fn command_pk(id: &CommandId) -> String {
    format!("COMMAND#{id}")
}

/// The length before each part makes the text unique for a pair; the hash keeps the key short.
fn key_pk(agent: &str, key: &IdempotencyKey) -> String {
    let mut hash = Sha256::new();
    for part in [agent, key.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("KEY#{}", hex::encode(hash.finalize()))
}

fn read_row(item: Item) -> Result<Row, CallError> {
    serde_dynamo::from_item(item).map_err(CallError::corrupt)
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
            None::<()>,
            |_| decision.borrow_mut().take().unwrap(),
            async || ledger.waited(&command.id).await,
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

    fn received(command: &Command, receive_count: u32) -> Command {
        Command { receive_count, ..command.clone() }
    }

    /// The waits, in seconds, from receive `first` on, until the command is rejected.
    async fn waits(ledger: &Ledger, first: u32, decision: fn(No) -> Decision<(), No>) -> Vec<u64> {
        let mut waits = Vec::new();
        for receive in first.. {
            let command = received(&command(), receive);
            match settled(ledger, &command, decision(No), command.requested_at).await {
                Outcome::Again(wait) => waits.push(wait.as_secs()),
                Outcome::Done => break,
            }
        }
        assert_eq!(status(ledger, "c-1").await, (CommandStatus::Rejected, Some("no".into())));
        waits
    }

    #[tokio::test]
    async fn a_command_without_its_predecessor_waits_two_minutes_and_one_that_is_not_allowed_14_s() {
        assert_eq!(waits(&ledger().await, 1, Decision::NotYet).await, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(waits(&ledger().await, 1, Decision::NotNow).await, [2, 4, 8]);
    }

    /// The receives of an outage are no waits: counted, they left none for the predecessor.
    #[tokio::test]
    async fn after_an_outage_a_command_waits_as_long_as_its_predecessor_may_back_off() {
        assert_eq!(waits(&ledger().await, 8, Decision::NotYet).await, [128, 4, 8, 16, 30, 30, 30]);
        assert_eq!(waits(&ledger().await, 8, Decision::NotNow).await, [128, 4, 8]);
    }

    type Wait = fn(No) -> Decision<(), No>;

    /// The seconds of the waits at these receives; 0 where it is rejected.
    async fn waits_at(receives: &[u32], decisions: &[Wait]) -> Vec<u64> {
        let ledger = ledger().await;
        let mut waits = Vec::new();
        for (receive, decision) in receives.iter().zip(decisions) {
            let command = received(&command(), *receive);
            waits.push(match settled(&ledger, &command, decision(No), command.requested_at).await {
                Outcome::Again(wait) => wait.as_secs(),
                Outcome::Done => 0,
            });
        }
        waits
    }

    #[tokio::test]
    async fn receives_that_are_lost_between_two_waits_are_no_waits_either() {
        let not_yet = [Decision::NotYet as Wait; 9];
        assert_eq!(waits_at(&[1, 8, 9, 10], &not_yet).await, [2, 64, 8, 16]);
        assert_eq!(waits_at(&[1, 2, 3, 4, 5, 6, 7, 9, 10], &not_yet).await, [2, 4, 8, 16, 30, 30, 30, 2, 0]);
    }

    #[tokio::test]
    async fn a_command_that_found_its_predecessor_waits_anew_for_the_state_that_allows_it() {
        let then = |early: usize| -> Vec<Wait> {
            let not_yet = std::iter::repeat_n(Decision::NotYet as Wait, early);
            not_yet.chain(std::iter::repeat_n(Decision::NotNow as Wait, 4)).collect()
        };
        assert_eq!(waits_at(&[1, 2, 3, 4, 5, 6, 7, 8], &then(4)).await, [2, 4, 8, 16, 2, 4, 8, 0]);
    }

    #[tokio::test]
    async fn a_redriven_command_waits_anew() {
        let ledger = ledger().await;
        for receive in [5, 6, 1, 2] {
            let command = received(&command(), receive);
            settled(&ledger, &command, Decision::NotYet(No), command.requested_at).await;
        }
        let third = received(&command(), 3);
        let outcome = settled(&ledger, &third, Decision::NotYet(No), third.requested_at).await;
        assert_eq!(outcome, Outcome::Again(Duration::from_secs(8)));
    }

    /// A `seller_name` of 500,000 letters was answered with 200, retried ten times, and
    /// dead-lettered.
    #[tokio::test]
    async fn a_command_that_cannot_be_stored_is_rejected_at_once() {
        let ledger = ledger().await;
        let command = command();
        let too_large = async |entry: &Entry, effect: Option<&()>| match effect {
            Some(()) => Err(CallError::Refused("Item size has exceeded the maximum allowed size".into())),
            None => ledger.commit(entry, vec![], |_| Ok(None::<()>)).await,
        };
        let write = |_: Option<&()>| Decision::<(), No>::Write(());
        let none = async || Ok(None);
        let outcome = settle(&command, command.requested_at, None, write, none, too_large).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Rejected, Some("invalid_body".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_loses_every_race_is_contended() {
        let command = command();
        let lost = async |_: &Entry, _: Option<&()>| Ok(Committed::<()>::Collided);
        let write = |_: Option<&()>| Decision::<(), No>::Write(());
        let none = async || Ok(None);
        let outcome = settle(&command, command.requested_at, None, write, none, lost).await;
        assert!(matches!(outcome, Err(Failure::Contended)), "{outcome:?}");
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

    /// The key was dead for 30 days.
    #[tokio::test]
    async fn a_repeat_takes_over_the_key_of_a_command_that_never_finished() {
        let ledger = ledger().await;
        let first = Command { idempotency_key: Some("order-17".into()), ..command() };
        let retry = Command { id: "c-2".parse().unwrap(), ..first.clone() };
        let after = |seconds: i64| first.requested_at.plus_millis(seconds * 1_000);
        settled(&ledger, &first, Decision::NotYet(No), after(0)).await;
        let early = settled(&ledger, &retry, Decision::Write(()), after(121)).await;
        assert!(matches!(early, Outcome::Again(_)), "{early:?}");
        let other = Command { id: "c-3".parse().unwrap(), body: "[]".into(), ..first.clone() };
        settled(&ledger, &other, Decision::Write(()), after(122)).await;
        assert_eq!(status(&ledger, "c-3").await.1.as_deref(), Some("idempotency_key_reused"));
        // Its waits for the first are none of its own.
        let retry = received(&retry, 2);
        let own = settled(&ledger, &retry, Decision::NotYet(No), after(122)).await;
        assert_eq!(own, Outcome::Again(Duration::from_secs(2)));
        assert_eq!(settled(&ledger, &retry, Decision::Write(()), after(122)).await, Outcome::Done);
        assert_eq!(status(&ledger, "c-2").await, (CommandStatus::Applied, None));
        // The first is redriven: it is the same command, which was applied once.
        assert_eq!(settled(&ledger, &first, Decision::Reject(No), after(200)).await, Outcome::Done);
        assert_eq!(status(&ledger, "c-1").await, (CommandStatus::Applied, None));
    }

    #[test]
    fn no_two_pairs_of_agent_and_key_share_a_row() {
        let pk = |agent: &str, key: &str| key_pk(agent, &key.parse().unwrap());
        assert_ne!(pk("a#b", "c"), pk("a", "b#c"));
        assert_eq!(pk("a", "c"), pk("a", "c"));
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
        let within = requested("c-2", RETENTION_SECONDS - 1);
        settled(&ledger, &within, Decision::Write(()), within.requested_at).await;
        assert_eq!(status(&ledger, "c-2").await.1.as_deref(), Some("idempotency_key_reused"));
        // Its row has expired, and DynamoDB has not deleted it yet.
        let after = requested("c-3", RETENTION_SECONDS);
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

    #[tokio::test]
    async fn a_malformed_key_is_rejected() {
        let ledger = ledger().await;
        let command = Command { idempotency_key: Some("two words".into()), ..command() };
        settled(&ledger, &command, Decision::Write(()), command.requested_at).await;
        assert_eq!(status(&ledger, "c-1").await.1.as_deref(), Some("invalid_idempotency_key"));
    }
}
