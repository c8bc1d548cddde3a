//! The listings table. It has three kinds of items, with different partition keys:
//!
//! - `PROPERTY#{country}#{city}`, `{street}#{number}`: a listing, in any status;
//! - `SEARCH#{country}#{city}`, `{street}#{number, 9 digits}`: the same listing as the public
//!   sees it, there only while it is approved, written in one transaction with it;
//! - `CONTRACT#{country}#{city}`, `{street}#{number}`: the property's latest ended contract.
//!
//! Every write of a listing names the version that it replaces.

mod catalogue;
mod listings;
mod publications;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use lambda_kit::CallError;
use lambda_kit::clients::warm_up;
use lambda_kit::item::{Item, get_item};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vocabulary::{ListingStatus, PropertyId};

pub use catalogue::DynamoCatalogue;
pub use listings::DynamoListings;
pub use publications::DynamoPublications;

use crate::domain::{Listing, Revision};
use crate::page::Position;
use crate::ports::Published;

const PK: &str = "PK";
const SK: &str = "SK";

#[derive(Debug, Clone)]
struct Table {
    client: Client,
    name: String,
}

type Key = HashMap<String, AttributeValue>;

impl Table {
    async fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, CallError> {
        get_item(&self.client, &self.name, key).await?.map(read).transpose()
    }

    async fn warm_up(&self, key: Key) {
        warm_up(self.get::<serde::de::IgnoredAny>(key)).await;
    }

    /// The writes that store the next version of a listing and update its search item.
    fn revise(&self, revision: &Revision) -> Result<Vec<TransactWriteItem>, CallError> {
        let Revision { listing, leaves_search } = revision;
        let property = listing.property_id();
        let put = Put::builder()
            .table_name(&self.name)
            .set_item(Some(item(listing_key(&property), listing)?))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match listing.listing_version {
            1 => put.condition_expression("attribute_not_exists(PK)"),
            version => put
                .condition_expression("listing_version = :seen")
                .expression_attribute_values(":seen", AttributeValue::N((version - 1).to_string())),
        };
        let put = put.build().map_err(CallError::refused)?;
        let mut writes = vec![TransactWriteItem::builder().put(put).build()];
        if listing.status == ListingStatus::Approved {
            let shown = Put::builder()
                .table_name(&self.name)
                .set_item(Some(item(search_key(&property)?, &Published::from(listing))?))
                .build()
                .map_err(CallError::refused)?;
            writes.push(TransactWriteItem::builder().put(shown).build());
        } else if *leaves_search {
            let hidden = Delete::builder()
                .table_name(&self.name)
                .set_key(Some(search_key(&property)?))
                .build()
                .map_err(CallError::refused)?;
            writes.push(TransactWriteItem::builder().delete(hidden).build());
        }
        Ok(writes)
    }
}

fn read<T: DeserializeOwned>(item: Item) -> Result<T, CallError> {
    serde_dynamo::from_item(item).map_err(CallError::corrupt)
}

fn item(key: Key, value: &impl Serialize) -> Result<Item, CallError> {
    let mut item: Item = serde_dynamo::to_item(value).map_err(CallError::refused)?;
    item.extend(key);
    Ok(item)
}

fn key(pk: String, sk: String) -> Key {
    HashMap::from([(PK.to_owned(), AttributeValue::S(pk)), (SK.to_owned(), AttributeValue::S(sk))])
}

fn listing_key(property: &PropertyId) -> Key {
    let [country, city, street, number] = property.segments();
    key(format!("PROPERTY#{country}#{city}"), format!("{street}#{number}"))
}

fn contract_key(property: &PropertyId) -> Key {
    let [country, city, street, number] = property.segments();
    key(format!("CONTRACT#{country}#{city}"), format!("{street}#{number}"))
}

fn search_partition(country: &str, city: &str) -> String {
    format!("SEARCH#{country}#{city}")
}

fn search_key(property: &PropertyId) -> Result<Key, CallError> {
    let [country, city, _, _] = property.segments();
    let position = Position::of(property)
        .ok_or_else(|| CallError::Corrupt(format!("{property} was published without a house number")))?;
    Ok(key(search_partition(country, city), position.as_str().to_owned()))
}

fn stored_listing(item: Option<Item>) -> Result<Option<Listing>, CallError> {
    item.map(read).transpose()
}

#[cfg(test)]
mod tests;
