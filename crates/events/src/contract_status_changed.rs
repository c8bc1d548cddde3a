//! A contract came to be, or changed its status.

use serde::{Deserialize, Serialize};
use vocabulary::{ContractStatus, ContractVersion, PropertyId, Timestamp};

use crate::EventDetail;

/// Published by the contracts service for every change of status, the first `DRAFT` included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractStatusChanged {
    /// The property that the contract is about.
    pub property_id: PropertyId,
    /// The contract; opaque.
    pub contract_id: String,
    /// The status that it has now.
    pub contract_status: ContractStatus,
    /// When it got that status.
    pub contract_last_modified_on: Timestamp,
    /// Orders the events of one property; by time where one of two has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
}

impl ContractStatusChanged {
    /// Whether this event tells something newer than `other` does of the same property.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        match (self.contract_version, other.contract_version) {
            (Some(mine), Some(theirs)) => mine > theirs,
            _ => self.contract_last_modified_on > other.contract_last_modified_on,
        }
    }
}

impl EventDetail for ContractStatusChanged {
    const SOURCE: &'static str = "unicorn-contracts";
    const DETAIL_TYPE: &'static str = "ContractStatusChanged";
    const OPENAPI: &'static str = include_str!("../schemas/ContractStatusChanged.json");
}
