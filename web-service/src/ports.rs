//! What the handlers need from the outside: the agents' listings, their publication, the catalogue that the
//! public searches, and the bus.

use events::PublicationApprovalRequested;
use lambda_kit::CallError;
use lambda_kit::ledger::{Committed, Entry, Waited};
use lambda_kit::publish::Bus;
use serde::{Deserialize, Serialize};
use vocabulary::{Address, CommandId, ListingStatus, OfferTerms, PropertyId};

use crate::domain::{EndedContract, Listing, Revision};
use crate::page::{Position, Scope};

/// The listings as agents change them.
pub trait Listings {
    /// The listing of a property in any status (a consistent read).
    fn find(&self, property: &PropertyId) -> impl Future<Output = Result<Option<Listing>, CallError>>;

    /// How a command has waited so far; `None` if it does not wait.
    fn waited(&self, command: &CommandId) -> impl Future<Output = Result<Option<Waited>, CallError>>;

    /// Writes a command's record and, if there is one, its effect on the listing and on search: all or
    /// nothing.
    fn commit(
        &self,
        entry: &Entry,
        revision: Option<&Revision>,
    ) -> impl Future<Output = Result<Committed<Listing>, CallError>>;
}

/// The listings as events change them, and the ended contracts that the changes depend on.
pub trait Publications {
    /// The listing of a property and its latest ended contract (consistent reads).
    fn load(
        &self,
        property: &PropertyId,
    ) -> impl Future<Output = Result<(Option<Listing>, Option<EndedContract>), CallError>>;

    /// Writes a listing and its effect on search: all or nothing. Returns `false` and writes nothing if the
    /// listing or the ended contract has changed since it was loaded.
    fn store(
        &self,
        revision: &Revision,
        ended: Option<&EndedContract>,
    ) -> impl Future<Output = Result<bool, CallError>>;

    /// Replaces the `known` ended contract. Returns `false` and writes nothing if it has changed since it
    /// was loaded.
    fn remember(
        &self,
        ended: &EndedContract,
        known: Option<&EndedContract>,
    ) -> impl Future<Output = Result<bool, CallError>>;
}

/// What the public sees: the published listings.
pub trait Catalogue {
    /// Up to `limit` listings of `scope` after a position, sorted by street, then by number.
    fn page(
        &self,
        scope: &Scope,
        after: Option<&Position>,
        limit: u32,
    ) -> impl Future<Output = Result<Page, CallError>>;

    /// The published listing of a property, with its images.
    fn details(&self, property: &PropertyId) -> impl Future<Output = Result<Option<Published>, CallError>>;
}

/// Requests to have a listing evaluated.
pub trait Requests {
    /// Publishes a request. It may be repeated.
    fn publish(&self, request: &PublicationApprovalRequested) -> impl Future<Output = Result<(), CallError>>;
}

/// One page of a search's results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of their positions.
    pub listings: Vec<Published>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<Position>,
}

/// A listing as the public sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// As the agent wrote it.
    #[serde(flatten)]
    pub address: Address,
    /// Description, kind of contract, price and currency.
    #[serde(flatten)]
    pub terms: OfferTerms,
    /// Always `APPROVED`.
    pub status: ListingStatus,
    /// Object keys in the images bucket; `None` in search results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
}

impl From<&Listing> for Published {
    fn from(listing: &Listing) -> Self {
        let Listing { offer, status, .. } = listing;
        Self {
            address: offer.address().clone(),
            terms: offer.terms().clone(),
            status: *status,
            images: Some(offer.images().to_vec()),
        }
    }
}

impl Requests for Bus {
    async fn publish(&self, request: &PublicationApprovalRequested) -> Result<(), CallError> {
        Bus::publish(self, request, request.property_id.as_str()).await
    }
}
