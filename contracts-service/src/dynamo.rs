//! The contracts table (partition key `property_id`) and, in the same transactions, the
//! ledger of commands.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use lambda_kit::CallError;
use lambda_kit::clients::warm_up;
use lambda_kit::item::{Item, get_item};
use lambda_kit::ledger::{Committed, Entry, Ledger, Record, Records, Waited};
use vocabulary::{CommandId, ContractVersion, PropertyId};

use crate::domain::Contract;
use crate::ports::Contracts;

/// Both tables of the service.
#[derive(Debug, Clone)]
pub struct DynamoContracts {
    client: Client,
    table: String,
    ledger: Ledger,
}

impl DynamoContracts {
    /// Uses these tables, and opens the connection with one read of the contracts.
    pub async fn connect(client: Client, table: String, commands_table: String) -> Self {
        let contracts = Self { ledger: Ledger::new(client.clone(), commands_table), client, table };
        warm_up(contracts.get(AttributeValue::S("warm-up".into()))).await;
        contracts
    }

    async fn get(&self, property_id: AttributeValue) -> Result<Option<Item>, CallError> {
        let key = Item::from([("property_id".into(), property_id)]);
        get_item(&self.client, &self.table, key).await
    }

    /// Writes `contract` if the stored version is the one just before it.
    fn put(&self, contract: &Contract) -> Result<TransactWriteItem, CallError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(serde_dynamo::to_item(contract).map_err(CallError::refused)?))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = if contract.contract_version == ContractVersion::FIRST {
            put.condition_expression("attribute_not_exists(property_id)")
        } else {
            let before = contract.contract_version.0 - 1;
            put.condition_expression("contract_version = :before")
                .expression_attribute_values(":before", AttributeValue::N(before.to_string()))
        };
        Ok(TransactWriteItem::builder().put(put.build().map_err(CallError::refused)?).build())
    }
}

fn read(item: Item) -> Result<Contract, CallError> {
    serde_dynamo::from_item(item).map_err(CallError::corrupt)
}

impl Contracts for DynamoContracts {
    async fn find(&self, property: &PropertyId) -> Result<Option<Contract>, CallError> {
        self.get(AttributeValue::S(property.to_string())).await?.map(read).transpose()
    }

    async fn waited(&self, command: &CommandId) -> Result<Option<Waited>, CallError> {
        self.ledger.waited(command).await
    }

    async fn commit(
        &self,
        entry: &Entry,
        contract: Option<&Contract>,
    ) -> Result<Committed<Contract>, CallError> {
        let effects = contract.map(|contract| self.put(contract)).transpose()?;
        self.ledger.commit(entry, effects.into_iter().collect(), |item| item.map(read).transpose()).await
    }
}

impl Records for DynamoContracts {
    async fn record(&self, id: &CommandId) -> Result<Option<Record>, CallError> {
        self.ledger.find(id).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lambda_kit::batch::Deadline;
    use lambda_kit::fixture::{Redeliveries, batch, dynamodb};
    use lambda_kit::ledger::CommandStatus;
    use serde_json::{Value, json};
    use vocabulary::ContractStatus;

    use super::*;
    use crate::handlers::ingest;
    use crate::tests::world::{at, create_body, message};

    async fn tables() -> DynamoContracts {
        let client = dynamodb(&[("contracts", &["property_id"]), ("commands", &["pk"])]).await.unwrap();
        DynamoContracts::connect(client, "contracts".into(), "commands".into()).await
    }

    async fn send(tables: &DynamoContracts, id: &str, method: &str, body: Value) {
        let batch = batch(&[message(id, method, &body)]);
        let deadline = Deadline::after(Duration::from_secs(10));
        ingest::handle(batch, at(0), deadline, tables, &Redeliveries::default()).await.unwrap();
    }

    async fn stored(tables: &DynamoContracts) -> Contract {
        let property = "usa/anytown/main-street/111".parse().unwrap();
        tables.find(&property).await.unwrap().unwrap()
    }

    async fn reason(tables: &DynamoContracts, id: &str) -> Option<String> {
        tables.record(&id.parse().unwrap()).await.unwrap().unwrap().reason
    }

    #[tokio::test]
    async fn a_contract_lives_its_life_in_the_table() {
        let tables = tables().await;
        send(&tables, "c-1", "POST", create_body()).await;
        let property = json!({"property_id": "usa/anytown/main-street/111"});
        send(&tables, "c-2", "PUT", property.clone()).await;
        let mut closed = property;
        closed["status"] = json!("CLOSED");
        send(&tables, "c-3", "PUT", closed).await;
        let ended = stored(&tables).await;
        assert_eq!((ended.contract_status, ended.contract_version.0), (ContractStatus::Closed, 3));
        send(&tables, "c-4", "POST", create_body()).await;
        let next = stored(&tables).await;
        assert_eq!((next.contract_status, next.contract_version.0), (ContractStatus::Draft, 4));
        assert_ne!(next.contract_id, ended.contract_id);
        assert!(next.contract_last_modified_on > ended.contract_last_modified_on);
    }

    #[tokio::test]
    async fn a_redelivered_create_writes_nothing_and_a_second_one_is_rejected() {
        let tables = tables().await;
        send(&tables, "c-1", "POST", create_body()).await;
        let first = stored(&tables).await;
        send(&tables, "c-1", "POST", create_body()).await;
        send(&tables, "c-2", "POST", create_body()).await;
        assert_eq!(stored(&tables).await, first);
        assert_eq!(reason(&tables, "c-1").await, None);
        assert_eq!(reason(&tables, "c-2").await.as_deref(), Some("contract_exists"));
    }

    /// Known fault 14: load, then save the whole item, overwrote a concurrent change.
    #[tokio::test]
    async fn a_decision_on_an_outdated_contract_is_not_written() {
        let tables = tables().await;
        send(&tables, "c-1", "POST", create_body()).await;
        let draft = stored(&tables).await;
        send(&tables, "c-2", "PUT", json!({"property_id": "usa/anytown/main-street/111"})).await;
        let stale = Contract {
            contract_status: ContractStatus::Expired,
            contract_version: draft.contract_version.next(),
            ..draft
        };
        let put = tables.put(&stale).unwrap();
        let sent = tables.client.transact_write_items().transact_items(put).send().await;
        assert!(sent.is_err(), "the version moved on");
        assert_eq!(stored(&tables).await.contract_status, ContractStatus::Approved);
    }

    #[tokio::test]
    async fn the_outcome_of_a_command_can_be_read() {
        let tables = tables().await;
        send(&tables, "c-1", "POST", create_body()).await;
        let record = tables.record(&"c-1".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(record.status, CommandStatus::Applied);
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            json!({"command_id": "c-1", "status": "APPLIED", "reason": null, "message": null})
        );
    }
}
