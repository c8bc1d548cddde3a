//! The life of a sale contract.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a contract stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ContractStatus {
    /// Created, not agreed yet.
    Draft,
    /// Agreed: its property may be published.
    Approved,
    /// Called off.
    Cancelled,
    /// The property is sold.
    Closed,
    /// Ran out.
    Expired,
}

/// The text names no contract status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a contract status is DRAFT, APPROVED, CANCELLED, CLOSED or EXPIRED")]
pub struct UnknownContractStatus;

impl ContractStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Draft, Self::Approved, Self::Cancelled, Self::Closed, Self::Expired];

    /// Whether the contract is over, for good: the property may get a new one, and a
    /// listing that relied on it comes down.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Cancelled | Self::Closed | Self::Expired)
    }

    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Approved => "APPROVED",
            Self::Cancelled => "CANCELLED",
            Self::Closed => "CLOSED",
            Self::Expired => "EXPIRED",
        }
    }
}

impl FromStr for ContractStatus {
    type Err = UnknownContractStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownContractStatus)
    }
}

impl fmt::Display for ContractStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Grows by one with every write to a property's contract, across contracts; the first is 1.
/// Events of one property order by it.
///
/// In JSON it is an integer, or its digits as text: an EventBridge Pipe can only copy a
/// `DynamoDB` number as the text that stands in the stream record.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-input-transformation.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "NumberOrText", into = "u64")]
pub struct ContractVersion(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(#[serde(deserialize_with = "digits")] u64),
}

fn digits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl From<NumberOrText> for ContractVersion {
    fn from(version: NumberOrText) -> Self {
        match version {
            NumberOrText::Number(number) | NumberOrText::Text(number) => Self(number),
        }
    }
}

impl From<ContractVersion> for u64 {
    fn from(version: ContractVersion) -> Self {
        version.0
    }
}

impl ContractVersion {
    /// The version of a property's first write.
    pub const FIRST: Self = Self(1);

    /// The greatest version that is believed. Versions count the writes to one property: one above
    /// this is no count, and nothing would ever be newer.
    pub const MAX: Self = Self(1_000_000);

    /// The version, if it can be a count of writes; any other counts as absent.
    pub fn credible(self) -> Option<Self> {
        (self <= Self::MAX).then_some(self)
    }

    /// The version of the next write.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ContractVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{ContractStatus, ContractVersion};

    #[test]
    fn a_version_is_read_from_a_number_and_from_the_text_that_a_pipe_makes_of_it() {
        for json in ["3", "\"3\""] {
            assert_eq!(serde_json::from_str::<ContractVersion>(json).unwrap(), ContractVersion(3));
        }
        for json in ["-1", "1.5", "\"three\"", "null", "\"\""] {
            assert!(serde_json::from_str::<ContractVersion>(json).is_err(), "{json}");
        }
        assert_eq!(serde_json::to_string(&ContractVersion(3)).unwrap(), "3");
    }

    #[test]
    fn text_and_status_are_one() {
        for status in ContractStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
        assert!("approved".parse::<ContractStatus>().is_err());
    }
}
