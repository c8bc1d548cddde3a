//! The consumer of the queue: contracts are created and moved.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_kit::CallError;
use lambda_kit::batch::{Deadline, Failure, Outcome, Parsed, Redelivery, each_message};
use lambda_kit::command::{Command, InvalidBody, NotFromTheGateway};
use lambda_kit::ledger::settle;
use serde::Deserialize;
use tracing::Instrument;
use uuid::Uuid;
use vocabulary::{Address, ContractStatus, Decision, PropertyId, Timestamp};

use crate::domain::{Change, DEFAULT_STATUS, Rejection, Request, Terms, decide};
use crate::ports::Contracts;

/// Handles one batch at the time `now`.
///
/// # Errors
/// When the batch names no messages that an answer could name.
pub async fn handle(
    batch: SqsEvent,
    now: Timestamp,
    deadline: Deadline,
    contracts: &impl Contracts,
    queue: &impl Redelivery,
) -> Result<SqsBatchResponse, CallError> {
    let parse = |message: &SqsMessage| parse(message, now);
    each_message(batch, deadline, queue, parse, async |(command, request)| {
        let span = tracing::info_span!(
            "command",
            command_id = %command.id,
            property_id = request.as_ref().ok().map(|request| request.property_id.as_str()),
        );
        handle_command(&command, request, now, contracts).instrument(span).await
    })
    .await
}

async fn handle_command(
    command: &Command,
    request: Result<Request, Rejection>,
    now: Timestamp,
    contracts: &impl Contracts,
) -> Result<Outcome, Failure> {
    // A create mostly meets no contract: its write's own condition is the look-up, and saves one.
    let current = match &request {
        Ok(Request { property_id, change: Change::Move(_), .. }) => contracts.find(property_id).await?,
        _ => None,
    };
    let decision = |current: Option<&_>| match &request {
        Ok(request) => decide(current, request),
        Err(rejection) => Decision::Reject(*rejection),
    };
    settle(
        command,
        now,
        current,
        decision,
        async || contracts.waited(&command.id).await,
        async |entry, contract| contracts.commit(entry, contract).await,
    )
    .await
}

/// What runs in order: a property's commands, or alone, by its id, a command that names none.
type Lane = String;

type Order = (Command, Result<Request, Rejection>);

/// The message can never be handled.
#[derive(Debug, thiserror::Error)]
enum Poison {
    #[error(transparent)]
    NotFromTheGateway(#[from] NotFromTheGateway),
    #[error("no route with {method} leads here")]
    UnknownRoute { method: String },
}

fn parse(message: &SqsMessage, now: Timestamp) -> Result<Parsed<Lane, Order>, Poison> {
    let command = Command::from_message(message)?;
    let request = match command.method.as_str() {
        "POST" => create(&command, now),
        "PUT" => move_on(&command, now),
        method => return Err(Poison::UnknownRoute { method: method.into() }),
    };
    let key = match &request {
        Ok(request) => request.property_id.to_string(),
        Err(_) => format!("command {}", command.id),
    };
    Ok(Parsed { key, requested_at: command.requested_at, work: (command, request) })
}

#[derive(Deserialize)]
struct CreateBody {
    property_id: PropertyId,
    seller_name: String,
    address: Address,
}

impl CreateBody {
    /// Unicode code points.
    const MAX_SELLER_NAME: usize = 200;

    fn is_within_limits(&self) -> bool {
        !self.seller_name.trim().is_empty()
            && self.seller_name.chars().count() <= Self::MAX_SELLER_NAME
            && self.address.is_within_limits()
    }
}

/// A misspelt `status` would be an approval, so unknown members are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    property_id: PropertyId,
    #[serde(default = "default_status")]
    status: ContractStatus,
}

/// Where it is absent; `null` is no status.
fn default_status() -> ContractStatus {
    DEFAULT_STATUS
}

fn create(command: &Command, now: Timestamp) -> Result<Request, Rejection> {
    let body: CreateBody = command.read().map_err(invalid)?;
    if !body.is_within_limits() {
        return Err(Rejection::InvalidBody);
    }
    if body.property_id != body.address.property_id() {
        return Err(Rejection::PropertyIdMismatch);
    }
    // From the command, so that a redelivery creates the same contract.
    let contract_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, command.id.as_str().as_bytes()).to_string();
    let terms = Terms { contract_id, seller_name: body.seller_name, address: body.address };
    Ok(request(command, now, body.property_id, Change::Create(terms)))
}

fn move_on(command: &Command, now: Timestamp) -> Result<Request, Rejection> {
    let body: MoveBody = command.read().map_err(invalid)?;
    Ok(request(command, now, body.property_id, Change::Move(body.status)))
}

fn request(command: &Command, now: Timestamp, property_id: PropertyId, change: Change) -> Request {
    Request { property_id, requested_at: command.credible_request_time(now), change }
}

fn invalid(InvalidBody { line, column }: InvalidBody) -> Rejection {
    tracing::info!(line, column, "the body is not what the API describes");
    Rejection::InvalidBody
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;
    use std::time::Duration;

    use lambda_kit::ledger::{CommandStatus, Committed, Entry, Record, Waited, WaitsFor};
    use serde_json::{Value, json};
    use vocabulary::CommandId;

    use crate::domain::Contract;

    pub(crate) const NOW_MS: i64 = 1_000_000;

    /// Keeps contracts and records as the tables do, and can lose the reply of one call.
    #[derive(Default)]
    pub(crate) struct Fake {
        contracts: RefCell<HashMap<PropertyId, Contract>>,
        pub(crate) records: RefCell<HashMap<CommandId, Record>>,
        waits: RefCell<HashMap<CommandId, Waited>>,
        pub(crate) calls: Cell<u32>,
        /// The call (counted from 1) that fails, and whether it has its effect before.
        pub(crate) fault: Cell<Option<(u32, bool)>>,
        redelivered: RefCell<Vec<(String, u64)>>,
    }

    impl Fake {
        /// Counts a call; `Some(applied)` when this one is to fail.
        fn fails(&self) -> Option<bool> {
            self.calls.set(self.calls.get() + 1);
            self.fault.get().filter(|(call, _)| *call == self.calls.get()).map(|(_, applied)| applied)
        }

        pub(crate) fn record(&self, command: &str) -> (CommandStatus, Option<String>) {
            let record = self.records.borrow()[&command.parse().unwrap()].clone();
            (record.status, record.reason)
        }

        pub(crate) fn contract(&self) -> Option<Contract> {
            self.contracts.borrow().values().next().cloned()
        }

        fn write(&self, entry: &Entry, contract: Option<&Contract>) -> Committed<Contract> {
            let mut records = self.records.borrow_mut();
            let mut contracts = self.contracts.borrow_mut();
            let id = &entry.record.command_id;
            if records.get(id).is_some_and(|record| record.status != CommandStatus::Pending) {
                return Committed::AlreadySettled;
            }
            if let Some(contract) = contract {
                let stored = contracts.get(&contract.property_id).cloned();
                let version = stored.as_ref().map_or(0, |stored| stored.contract_version.0);
                if version + 1 != contract.contract_version.0 {
                    return Committed::Overtaken(stored);
                }
                contracts.insert(contract.property_id.clone(), contract.clone());
            }
            records.insert(id.clone(), entry.record.clone());
            self.waits.borrow_mut().extend(entry.waited().map(|waited| (id.clone(), waited)));
            Committed::Done
        }
    }

    impl Contracts for Fake {
        async fn waited(&self, command: &CommandId) -> Result<Option<Waited>, CallError> {
            Ok(self.waits.borrow().get(command).copied())
        }

        async fn find(&self, property: &PropertyId) -> Result<Option<Contract>, CallError> {
            match self.fails() {
                Some(_) => Err(CallError::Unavailable("lost".into())),
                None => Ok(self.contracts.borrow().get(property).cloned()),
            }
        }

        async fn commit(
            &self,
            entry: &Entry,
            contract: Option<&Contract>,
        ) -> Result<Committed<Contract>, CallError> {
            match self.fails() {
                Some(false) => Err(CallError::Unavailable("lost before".into())),
                Some(true) => {
                    self.write(entry, contract);
                    Err(CallError::Unavailable("lost after".into()))
                }
                None => Ok(self.write(entry, contract)),
            }
        }
    }

    impl Redelivery for Fake {
        async fn redeliver(&self, receipt_handle: &str, after: Duration) -> Result<(), CallError> {
            self.redelivered.borrow_mut().push((receipt_handle.to_owned(), after.as_secs()));
            Ok(())
        }
    }

    pub(crate) fn message(id: &str, method: &str, body: &Value) -> Value {
        received(id, method, body, 1)
    }

    /// A message as it is when it is received for the nth time.
    fn received(id: &str, method: &str, body: &Value, receive: u32) -> Value {
        let text = |value: &str| json!({"stringValue": value, "dataType": "String"});
        json!({
            "messageId": id, "receiptHandle": id, "body": body.as_str().map_or_else(|| body.to_string(), str::to_owned),
            "attributes": {"ApproximateReceiveCount": receive.to_string()},
            "messageAttributes": {
                "CommandId": text(id), "HttpMethod": text(method), "RequestTimeEpoch": text(&NOW_MS.to_string()),
            },
        })
    }

    pub(crate) fn create_body() -> Value {
        json!({
            "property_id": "usa/anytown/main-street/111", "seller_name": "Smith & Sons",
            "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
        })
    }

    fn create(id: &str) -> Value {
        message(id, "POST", &create_body())
    }

    fn approve(id: &str) -> Value {
        approve_again(id, 1)
    }

    fn approve_again(id: &str, receive: u32) -> Value {
        received(id, "PUT", &json!({"property_id": "USA/anytown/main-street/111"}), receive)
    }

    /// The ids that stay in the queue.
    async fn deliver(fake: &Fake, late_ms: i64, records: &[Value]) -> Vec<String> {
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let now = Timestamp::from_millis(NOW_MS + late_ms).unwrap();
        let deadline = Deadline::after(Duration::from_secs(10));
        let response = handle(batch, now, deadline, fake, fake).await.unwrap();
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    #[tokio::test]
    async fn a_create_costs_one_call_and_an_approval_two() {
        let fake = Fake::default();
        assert!(deliver(&fake, 0, &[create("c-1")]).await.is_empty());
        assert_eq!(fake.calls.replace(0), 1);
        assert!(deliver(&fake, 0, &[approve("c-2")]).await.is_empty());
        assert_eq!(fake.calls.get(), 2);
        assert_eq!(fake.contract().unwrap().contract_status, ContractStatus::Approved);
        assert_eq!(fake.contract().unwrap().seller_name, "Smith & Sons");
    }

    /// The queue keeps the clock of the gateway; that of the function's machine was set back.
    #[tokio::test]
    async fn a_command_keeps_its_time_where_the_clock_of_the_function_was_set_back() {
        let fake = Fake::default();
        let mut create = create("c-1");
        create["attributes"]["SentTimestamp"] = json!((NOW_MS + 5).to_string());
        assert!(deliver(&fake, -500_000, &[create]).await.is_empty());
        assert_eq!(fake.contract().unwrap().contract_last_modified_on.as_millis(), NOW_MS);
    }

    #[tokio::test]
    async fn an_approval_that_overtakes_its_create_is_applied_after_it() {
        let fake = Fake::default();
        assert_eq!(deliver(&fake, 0, &[approve("c-2")]).await, ["c-2"]);
        assert_eq!(*fake.redelivered.borrow(), [("c-2".into(), 2)]);
        assert_eq!(fake.record("c-2"), (CommandStatus::Pending, Some("contract_not_found".into())));
        deliver(&fake, 1_000, &[create("c-1")]).await;
        assert!(deliver(&fake, 2_000, &[approve_again("c-2", 2)]).await.is_empty());
        assert_eq!(fake.contract().unwrap().contract_status, ContractStatus::Approved);
        assert_eq!(fake.record("c-2"), (CommandStatus::Applied, None));
    }

    #[tokio::test]
    async fn an_approval_whose_create_never_comes_is_rejected_after_two_minutes() {
        let fake = Fake::default();
        for receive in 1..=7 {
            assert_eq!(deliver(&fake, 0, &[approve_again("c-2", receive)]).await, ["c-2"]);
        }
        assert!(deliver(&fake, 120_000, &[approve_again("c-2", 8)]).await.is_empty());
        assert_eq!(fake.record("c-2"), (CommandStatus::Rejected, Some("contract_not_found".into())));
        assert_eq!(fake.redelivered.borrow().iter().map(|(_, after)| after).sum::<u64>(), 120);
    }

    #[tokio::test]
    async fn every_reason_to_reject_has_a_record() {
        let fake = Fake::default();
        deliver(&fake, 0, &[create("c-1")]).await;
        let with = |member: &str, value: Value| {
            let mut body = create_body();
            body[member] = value;
            body
        };
        let moved = |status: &str| json!({"property_id": "usa/anytown/main-street/111", "status": status});
        let cases = [
            ("contract_exists", "POST", create_body(), 4),
            ("invalid_transition", "PUT", moved("CLOSED"), 4),
            ("invalid_transition", "PUT", moved("DRAFT"), 1),
            ("property_id_mismatch", "POST", with("property_id", json!("usa/anytown/main-street/112")), 1),
            ("invalid_body", "PUT", moved("SOLD"), 1),
            ("invalid_body", "POST", json!("{not json"), 1),
            ("invalid_body", "POST", with("seller_name", json!(" \t")), 1),
            ("invalid_body", "POST", with("seller_name", json!("é".repeat(201))), 1),
            ("invalid_body", "POST", with("seller_name", json!("\u{FFFD}")), 1),
            // A body with optional members refuses others: this one would approve the contract.
            (
                "invalid_body",
                "PUT",
                json!({"property_id": "usa/anytown/main-street/111", "Status": "CANCELLED"}),
                1,
            ),
            ("invalid_body", "PUT", json!({"property_id": "usa/anytown/main-street/111", "status": null}), 1),
        ];
        for (number, (reason, method, body, receive)) in cases.into_iter().enumerate() {
            let id = format!("r-{number}");
            // It has had all its waits.
            let waited = Waited { waits_for: WaitsFor::State, waits: 3, receive: 3 };
            fake.waits.borrow_mut().insert(id.parse().unwrap(), waited);
            let message = received(&id, method, &body, receive);
            assert!(deliver(&fake, 0, &[message]).await.is_empty(), "{body} leaves the queue");
            assert_eq!(fake.record(&id), (CommandStatus::Rejected, Some(reason.into())), "{body}");
        }
        assert_eq!(fake.contract().unwrap().contract_version.0, 1, "nothing else was disturbed");
    }

    #[tokio::test]
    async fn the_limits_of_texts_are_code_points_and_bind_new_commands() {
        let fake = Fake::default();
        let mut body = create_body();
        body["seller_name"] = json!("🦄".repeat(200));
        body["extra"] = json!("ignored");
        deliver(&fake, 0, &[message("c-1", "POST", &body)]).await;
        assert_eq!(fake.record("c-1"), (CommandStatus::Applied, None));
        // White space collapses in the property id: only this limit keeps it out.
        body["address"]["street"] = json!(format!("Main{}Street", " ".repeat(262_000)));
        deliver(&fake, 0, &[message("c-2", "POST", &body)]).await;
        assert_eq!(fake.record("c-2"), (CommandStatus::Rejected, Some("invalid_body".into())));
    }

    #[tokio::test]
    async fn wherever_a_call_fails_the_redelivery_completes_the_command_once() {
        for call in 1..=3 {
            for applied in [false, true] {
                let fake = Fake::default();
                fake.fault.set(Some((call, applied)));
                let mut queue = vec![("c-1", create("c-1")), ("c-2", approve("c-2"))];
                for _round in 0..3 {
                    let batch: Vec<_> = queue.iter().map(|(_, message)| message.clone()).collect();
                    let left = deliver(&fake, 0, &batch).await;
                    queue.retain(|(id, _)| left.iter().any(|left| left == id));
                }
                assert!(queue.is_empty(), "call {call}, applied {applied}");
                let contract = fake.contract().unwrap();
                assert_eq!(
                    (contract.contract_status, contract.contract_version.0),
                    (ContractStatus::Approved, 2)
                );
            }
        }
    }

    #[tokio::test]
    async fn a_message_that_did_not_come_from_the_gateway_is_visible_at_once_and_stays() {
        let fake = Fake::default();
        let stray = json!({"messageId": "x", "receiptHandle": "x", "body": "{}"});
        let no_route = message("y", "PATCH", &json!({}));
        let mut stay = deliver(&fake, 0, &[stray, no_route, create("c-1")]).await;
        stay.sort();
        assert_eq!(stay, ["x", "y"]);
        let mut redelivered = fake.redelivered.borrow().clone();
        redelivered.sort();
        assert_eq!(redelivered, [("x".into(), 0), ("y".into(), 0)]);
        assert!(fake.records.borrow().keys().all(|id| id.as_str() == "c-1"), "no record of a stray message");
        assert!(fake.contract().is_some());
    }
}
