//! The life of a listing.

use serde::{Deserialize, Serialize};

/// The status of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ListingStatus {
    /// Written; nobody has requested its publication.
    New,
    /// Being evaluated.
    Pending,
    /// Published: the only status that search shows.
    Approved,
    /// The evaluation declined it, or its contract has ended.
    Declined,
    /// Withdrawn by its agent.
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
