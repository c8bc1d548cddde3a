//! The life of a listing.

use serde::{Deserialize, Serialize};

/// Where a listing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ListingStatus {
    /// Written, and not requested to be published.
    New,
    /// Being evaluated.
    Pending,
    /// Published: the only status that search shows.
    Approved,
    /// Evaluated, and not published; or its contract has ended.
    Declined,
    /// Taken back by its agent.
    Withdrawn,
}

impl ListingStatus {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Declined => "DECLINED",
            Self::Withdrawn => "WITHDRAWN",
        }
    }
}
