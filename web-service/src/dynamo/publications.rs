//! Listings as events change them, and the ended contracts beside them.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, ConditionCheck, TransactWriteItem};
use lambda_kit::CallError;
use vocabulary::PropertyId;

use super::{Table, contract_key, item, key, listing_key};
use crate::domain::{EndedContract, Listing, Revision};
use crate::ports::Publications;

/// The events' side of the table.
#[derive(Debug, Clone)]
pub struct DynamoPublications(Table);

impl DynamoPublications {
    /// In the table `listings`.
    pub async fn connect(client: Client, listings: &str) -> Self {
        let table = Table { client, name: listings.to_owned() };
        table.warm_up(key("PROPERTY#".into(), "warm-up".into())).await;
        Self(table)
    }
}

/// A condition that holds as long as the `known` ended contract is the stored one.
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

/// `false` where a transaction was cancelled because somebody else was faster. Anything else is an
/// error by its own code: that of the transaction says nothing of whether it may pass.
fn lost(reasons: &[CancellationReason]) -> Result<bool, CallError> {
    let mut codes = reasons.iter().filter_map(CancellationReason::code);
    // A collision with another transaction is a lost race as well: whoever won it has changed what
    // was read.
    if codes.clone().any(|code| matches!(code, "ConditionalCheckFailed" | "TransactionConflict")) {
        return Ok(false);
    }
    let code = codes.find(|code| *code != "None");
    Err(CallError::by_code(code, format!("the transaction was cancelled: {reasons:?}")))
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
        let sent = self.0.client.transact_write_items().set_transact_items(Some(writes)).send().await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    lost(cancelled.cancellation_reasons())
                }
                _ => Err(CallError::from_sdk(error)),
            },
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collision_is_a_lost_race_and_any_other_reason_says_whether_it_may_pass() {
        let cancelled = |code: &str| {
            let reason = |code| CancellationReason::builder().code(code).build();
            lost(&[reason("None"), reason(code)])
        };
        for code in ["ConditionalCheckFailed", "TransactionConflict"] {
            assert_eq!(cancelled(code), Ok(false), "{code}");
        }
        assert_eq!(cancelled("ValidationError").unwrap_err().kind(), "Refused");
        assert_eq!(cancelled("ThrottlingError").unwrap_err().kind(), "Unavailable");
    }
}
