//! The consumer of the queue: contracts are created and moved.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_kit::CallError;
use lambda_kit::batch::{Failure, Outcome, Redelivery, each_message};
use lambda_kit::command::{Command, NotFromTheGateway};
use lambda_kit::ledger::settle;
use serde::Deserialize;
use tracing::Instrument;
use uuid::Uuid;
use vocabulary::{Address, ContractStatus, Decision, PropertyId, Timestamp};

use crate::domain::{Change, Rejection, Request, STATUS_OF_A_PLAIN_UPDATE, Terms, decide};
use crate::ports::Contracts;

/// Handles one batch at the time `now`; a command that comes too early waits for
/// `patience` since its request.
///
/// # Errors
/// When the batch names no messages that an answer could name.
pub async fn ingest(
    batch: SqsEvent,
    now: Timestamp,
    patience: Duration,
    contracts: &impl Contracts,
    queue: &impl Redelivery,
) -> Result<SqsBatchResponse, CallError> {
    each_message(batch, queue, parse, async |(command, request)| {
        let span = tracing::info_span!(
            "command",
            command_id = %command.id,
            property_id = request.as_ref().ok().map(|request| request.property_id.as_str()),
        );
        handle(contracts, now, patience, &command, request).instrument(span).await
    })
    .await
}

async fn handle(
    contracts: &impl Contracts,
    now: Timestamp,
    patience: Duration,
    command: &Command,
    request: Result<Request, Rejection>,
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
    let outcome = settle(command, now, patience, current, decision, async |entry, contract| {
        contracts.commit(entry, contract).await
    })
    .await?;
    Ok(outcome)
}

/// What runs in order: a property's commands, or alone, by its id, a command that names none.
type Lane = String;

type Parsed = (Command, Result<Request, Rejection>);

/// The message can never be handled.
#[derive(Debug, thiserror::Error)]
enum Poison {
    #[error(transparent)]
    NotFromTheGateway(#[from] NotFromTheGateway),
    #[error("no route with {method} leads here")]
    UnknownRoute { method: String },
}

fn parse(message: &SqsMessage) -> Result<(Lane, Parsed), Poison> {
    let command = Command::from_message(message)?;
    let request = match command.method.as_str() {
        "POST" => create(&command),
        "PUT" => move_on(&command),
        method => return Err(Poison::UnknownRoute { method: method.into() }),
    };
    let lane = match &request {
        Ok(request) => request.property_id.to_string(),
        Err(_) => format!("command {}", command.id),
    };
    Ok((lane, (command, request)))
}

#[derive(Deserialize)]
struct CreateBody {
    property_id: PropertyId,
    seller_name: String,
    address: Address,
}

#[derive(Deserialize)]
struct MoveBody {
    property_id: PropertyId,
    status: Option<ContractStatus>,
}

fn create(command: &Command) -> Result<Request, Rejection> {
    let body: CreateBody = read_body(&command.body)?;
    if body.seller_name.trim().is_empty() {
        return Err(Rejection::InvalidBody);
    }
    if body.property_id != body.address.property_id() {
        return Err(Rejection::PropertyIdMismatch);
    }
    // From the command, so that a redelivery creates the same contract.
    let contract_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, command.id.as_str().as_bytes()).to_string();
    let terms = Terms { contract_id, seller_name: body.seller_name, address: body.address };
    Ok(request(command, body.property_id, Change::Create(terms)))
}

fn move_on(command: &Command) -> Result<Request, Rejection> {
    let body: MoveBody = read_body(&command.body)?;
    let next = body.status.unwrap_or(STATUS_OF_A_PLAIN_UPDATE);
    Ok(request(command, body.property_id, Change::Move(next)))
}

fn request(command: &Command, property_id: PropertyId, change: Change) -> Request {
    Request { property_id, requested_at: command.requested_at, change }
}

fn read_body<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(body).map_err(|error| {
        // The position, not the text: a body holds names.
        tracing::info!(
            line = error.line(),
            column = error.column(),
            "the body is not what the API describes"
        );
        Rejection::InvalidBody
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    use lambda_kit::ledger::{CommandStatus, Committed, Entry, Record};
    use serde_json::{Value, json};
    use vocabulary::CommandId;

    use crate::domain::Contract;

    const NOW_MS: i64 = 1_000_000;
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Keeps contracts and records as the tables do, and can lose the reply of one call.
    #[derive(Default)]
    struct Fake {
        contracts: RefCell<HashMap<PropertyId, Contract>>,
        records: RefCell<HashMap<CommandId, Record>>,
        calls: Cell<u32>,
        /// The call (counted from 1) that fails, and whether it has its effect before.
        fault: Cell<Option<(u32, bool)>>,
        redelivered: RefCell<Vec<(String, u64)>>,
    }

    impl Fake {
        /// Counts a call; `Some(applied)` when this one is to fail.
        fn fails(&self) -> Option<bool> {
            self.calls.set(self.calls.get() + 1);
            self.fault.get().filter(|(call, _)| *call == self.calls.get()).map(|(_, applied)| applied)
        }

        fn record(&self, command: &str) -> (CommandStatus, Option<String>) {
            let record = self.records.borrow()[&command.parse().unwrap()].clone();
            (record.status, record.reason)
        }

        fn contract(&self) -> Option<Contract> {
            self.contracts.borrow().values().next().cloned()
        }

        fn write(&self, entry: &Entry, contract: Option<&Contract>) -> Committed<Contract> {
            let mut records = self.records.borrow_mut();
            let mut contracts = self.contracts.borrow_mut();
            let id = &entry.record.command_id;
            if records.get(id).is_some_and(|record| record.status != CommandStatus::Pending) {
                return Committed::Before;
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
            Committed::Done
        }
    }

    impl Contracts for Fake {
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

    fn message(id: &str, method: &str, body: &Value) -> Value {
        let text = |value: &str| json!({"stringValue": value, "dataType": "String"});
        json!({
            "messageId": id, "receiptHandle": id, "body": body.as_str().map_or_else(|| body.to_string(), str::to_owned),
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {
                "CommandId": text(id), "HttpMethod": text(method), "RequestTimeEpoch": text(&NOW_MS.to_string()),
            },
        })
    }

    fn create(id: &str) -> Value {
        message(
            id,
            "POST",
            &json!({
                "property_id": "usa/anytown/main-street/111", "seller_name": "Smith & Sons",
                "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
            }),
        )
    }

    fn approve(id: &str) -> Value {
        message(id, "PUT", &json!({"property_id": "USA/anytown/main-street/111"}))
    }

    /// The ids that stay in the queue.
    async fn deliver(fake: &Fake, late_ms: i64, records: &[Value]) -> Vec<String> {
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let now = Timestamp::from_millis(NOW_MS + late_ms).unwrap();
        let response = ingest(batch, now, PATIENCE, fake, fake).await.unwrap();
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

    #[tokio::test]
    async fn an_approval_that_overtakes_its_create_is_applied_after_it() {
        let fake = Fake::default();
        let still_queued = deliver(&fake, 0, &[approve("c-2"), create("c-1")]).await;
        assert_eq!(still_queued, ["c-2"]);
        assert_eq!(*fake.redelivered.borrow(), [("c-2".into(), 2)]);
        assert_eq!(fake.record("c-2"), (CommandStatus::Pending, Some("contract_not_found".into())));
        assert!(deliver(&fake, 2_000, &[approve("c-2")]).await.is_empty());
        assert_eq!(fake.contract().unwrap().contract_status, ContractStatus::Approved);
        assert_eq!(fake.record("c-2"), (CommandStatus::Applied, None));
    }

    #[tokio::test]
    async fn an_approval_whose_create_never_comes_is_rejected_when_its_time_is_up() {
        let fake = Fake::default();
        assert!(deliver(&fake, 30_000, &[approve("c-2")]).await.is_empty());
        assert_eq!(fake.record("c-2"), (CommandStatus::Rejected, Some("contract_not_found".into())));
    }

    #[tokio::test]
    async fn every_reason_to_reject_has_a_record() {
        let fake = Fake::default();
        deliver(&fake, 0, &[create("c-1")]).await;
        let other_address = json!({
            "property_id": "usa/anytown/main-street/112", "seller_name": "x",
            "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
        });
        let closed = json!({"property_id": "usa/anytown/main-street/111", "status": "CLOSED"});
        let sold = json!({"property_id": "usa/anytown/main-street/111", "status": "SOLD"});
        for (id, message, reason) in [
            ("r-1", create("r-1"), "contract_exists"),
            ("r-2", message("r-2", "POST", &other_address), "property_id_mismatch"),
            ("r-3", message("r-3", "PUT", &closed), "invalid_transition"),
            ("r-4", message("r-4", "PUT", &sold), "invalid_body"),
            ("r-5", message("r-5", "POST", &json!("{not json")), "invalid_body"),
        ] {
            assert!(deliver(&fake, 0, &[message]).await.is_empty(), "{id} leaves the queue");
            assert_eq!(fake.record(id), (CommandStatus::Rejected, Some(reason.into())), "{id}");
        }
        assert_eq!(fake.contract().unwrap().contract_version.0, 1, "nothing else was disturbed");
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
        assert_eq!(*fake.redelivered.borrow(), [("x".into(), 0), ("y".into(), 0)]);
        assert!(fake.records.borrow().keys().all(|id| id.as_str() == "c-1"), "no record of a stray message");
        assert!(fake.contract().is_some());
    }
}
