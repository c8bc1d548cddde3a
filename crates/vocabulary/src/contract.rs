//! The life of a sale contract.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The status of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ContractStatus {
    /// Created, but not agreed yet.
    Draft,
    /// Agreed: its property may be published.
    Approved,
    /// Cancelled before the sale.
    Cancelled,
    /// The property is sold.
    Closed,
    /// Its time is over.
    Expired,
}

/// The text is not a contract status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a contract status is DRAFT, APPROVED, CANCELLED, CLOSED or EXPIRED")]
pub struct UnknownContractStatus;

impl ContractStatus {
    pub const ALL: [Self; 5] = [Self::Draft, Self::Approved, Self::Cancelled, Self::Closed, Self::Expired];

    /// Whether the contract has ended. It never changes again; the property may get a new contract, and a
    /// listing that relied on the ended one is taken down.
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

/// The number of writes to a property's contracts so far; the first write has version 1. It orders the
/// events of one property.
///
/// In JSON it is an integer, or a text of digits: an EventBridge Pipe copies a `DynamoDB` number as the
/// text in the stream record.
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

    /// The greatest version that consumers accept. A version counts the writes to one property. A greater
    /// one cannot be a count. A consumer that stored it would ignore every later event.
    pub const MAX: Self = Self(1_000_000);

    /// The version, or `None` if it is too great to be a count of writes.
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
