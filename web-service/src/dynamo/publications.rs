//! Listings as events change them, and the ended contracts beside them.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem};
use lambda_kit::CallError;
use lambda_kit::transaction::{Transaction, transact};
use vocabulary::PropertyId;

use super::{Table, contract_key, item, key, listing_key};
use crate::domain::{EndedContract, Listing, Revision};
use crate::ports::Publications;

#[derive(Debug, Clone)]
pub struct DynamoPublications(Table);

impl DynamoPublications {
    pub async fn connect(client: Client, listings: &str) -> Self {
        let table = Table { client, name: listings.to_owned() };
        table.warm_up(key("PROPERTY#".into(), "warm-up".into())).await;
        Self(table)
    }
}

/// A condition that holds while the `known` ended contract is the stored one.
fn still(known: Option<&EndedContract>) -> (&'static str, Option<HashMap<String, AttributeValue>>) {
    let Some(known) = known else { return ("attribute_not_exists(PK)", None) };
    let mut values = HashMap::from([(":ended_at".to_owned(), AttributeValue::S(known.ended_at.to_string()))]);
    let condition = match known.contract_version {
        Some(version) => {
            values.insert(":version".to_owned(), AttributeValue::N(version.to_string()));
            "ended_at = :ended_at AND contract_version = :version"
        }
        None => "ended_at = :ended_at AND attribute_not_exists(contract_version)",
    };
    (condition, Some(values))
}

impl Publications for DynamoPublications {
    async fn load(
        &self,
        property: &PropertyId,
    ) -> Result<(Option<Listing>, Option<EndedContract>), CallError> {
        tokio::try_join!(self.0.get(listing_key(property)), self.0.get(contract_key(property)))
    }

    async fn store(&self, revision: &Revision, ended: Option<&EndedContract>) -> Result<bool, CallError> {
        let (condition, values) = still(ended);
        let check = ConditionCheck::builder()
            .table_name(&self.0.name)
            .set_key(Some(contract_key(&revision.listing.property_id())))
            .condition_expression(condition)
            .set_expression_attribute_values(values)
            .build()
            .map_err(CallError::refused)?;
        let mut writes = self.0.revise(revision)?;
        writes.push(TransactWriteItem::builder().condition_check(check).build());
        // A collision with another transaction is a lost race too: the other one has changed what was read.
        Ok(transact(&self.0.client, writes).await? == Transaction::Done)
    }

    async fn remember(
        &self,
        ended: &EndedContract,
        known: Option<&EndedContract>,
    ) -> Result<bool, CallError> {
        let (condition, values) = still(known);
        let sent = self
            .0
            .client
            .put_item()
            .table_name(&self.0.name)
            .set_item(Some(item(contract_key(&ended.property_id), ended)?))
            .condition_expression(condition)
            .set_expression_attribute_values(values)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error)
                if error.as_service_error().is_some_and(|error| {
                    error.is_conditional_check_failed_exception() || error.is_transaction_conflict_exception()
                }) =>
            {
                Ok(false)
            }
            Err(error) => Err(CallError::from_sdk(error)),
        }
    }
}
