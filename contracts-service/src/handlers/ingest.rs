//! The consumer of the ingest queue: creates contracts and changes their status.

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
/// When a message has no id: the whole batch is delivered again.
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
    // A property mostly has no contract before a create. The condition of the write checks that, which
    // saves a read.
    let current = match &request {
        Ok(Request { property_id, change: Change::Move(_), .. }) => contracts.find(property_id).await?,
        Ok(Request { change: Change::Create(_), .. }) | Err(_) => None,
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

/// Commands of one lane run in order. The lane is the property id, or the command id if that is not valid.
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

/// Unknown members are refused: without `status`, which may be misspelt, the command is an approval.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    property_id: PropertyId,
    #[serde(default = "default_status")]
    status: ContractStatus,
}

/// Used where `status` is absent; `null` is not a status.
fn default_status() -> ContractStatus {
    DEFAULT_STATUS
}

fn create(command: &Command, now: Timestamp) -> Result<Request, Rejection> {
    let CreateBody { property_id, seller_name, address } = command.read().map_err(invalid)?;
    // Derived from the command, so a redelivery creates the same contract.
    let contract_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, command.id.as_str().as_bytes()).to_string();
    let terms = Terms::new(contract_id, seller_name, address)?;
    if property_id != terms.address.property_id() {
        return Err(Rejection::PropertyIdMismatch);
    }
    Ok(request(command, now, property_id, Change::Create(terms)))
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
mod tests {
    use std::time::Duration;

    use lambda_kit::fixture::{Call, Fault, Redeliveries, batch, failed, received};
    use lambda_kit::ledger::{CommandStatus, Waited, WaitsFor};
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::world::{World, at, create_body, message};

    /// A world and the queue that feeds it.
    #[derive(Default)]
    struct Service {
        world: World,
        queue: Redeliveries,
    }

    impl Service {
        /// The ids that stay in the queue.
        async fn deliver(&self, late_ms: i64, messages: &[Value]) -> Vec<String> {
            let deadline = Deadline::after(Duration::from_secs(10));
            let response = handle(batch(messages), at(late_ms), deadline, &self.world, &self.queue).await;
            failed(response.unwrap())
        }

        fn outcome(&self, id: &str) -> (CommandStatus, Option<String>) {
            self.world.ledger.outcome(id).unwrap()
        }
    }

    fn create(id: &str) -> Value {
        message(id, "POST", &create_body())
    }

    fn approve(id: &str) -> Value {
        approve_again(id, 1)
    }

    fn approve_again(id: &str, receive: u32) -> Value {
        received(message(id, "PUT", &json!({"property_id": "USA/anytown/main-street/111"})), receive)
    }

    #[tokio::test]
    async fn a_create_costs_one_call_and_an_approval_two() {
        let service = Service::default();
        assert!(service.deliver(0, &[create("c-1")]).await.is_empty());
        assert_eq!(service.world.calls.take(), ["commit"]);
        assert!(service.deliver(0, &[approve("c-2")]).await.is_empty());
        assert_eq!(service.world.calls.take(), ["find", "commit"]);
        assert_eq!(service.world.contract().unwrap().contract_status, ContractStatus::Approved);
        assert_eq!(service.world.contract().unwrap().seller_name, "Smith & Sons");
    }

    /// The queue has the right time; the clock of the function's machine was set back.
    #[tokio::test]
    async fn a_command_keeps_its_time_where_the_clock_of_the_function_was_set_back() {
        let service = Service::default();
        let mut create = create("c-1");
        create["attributes"]["SentTimestamp"] = json!(at(5).as_millis().to_string());
        assert!(service.deliver(-500_000, &[create]).await.is_empty());
        assert_eq!(service.world.contract().unwrap().contract_last_modified_on, at(0));
    }

    #[tokio::test]
    async fn an_approval_that_overtakes_its_create_is_applied_after_it() {
        let service = Service::default();
        assert_eq!(service.deliver(0, &[approve("c-2")]).await, ["c-2"]);
        assert_eq!(*service.queue.0.borrow(), [("c-2".into(), 2)]);
        assert_eq!(service.outcome("c-2"), (CommandStatus::Pending, Some("contract_not_found".into())));
        service.deliver(1_000, &[create("c-1")]).await;
        assert!(service.deliver(2_000, &[approve_again("c-2", 2)]).await.is_empty());
        assert_eq!(service.world.contract().unwrap().contract_status, ContractStatus::Approved);
        assert_eq!(service.outcome("c-2"), (CommandStatus::Applied, None));
    }

    #[tokio::test]
    async fn an_approval_whose_create_never_comes_is_rejected_after_two_minutes() {
        let service = Service::default();
        for receive in 1..=7 {
            assert_eq!(service.deliver(0, &[approve_again("c-2", receive)]).await, ["c-2"]);
        }
        assert!(service.deliver(120_000, &[approve_again("c-2", 8)]).await.is_empty());
        assert_eq!(service.outcome("c-2"), (CommandStatus::Rejected, Some("contract_not_found".into())));
        assert_eq!(service.queue.0.borrow().iter().map(|(_, after)| after).sum::<u64>(), 120);
    }

    #[tokio::test]
    async fn every_reason_to_reject_has_a_record() {
        let service = Service::default();
        service.deliver(0, &[create("c-1")]).await;
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
            // The command has had all its waits.
            let waited = Waited { waits_for: WaitsFor::State, waits: 3, receive: 3 };
            service.world.ledger.put_waited(&id.parse().unwrap(), waited);
            let message = received(message(&id, method, &body), receive);
            assert!(service.deliver(0, &[message]).await.is_empty(), "{body} leaves the queue");
            assert_eq!(service.outcome(&id), (CommandStatus::Rejected, Some(reason.into())), "{body}");
        }
        assert_eq!(service.world.contract().unwrap().contract_version.0, 1, "nothing else was disturbed");
    }

    #[tokio::test]
    async fn the_limits_of_texts_are_code_points_and_bind_new_commands() {
        let service = Service::default();
        let mut body = create_body();
        body["seller_name"] = json!("🦄".repeat(200));
        body["extra"] = json!("ignored");
        service.deliver(0, &[message("c-1", "POST", &body)]).await;
        assert_eq!(service.outcome("c-1"), (CommandStatus::Applied, None));
        // White space collapses in the property id: only this limit keeps it out.
        body["address"]["street"] = json!(format!("Main{}Street", " ".repeat(262_000)));
        service.deliver(0, &[message("c-2", "POST", &body)]).await;
        assert_eq!(service.outcome("c-2"), (CommandStatus::Rejected, Some("invalid_body".into())));
    }

    #[tokio::test]
    async fn wherever_a_call_fails_the_redelivery_completes_the_command_once() {
        for call in 0..3 {
            for fault in Fault::BOTH {
                let service = Service::default();
                service.world.calls.fail(Call::Nth(call), fault);
                let mut queue = vec![("c-1", create("c-1")), ("c-2", approve("c-2"))];
                for _round in 0..3 {
                    let batch: Vec<_> = queue.iter().map(|(_, message)| message.clone()).collect();
                    let left = service.deliver(0, &batch).await;
                    queue.retain(|(id, _)| left.iter().any(|left| left == id));
                }
                assert!(queue.is_empty(), "call {call}, {fault:?}");
                let contract = service.world.contract().unwrap();
                assert_eq!(
                    (contract.contract_status, contract.contract_version.0),
                    (ContractStatus::Approved, 2)
                );
            }
        }
    }

    #[tokio::test]
    async fn a_message_that_did_not_come_from_the_gateway_is_visible_at_once_and_stays() {
        let service = Service::default();
        let stray = json!({"messageId": "x", "receiptHandle": "x", "body": "{}"});
        let no_route = message("y", "PATCH", &json!({}));
        let mut stay = service.deliver(0, &[stray, no_route, create("c-1")]).await;
        stay.sort();
        assert_eq!(stay, ["x", "y"]);
        let mut redelivered = service.queue.0.borrow().clone();
        redelivered.sort();
        assert_eq!(redelivered, [("x".into(), 0), ("y".into(), 0)]);
        assert_eq!(service.world.ledger.ids(), ["c-1"], "no record of a stray message");
        assert!(service.world.contract().is_some());
    }
}
