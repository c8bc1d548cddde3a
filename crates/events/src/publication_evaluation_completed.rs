//! The approval workflow answered a request.

use serde::{Deserialize, Deserializer, Serialize};
use vocabulary::{
    ApprovalRequestId, ContractVersion, EvaluationReason, EvaluationResult, PropertyId, Timestamp,
};

use crate::EventDetail;

/// The approval service publishes it at least once per claimed request, always with the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationEvaluationCompleted {
    pub property_id: PropertyId,
    /// Whether the listing may be published.
    pub evaluation_result: EvaluationResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_request_id: Option<ApprovalRequestId>,
    /// Why it was declined; empty, absent or null when approved.
    #[serde(default, deserialize_with = "null_as_none", skip_serializing_if = "Vec::is_empty")]
    pub evaluation_reasons: Vec<EvaluationReason>,
    /// The version of the contract that the answer relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
    /// When the contract got into the state that the answer relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_last_modified_on: Option<Timestamp>,
}

/// Reads a list that may be null: some producers write null for an empty list.
///
/// # Errors
/// When the value is neither null nor a list.
pub fn null_as_none<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl EventDetail for PublicationEvaluationCompleted {
    const SOURCE: &'static str = "unicorn-properties";
    const DETAIL_TYPE: &'static str = "PublicationEvaluationCompleted";
    const OPENAPI: &'static str = include_str!("../schemas/PublicationEvaluationCompleted.json");
}
