//! The primary key of a property in every service, built from its address: `country/city/street/number`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `country/city/street/number`: four segments of `[a-z0-9_-]+`, 256 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PropertyId(String);

/// The text is not a property id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a property id is country/city/street/number, each of a-z, 0-9, _ and -, 256 characters at most")]
pub struct InvalidPropertyId;

impl PropertyId {
    /// The greatest length, in characters.
    pub const MAX_LENGTH: usize = 256;

    /// Joins four normalised segments.
    ///
    /// # Errors
    /// When a segment is not normalised.
    pub fn from_segments(
        country: &str,
        city: &str,
        street: &str,
        number: &str,
    ) -> Result<Self, InvalidPropertyId> {
        format!("{country}/{city}/{street}/{number}").parse()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `[country, city, street, number]`.
    pub fn segments(&self) -> [&str; 4] {
        let mut parts = self.0.split('/');
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

impl FromStr for PropertyId {
    type Err = InvalidPropertyId;

    /// Letters in any case are accepted, and converted to lower case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_ascii_lowercase();
        let is_segment = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        };
        let well_formed =
            text.len() <= Self::MAX_LENGTH && text.split('/').count() == 4 && text.split('/').all(is_segment);
        if well_formed { Ok(Self(text)) } else { Err(InvalidPropertyId) }
    }
}

impl TryFrom<String> for PropertyId {
    type Error = InvalidPropertyId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PropertyId> for String {
    fn from(id: PropertyId) -> Self {
        id.0
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_case_is_taken_and_kept_in_lower_case() {
        let id: PropertyId = "USA/AnyTown/Main-Street/111".parse().unwrap();
        assert_eq!(id.as_str(), "usa/anytown/main-street/111");
        assert_eq!(id.segments(), ["usa", "anytown", "main-street", "111"]);
    }

    #[test]
    fn what_does_not_fit_the_grammar_is_refused() {
        let long = format!("usa/anytown/{}/1", "s".repeat(256));
        for text in ["", "usa", "a/b/c", "a/b/c/d/e", "a//c/1", "a/b c/d/1", "a/b/c/1\n", "ä/b/c/1", &long] {
            assert_eq!(text.parse::<PropertyId>(), Err(InvalidPropertyId), "{text:?}");
        }
    }

    #[test]
    fn serde_goes_through_the_parser() {
        assert!(serde_json::from_str::<PropertyId>(r#""a/b/c""#).is_err());
        let id: PropertyId = serde_json::from_str(r#""A/b/c/1""#).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""a/b/c/1""#);
    }
}
