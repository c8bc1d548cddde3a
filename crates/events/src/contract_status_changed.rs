//! A contract was created, or changed its status.

use serde::{Deserialize, Serialize};
use vocabulary::{ContractStatus, ContractVersion, PropertyId, Timestamp};

use crate::EventDetail;

/// The contracts service publishes it for every change of status, including the first `DRAFT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractStatusChanged {
    pub property_id: PropertyId,
    /// The id of the contract; opaque text.
    pub contract_id: String,
    pub contract_status: ContractStatus,
    /// When the contract got this status.
    pub contract_last_modified_on: Timestamp,
    /// Orders the events of one property. Where one of two events has no version, time orders them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
}

impl ContractStatusChanged {
    /// Whether this event is newer than `other`, an event of the same property.
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
