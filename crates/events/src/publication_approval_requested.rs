//! An agent requested the publication of a listing.

use serde::{Deserialize, Serialize};
use vocabulary::{Address, ApprovalRequestId, ListingStatus, OfferTerms, PropertyId};

use crate::EventDetail;

/// The web service publishes it, with the whole listing that is to be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationApprovalRequested {
    /// The property. It is also the only entry of the event's `resources`.
    pub property_id: PropertyId,
    /// The id of this request. Where it is absent, consumers use the event's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_request_id: Option<ApprovalRequestId>,
    /// Where the property is, as the agent wrote it.
    pub address: Address,
    /// The status of the listing at the time of the request: `PENDING`.
    pub status: ListingStatus,
    /// Description, kind of contract, price and currency.
    #[serde(flatten)]
    pub terms: OfferTerms,
    /// Object keys in the images bucket, 1 to 20.
    pub images: Vec<String>,
}

impl EventDetail for PublicationApprovalRequested {
    const SOURCE: &'static str = "unicorn-web";
    const DETAIL_TYPE: &'static str = "PublicationApprovalRequested";
    const OPENAPI: &'static str = include_str!("../schemas/PublicationApprovalRequested.json");
}
