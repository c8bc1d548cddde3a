//! Wakes the executions that wait for a contract when it becomes approved or ends. Every
//! record of a batch is handled on its own, and exactly those that failed are reported.

use events::ContractStatusChanged;
use lambda_kit::CallError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::wake;
use crate::handlers::tell;
use crate::ports::{Executions, WaitingRoom};

/// A batch of the contract-status table's stream, as Lambda hands it over.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>
#[derive(Debug, Deserialize)]
pub struct StreamBatch {
    /// In the order of the stream.
    #[serde(rename = "Records")]
    pub records: Vec<StreamRecord>,
}

/// One change of one item.
#[derive(Debug, Deserialize)]
pub struct StreamRecord {
    /// What changed.
    pub dynamodb: Change,
}

/// The change itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// Names the record in a partial batch response.
    pub sequence_number: String,
    /// The item after the change, in `DynamoDB` JSON; absent where it was deleted. Parsed
    /// per record, so that one that cannot be read fails alone.
    pub new_image: Option<Value>,
}

/// Which records are to be delivered again.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html>
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialBatchResponse {
    /// Empty: all are done.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// One record that failed.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Its sequence number.
    pub item_identifier: String,
}

/// Handles a batch. A record fails when an execution could not be told; the others of the
/// same property and the records behind it are handled all the same.
pub async fn handle(
    batch: StreamBatch,
    room: &impl WaitingRoom,
    executions: &impl Executions,
) -> PartialBatchResponse {
    let mut response = PartialBatchResponse::default();
    for StreamRecord { dynamodb: change } in batch.records {
        if let Err(cause) = handle_change(change.new_image, room, executions).await {
            tracing::error!(sequence_number = change.sequence_number, %cause, "record failed");
            response.batch_item_failures.push(ItemFailure { item_identifier: change.sequence_number });
        }
    }
    response
}

async fn handle_change(
    image: Option<Value>,
    room: &impl WaitingRoom,
    executions: &impl Executions,
) -> Result<(), CallError> {
    // A deleted item tells nothing: the service itself never deletes one.
    let Some(image) = image else { return Ok(()) };
    let news = read(image)?;
    let mut outcome = Ok(());
    for waiting in room.of(&news.property_id).await? {
        if let Some(wake) = wake(&waiting, &news)
            && let Err(cause) = tell(&waiting, &wake, executions, room).await
        {
            outcome = Err(cause);
        }
    }
    outcome
}

fn read(image: Value) -> Result<ContractStatusChanged, CallError> {
    let item: serde_dynamo::Item = serde_json::from_value(image).map_err(CallError::corrupt)?;
    serde_dynamo::from_item(item).map_err(CallError::corrupt)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::tests::{contract, waiting};
    use crate::handlers::fakes::{Fault, World};
    use serde_json::json;
    use vocabulary::ContractStatus::{Approved, Cancelled, Draft};

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
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let response = handle(batch, world, world).await;
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
        let good = record("s-3", &contract(Approved, 2));
        assert_eq!(run(&world, vec![poison, broken, good]).await, ["s-1", "s-2"]);
        assert_eq!(world.woken.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_crash_at_any_call_is_mended_by_the_redelivery_and_tells_each_execution_once() {
        for fault in [Fault::Before, Fault::After] {
            for call in 0.. {
                let world = World::default();
                world.seat(waiting("one", 1));
                world.seat(waiting("two", 1));
                world.fail(call, fault);
                let failed = deliver(&world, &[("s-1", contract(Approved, 2))]).await;
                if world.fault_is_ahead() {
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
