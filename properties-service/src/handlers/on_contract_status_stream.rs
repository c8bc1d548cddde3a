//! Wakes the executions that wait for a contract when it is approved or ends. Every record of a batch is
//! handled on its own, and exactly the failed records are reported.

use events::{ContractStatusChanged, Malformed};
use lambda_kit::CallError;
use lambda_kit::event::EventFailure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::wake;
use crate::handlers::answer_task;
use crate::ports::{Executions, WaitingRoom};

/// A batch of the contract-status table's stream, as Lambda passes it.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>
#[derive(Debug, Deserialize)]
struct StreamBatch {
    /// In the order of the stream. Each is read on its own: one that cannot be read fails alone.
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

/// One change of one item.
#[derive(Debug, Deserialize)]
struct StreamRecord {
    dynamodb: Change,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    /// The item after the change, in `DynamoDB` JSON; absent where it was deleted.
    new_image: Option<Value>,
}

/// The records that Lambda is to deliver again.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html>
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialBatchResponse {
    /// Empty if all records are done.
    pub batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    pub item_identifier: String,
}

/// Handles a batch. A record fails when it cannot be read or an execution cannot be answered. The other
/// executions and the later records are still handled. The event source mapping delivers a failed record
/// again, and finally sends it to the dead-letter queue.
///
/// # Errors
/// When this is not a batch, or a failed record has no sequence number. The whole batch is delivered again.
pub async fn handle(
    batch: Value,
    room: &impl WaitingRoom,
    executions: &impl Executions,
) -> Result<PartialBatchResponse, EventFailure> {
    let StreamBatch { records } =
        StreamBatch::deserialize(&batch).map_err(|cause| Malformed::new(&batch, cause))?;
    let mut response = PartialBatchResponse::default();
    let mut nameless = None;
    for record in records {
        let Err(failure) = handle_record(&record, room, executions).await else { continue };
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let sequence_number = text("/dynamodb/SequenceNumber");
        tracing::error!(
            sequence_number,
            event_id = text("/eventID"),
            property_id = text("/dynamodb/Keys/property_id/S"),
            cause = %failure,
            "record failed"
        );
        match sequence_number {
            Some(number) => response.batch_item_failures.push(ItemFailure { item_identifier: number.into() }),
            None => nameless = Some(failure),
        }
    }
    match nameless {
        None => Ok(response),
        Some(failure) => Err(failure),
    }
}

async fn handle_record(
    record: &Value,
    room: &impl WaitingRoom,
    executions: &impl Executions,
) -> Result<(), EventFailure> {
    // A deleted item is ignored: the service never deletes one.
    let Some(news) = read(record).map_err(|cause| malformed(record, cause))? else { return Ok(()) };
    let mut outcome = Ok(());
    for waiting in room.of(&news.property_id).await? {
        let answered = match waiting.map(|waiting| (wake(&waiting, &news), waiting)) {
            Ok((Some(wake), waiting)) => answer_task(&waiting, &wake, executions, room).await,
            Ok((None, _)) => Ok(()),
            Err(corrupt) => Err(corrupt),
        };
        outcome = outcome.and(answered);
    }
    Ok(outcome?)
}

fn malformed(record: &Value, cause: CallError) -> Malformed {
    let id = record["eventID"].as_str().map(str::to_owned);
    Malformed { id, ..Malformed::new(record, cause) }
}

fn read(record: &Value) -> Result<Option<ContractStatusChanged>, CallError> {
    let record = StreamRecord::deserialize(record).map_err(CallError::corrupt)?;
    let Some(image) = record.dynamodb.new_image else { return Ok(None) };
    let item: serde_dynamo::Item = serde_json::from_value(image).map_err(CallError::corrupt)?;
    serde_dynamo::from_item(item).map(Some).map_err(CallError::corrupt)
}

#[cfg(test)]
pub(crate) mod tests {
    use lambda_kit::fixture::{Call, Fault};
    use serde_json::json;
    use vocabulary::ContractStatus::{Approved, Cancelled, Draft};

    use super::*;
    use crate::domain::tests::{contract, waiting};
    use crate::tests::world::World;

    fn record(sequence_number: &str, news: &ContractStatusChanged) -> Value {
        json!({
            "eventID": sequence_number,
            "eventName": "MODIFY",
            "dynamodb": {
                "SequenceNumber": sequence_number,
                "NewImage": {
                    "property_id": { "S": news.property_id },
                    "contract_id": { "S": news.contract_id },
                    "contract_status": { "S": news.contract_status },
                    "contract_last_modified_on": { "S": news.contract_last_modified_on },
                    "contract_version": { "N": news.contract_version.unwrap().to_string() },
                },
            },
        })
    }

    async fn run(world: &World, records: Vec<Value>) -> Vec<String> {
        let response = handle(json!({ "Records": records }), world, world).await.unwrap();
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// Delivers records; the sequence numbers of those that failed.
    pub(crate) async fn deliver(world: &World, news: &[(&str, ContractStatusChanged)]) -> Vec<String> {
        run(world, news.iter().map(|(number, news)| record(number, news)).collect()).await
    }

    const NONE: [String; 0] = [];

    fn elsewhere(status: vocabulary::ContractStatus) -> ContractStatusChanged {
        ContractStatusChanged {
            property_id: "usa/anytown/oak-lane/2".parse().unwrap(),
            ..contract(status, 2)
        }
    }

    #[tokio::test]
    async fn an_ended_contract_wakes_too_and_a_draft_or_a_deleted_item_wakes_nobody() {
        let world = World::default();
        world.seat(waiting("t", 1));
        assert_eq!(deliver(&world, &[("s-1", contract(Draft, 2))]).await, NONE);
        let deleted = json!({ "eventName": "REMOVE", "dynamodb": { "SequenceNumber": "s-2" } });
        assert_eq!(run(&world, vec![deleted]).await, NONE);
        assert_eq!(world.tokens(), ["t"]);
        assert_eq!(deliver(&world, &[("s-3", contract(Cancelled, 3))]).await, NONE);
        assert_eq!(world.woken.borrow()[0].1.contract_status, Cancelled);
    }

    /// Known fault 13: a token was never cleared, and the next change failed the batch for ever.
    #[tokio::test]
    async fn a_dead_token_is_done_and_its_row_is_removed() {
        let world = World::default();
        world.seat(waiting("timed-out", 1));
        world.seat(waiting("alive", 1));
        world.kill("timed-out");
        assert_eq!(deliver(&world, &[("s-1", contract(Approved, 2))]).await, NONE);
        assert_eq!(world.woken.borrow().len(), 1);
        assert_eq!(world.tokens(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn one_execution_that_cannot_be_told_fails_its_record_alone_and_nobody_else_waits_for_it() {
        let world = World::default();
        world.seat(waiting("refused", 1));
        world.seat(waiting("alive", 1));
        world.seat(crate::domain::Waiting {
            property_id: elsewhere(Draft).property_id,
            ..waiting("behind", 1)
        });
        world.refused.borrow_mut().insert("refused".into());
        let batch = [("s-1", contract(Approved, 2)), ("s-2", elsewhere(Approved))];
        assert_eq!(deliver(&world, &batch).await, ["s-1"]);
        assert_eq!(world.tokens(), ["refused"]);
        world.refused.borrow_mut().clear();
        assert_eq!(deliver(&world, &batch).await, NONE, "the redelivery mends it");
        assert_eq!(world.woken.borrow().len(), 3, "and tells nobody twice");
    }

    /// Known faults 5 and 7, for the stream.
    #[tokio::test]
    async fn a_record_that_cannot_be_read_fails_alone() {
        let world = World::default();
        world.seat(waiting("t", 1));
        let poison = json!({ "dynamodb": { "SequenceNumber": "s-1", "NewImage": { "contract_status": { "S": "MAYBE" } } } });
        let broken = json!({ "dynamodb": { "SequenceNumber": "s-2", "NewImage": "not an item" } });
        let odd = json!({ "dynamodb": { "SequenceNumber": "s-3", "NewImage": ["not", "an", "item"] }, "eventID": 7 });
        let good = record("s-4", &contract(Approved, 2));
        assert_eq!(run(&world, vec![poison, broken, odd, good]).await, ["s-1", "s-2", "s-3"]);
        assert_eq!(world.woken.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_record_that_cannot_even_be_named_fails_the_batch_after_the_others_are_handled() {
        let world = World::default();
        world.seat(waiting("t", 1));
        let good = record("s-1", &contract(Approved, 2));
        let batch = json!({ "Records": [{ "dynamodb": "nothing" }, good] });
        assert!(matches!(handle(batch, &world, &world).await, Err(EventFailure::Malformed(_))));
        assert_eq!(world.woken.borrow().len(), 1);
        let no_batch = handle(json!({ "hello": "world" }), &world, &world).await;
        assert!(matches!(no_batch, Err(EventFailure::Malformed(_))), "{no_batch:?}");
    }

    /// An unreadable row was treated like an outage: no execution of that property was woken.
    #[tokio::test]
    async fn a_broken_row_of_the_waiting_room_fails_the_record_and_all_others_are_woken() {
        let world = World::default();
        world.seat(waiting("t", 1));
        world.has_broken_row.set(true);
        assert_eq!(deliver(&world, &[("s-1", contract(Approved, 2))]).await, ["s-1"]);
        assert_eq!(world.woken.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_crash_at_any_call_is_mended_by_the_redelivery_and_tells_each_execution_once() {
        for fault in Fault::BOTH {
            for call in 0.. {
                let world = World::default();
                world.seat(waiting("one", 1));
                world.seat(waiting("two", 1));
                world.calls.fail(Call::Nth(call), fault);
                let failed = deliver(&world, &[("s-1", contract(Approved, 2))]).await;
                if world.calls.are_planned() {
                    assert_eq!(call, 5, "one query, then wake and leave for each");
                    break;
                }
                assert_eq!(failed, ["s-1"], "call {call} {fault:?}");
                assert_eq!(deliver(&world, &[("s-1", contract(Approved, 2))]).await, NONE);
                assert_eq!(world.woken.borrow().len(), 2, "call {call} {fault:?}");
                assert_eq!(world.tokens(), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn the_answer_has_the_shape_that_lambda_reads() {
        let failed =
            PartialBatchResponse { batch_item_failures: vec![ItemFailure { item_identifier: "s-1".into() }] };
        assert_eq!(
            serde_json::to_value(failed).unwrap(),
            json!({ "batchItemFailures": [{ "itemIdentifier": "s-1" }] })
        );
    }
}
