//! What the public sees. It reads only the partitions `SEARCH#...`, and the function's role allows no
//! other: an unapproved listing cannot be shown, because it cannot be read.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use lambda_kit::CallError;
use lambda_kit::item::Item;
use vocabulary::{Address, OfferTerms, PropertyId};

use super::{PK, SK, Table, key, read, search_key, search_partition};
use crate::page::{Position, Scope};
use crate::ports::{Catalogue, Page, Published};

#[derive(Debug, Clone)]
pub struct DynamoCatalogue(Table);

/// The attributes that a page of results reads: the position, and all of the listing but the images.
fn page_attributes() -> impl Iterator<Item = &'static str> {
    Address::NAMES.into_iter().chain(OfferTerms::NAMES).chain(["status", SK])
}

impl DynamoCatalogue {
    pub async fn connect(client: Client, listings: &str) -> Self {
        let table = Table { client, name: listings.to_owned() };
        table.warm_up(key(search_partition("", ""), "warm-up".into())).await;
        Self(table)
    }
}

fn position(item: &Item) -> Result<Position, CallError> {
    match item.get(SK) {
        Some(AttributeValue::S(sort_key)) => Ok(sort_key.clone().into()),
        _ => Err(CallError::Corrupt("an item without a sort key".into())),
    }
}

impl Catalogue for DynamoCatalogue {
    async fn page(&self, scope: &Scope, after: Option<&Position>, limit: u32) -> Result<Page, CallError> {
        let partition = search_partition(scope.country(), scope.city());
        let query = self
            .0
            .client
            .query()
            .table_name(&self.0.name)
            .consistent_read(true)
            // One item more than the page shows: it says whether there is a next page, without another
            // call.
            .limit(i32::try_from(limit).unwrap_or(i32::MAX).saturating_add(1))
            // Reserved words need placeholders; it is simpler to give one to every name.
            .set_expression_attribute_names(Some(
                page_attributes().map(|name| (format!("#{name}"), name.to_owned())).collect(),
            ))
            .projection_expression(
                page_attributes().map(|name| format!("#{name}")).collect::<Vec<_>>().join(", "),
            )
            .expression_attribute_values(":pk", AttributeValue::S(partition.clone()))
            .set_exclusive_start_key(after.map(|after| key(partition, after.as_str().to_owned())));
        let query = match scope.street() {
            // The `#` makes the street exact: `main#` is not a prefix of `main-street#1`.
            Some(street) => query
                .key_condition_expression(format!("{PK} = :pk AND begins_with(#{SK}, :street)"))
                .expression_attribute_values(":street", AttributeValue::S(format!("{street}#"))),
            None => query.key_condition_expression(format!("{PK} = :pk")),
        };
        let answer = query.send().await.map_err(CallError::from_sdk)?;
        // DynamoDB also ends a page after it has read 1 MB:
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html
        let cut_short = answer.last_evaluated_key.is_some();
        let mut items = answer.items.unwrap_or_default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = cut_short || items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(position).transpose()?;
        Ok(Page { listings: items.into_iter().map(read).collect::<Result<_, _>>()?, next })
    }

    async fn details(&self, property: &PropertyId) -> Result<Option<Published>, CallError> {
        // A property without a valid house number has no position in the catalogue.
        if Position::of(property).is_none() {
            return Ok(None);
        }
        self.0.get(search_key(property)?).await
    }
}
