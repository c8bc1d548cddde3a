//! An agent asked for a listing to be published.

use serde::{Deserialize, Serialize};
use vocabulary::{Address, ApprovalRequestId, ListingStatus, OfferTerms, PropertyId};

use crate::EventDetail;

/// Published by the web service, with the whole listing as it is to be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationApprovalRequested {
    /// The property; also the only entry of the event's `resources`.
    pub property_id: PropertyId,
    /// Names this request; where absent, the event's id stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_request_id: Option<ApprovalRequestId>,
    /// Where the property is, as the agent wrote it.
    pub address: Address,
    /// The listing's status when it was requested: `PENDING`.
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
