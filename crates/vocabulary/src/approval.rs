//! The types of an approval: the id of its request, its result and its reasons.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of one request for approval: opaque text, 1 to 256 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApprovalRequestId(String);

/// Not an approval request id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an approval request id is 1 to 256 characters")]
pub struct InvalidApprovalRequestId;

impl ApprovalRequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApprovalRequestId {
    type Err = InvalidApprovalRequestId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = text.chars().count();
        if (1..=256).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidApprovalRequestId)
        }
    }
}

impl TryFrom<String> for ApprovalRequestId {
    type Error = InvalidApprovalRequestId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ApprovalRequestId> for String {
    fn from(id: ApprovalRequestId) -> Self {
        id.0
    }
}

impl fmt::Display for ApprovalRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an evaluation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EvaluationResult {
    /// The listing may be published.
    Approved,
    /// The listing may not be published.
    Declined,
}

impl EvaluationResult {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::Declined => "DECLINED",
        }
    }
}

/// Why a listing was declined. Producers may add reasons: one that this version does not know is kept as
/// `Other`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum EvaluationReason {
    /// The property has no contract.
    ContractNotFound,
    /// Its contract was cancelled, closed or expired.
    ContractEnded,
    /// Its contract was not approved while the workflow waited.
    ContractNotApprovedInTime,
    /// The sentiment of the description is negative or mixed.
    NegativeDescription,
    /// The moderation found a label in an image.
    UnsafeImage,
    /// An image is not in the bucket.
    ImageNotFound,
    /// An image is not a picture that can be read.
    ImageUnreadable,
    /// The evaluation itself failed.
    EvaluationFailed,
    /// A reason that this version does not know.
    Other(String),
}

impl EvaluationReason {
    /// The reasons that this version knows.
    pub const KNOWN: [Self; 8] = [
        Self::ContractNotFound,
        Self::ContractEnded,
        Self::ContractNotApprovedInTime,
        Self::NegativeDescription,
        Self::UnsafeImage,
        Self::ImageNotFound,
        Self::ImageUnreadable,
        Self::EvaluationFailed,
    ];

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ContractNotFound => "contract_not_found",
            Self::ContractEnded => "contract_ended",
            Self::ContractNotApprovedInTime => "contract_not_approved_in_time",
            Self::NegativeDescription => "negative_description",
            Self::UnsafeImage => "unsafe_image",
            Self::ImageNotFound => "image_not_found",
            Self::ImageUnreadable => "image_unreadable",
            Self::EvaluationFailed => "evaluation_failed",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for EvaluationReason {
    fn from(text: String) -> Self {
        Self::KNOWN.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Self::Other(text))
    }
}

impl From<EvaluationReason> for String {
    fn from(reason: EvaluationReason) -> Self {
        reason.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_not_known_is_kept_as_it_came() {
        let reason: EvaluationReason = serde_json::from_str(r#""bad_weather""#).unwrap();
        assert_eq!(serde_json::to_string(&reason).unwrap(), r#""bad_weather""#);
        let known: EvaluationReason = serde_json::from_str(r#""contract_ended""#).unwrap();
        assert_eq!(known, EvaluationReason::ContractEnded);
    }

    #[test]
    fn a_result_is_one_of_two_words() {
        assert!(serde_json::from_str::<EvaluationResult>(r#""MAYBE""#).is_err());
    }
}
