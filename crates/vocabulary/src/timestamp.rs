//! Points in time. Their texts have one width, so they sort as the times do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A moment in UTC with milliseconds: `2026-11-23T18:22:06.123Z`, from the year 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// The text or number is not a time from 1970 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time is RFC 3339 in UTC, from 1970 to 9999")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// 9999-12-30T22:00:00Z: the latest time that jiff renders.
    const MAX_MS: i64 = 253_402_207_200_000;

    /// 1970-01-01T00:00:00Z: before every event of this application.
    pub const EARLIEST: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Before 1970 or after 9999.
    pub fn from_millis(ms: i64) -> Result<Self, InvalidTimestamp> {
        if (0..=Self::MAX_MS).contains(&ms) { Ok(Self(ms)) } else { Err(InvalidTimestamp) }
    }

    /// The time of the system's clock. Only `main` calls this: rules get the time as an argument.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond().clamp(0, Self::MAX_MS))
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// One millisecond later.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(Self::MAX_MS))
    }

    /// Limits a time that somebody else sent: a time in the future would be newer than everything that
    /// follows. The limit is `taken` (when the queue or the bus took the message, by its clock) or `now`
    /// (by the consumer's clock), whichever is later, since either clock may be set back.
    #[must_use]
    pub fn credible(self, taken: Self, now: Self) -> Self {
        self.min(taken.max(now))
    }

    /// This time plus `ms` milliseconds, limited to the valid range.
    #[must_use]
    pub fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms).clamp(0, Self::MAX_MS))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Self::from_millis(instant.as_millisecond())
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_one_width_and_sorts_as_the_time_does() {
        let times: Vec<String> = [0, 1_000, 1_795_458_126_120, Timestamp::MAX_MS]
            .map(|ms| Timestamp::from_millis(ms).unwrap().to_string())
            .to_vec();
        assert_eq!(times[2], "2026-11-23T18:22:06.120Z");
        assert!(times.iter().all(|text| text.len() == 24), "{times:?}");
        assert!(times.is_sorted(), "{times:?}");
    }

    #[test]
    fn a_time_survives_its_own_text() {
        let time = Timestamp::from_millis(1_795_458_126_007).unwrap();
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        assert_eq!("yesterday".parse::<Timestamp>(), Err(InvalidTimestamp));
    }
}
