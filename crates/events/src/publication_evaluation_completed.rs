//! The approval workflow has answered a request.

use serde::{Deserialize, Serialize};
use vocabulary::{ApprovalRequestId, ContractVersion, EvaluationReason, EvaluationResult, PropertyId};

use crate::EventDetail;

/// Published by the approval service, at least once per claimed request and always with the
/// same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationEvaluationCompleted {
    /// The property.
    pub property_id: PropertyId,
    /// May the listing be published?
    pub evaluation_result: EvaluationResult,
    /// The request that is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_request_id: Option<ApprovalRequestId>,
    /// Why it was declined; empty or absent when approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluation_reasons: Vec<EvaluationReason>,
    /// The version of the contract that the answer relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
}

impl EventDetail for PublicationEvaluationCompleted {
    const SOURCE: &'static str = "unicorn-properties";
    const DETAIL_TYPE: &'static str = "PublicationEvaluationCompleted";
    const OPENAPI: &'static str = include_str!("../schemas/PublicationEvaluationCompleted.json");
}
