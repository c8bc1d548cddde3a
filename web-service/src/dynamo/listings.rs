//! Listings as agents change and read them, and the ledger of their commands.

use aws_sdk_dynamodb::Client;
use lambda_kit::CallError;
use lambda_kit::ledger::{Committed, Entry, Ledger, Record, Records, Waited};
use vocabulary::{CommandId, PropertyId};

use super::{Table, key, listing_key, stored_listing};
use crate::domain::{Listing, Revision};
use crate::ports::Listings;

#[derive(Debug, Clone)]
pub struct DynamoListings {
    table: Table,
    ledger: Ledger,
}

impl DynamoListings {
    /// Uses the tables `listings` and `commands`.
    pub async fn connect(client: Client, listings: &str, commands: &str) -> Self {
        let ledger = Ledger::new(client.clone(), commands);
        let table = Table { client, name: listings.to_owned() };
        table.warm_up(key("PROPERTY#".into(), "warm-up".into())).await;
        Self { table, ledger }
    }
}

impl Listings for DynamoListings {
    async fn find(&self, property: &PropertyId) -> Result<Option<Listing>, CallError> {
        self.table.get(listing_key(property)).await
    }

    async fn waited(&self, command: &CommandId) -> Result<Option<Waited>, CallError> {
        self.ledger.waited(command).await
    }

    async fn commit(
        &self,
        entry: &Entry,
        revision: Option<&Revision>,
    ) -> Result<Committed<Listing>, CallError> {
        let effects = revision.map(|revision| self.table.revise(revision)).transpose()?;
        self.ledger.commit(entry, effects.unwrap_or_default(), stored_listing).await
    }
}

impl Records for DynamoListings {
    async fn record(&self, id: &CommandId) -> Result<Option<Record>, CallError> {
        self.ledger.find(id).await
    }
}
