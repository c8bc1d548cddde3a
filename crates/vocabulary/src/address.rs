//! A postal address as agents write it, and the rule that turns it into a property id.

use serde::{Deserialize, Serialize};

use crate::PropertyId;

/// The address of a property. A value of this type always has a [`PropertyId`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Address {
    country: String,
    city: String,
    street: String,
    number: u32,
}

/// No property id can be built from the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "country, city and street take letters, digits, white space and . , ' - _ (256 characters in all), \
     the number is from 1 to 999999999"
)]
pub struct InvalidAddress;

/// An address as it stands in JSON.
#[derive(Deserialize)]
struct Unchecked {
    country: String,
    city: String,
    street: String,
    number: u32,
}

impl Address {
    /// The names of all members: the attributes of a stored item.
    pub const NAMES: [&str; 4] = ["country", "city", "street", "number"];

    /// The greatest house number.
    pub const MAX_NUMBER: u32 = 999_999_999;

    /// The greatest length of country, city and street each, as written, in Unicode code points. The limit
    /// is for new commands only; a stored address is read as it is.
    pub const MAX_TEXT: usize = 100;

    /// Checks and keeps the texts as they were written.
    ///
    /// # Errors
    /// When a text holds a character that is not allowed, or is empty after it is normalised.
    pub fn new(
        country: impl Into<String>,
        city: impl Into<String>,
        street: impl Into<String>,
        number: u32,
    ) -> Result<Self, InvalidAddress> {
        let address = Self { country: country.into(), city: city.into(), street: street.into(), number };
        address.build_id().map(|_| address)
    }

    /// The primary key of the property at this address.
    pub fn property_id(&self) -> PropertyId {
        // `new` accepts only addresses for which this succeeds.
        self.build_id().unwrap_or_else(|_| unreachable!("an Address has a property id"))
    }

    /// Whether each text is short enough for a new command.
    pub fn is_within_limits(&self) -> bool {
        let texts = [&self.country, &self.city, &self.street];
        texts.iter().all(|text| text.chars().count() <= Self::MAX_TEXT)
    }

    pub fn country(&self) -> &str {
        &self.country
    }

    pub fn city(&self) -> &str {
        &self.city
    }

    pub fn street(&self) -> &str {
        &self.street
    }

    /// The house number, from 1 to [`Address::MAX_NUMBER`].
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Turns free text into one segment of a property id: trims it, converts ASCII letters to lower case,
    /// removes `.` `,` `'`, and replaces every run of white space by one `-`.
    pub fn segment(text: &str) -> String {
        let kept: String = text.chars().filter(|c| !matches!(c, '.' | ',' | '\'')).collect();
        kept.to_ascii_lowercase().split_whitespace().collect::<Vec<_>>().join("-")
    }

    fn build_id(&self) -> Result<PropertyId, InvalidAddress> {
        let allowed =
            |c: char| c.is_ascii() && (c.is_alphanumeric() || c.is_whitespace() || ".,'-_".contains(c));
        let texts = [&self.country, &self.city, &self.street];
        if !texts.iter().all(|text| text.chars().all(allowed))
            || !(1..=Self::MAX_NUMBER).contains(&self.number)
        {
            return Err(InvalidAddress);
        }
        let [country, city, street] = texts.map(|text| Self::segment(text));
        PropertyId::from_segments(&country, &city, &street, &self.number.to_string())
            .map_err(|_| InvalidAddress)
    }
}

impl TryFrom<Unchecked> for Address {
    type Error = InvalidAddress;

    fn try_from(raw: Unchecked) -> Result<Self, Self::Error> {
        Self::new(raw.country, raw.city, raw.street, raw.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(country: &str, city: &str, street: &str, number: u32) -> Result<String, InvalidAddress> {
        Ok(Address::new(country, city, street, number)?.property_id().to_string())
    }

    #[test]
    fn an_address_becomes_a_property_id() {
        assert_eq!(
            id("USA", "Any town", "St. John's  Street", 111).unwrap(),
            "usa/any-town/st-johns-street/111"
        );
        assert_eq!(id(" usa ", "\tMain\u{b}Town\n", "A,b", 1).unwrap(), "usa/main-town/ab/1");
    }

    /// Known fault 23: only the first space of a name was replaced.
    #[test]
    fn every_run_of_white_space_becomes_one_dash() {
        assert_eq!(Address::segment("  Old   Mill \t Road "), "old-mill-road");
    }

    #[test]
    fn other_characters_empty_names_and_numbers_out_of_range_are_refused() {
        for (country, street, number) in [
            ("usa", "Straße", 1),
            ("", "x", 1),
            (".", "x", 1),
            ("usa", "a/b", 1),
            ("usa", "x", 0),
            ("usa", "x", 1_000_000_000),
        ] {
            assert_eq!(
                id(country, "town", street, number),
                Err(InvalidAddress),
                "{country} {street} {number}"
            );
        }
    }

    /// White space collapses in the property id, so the limit of the id does not limit the texts.
    #[test]
    fn a_text_of_more_than_100_characters_is_not_within_the_limits_of_a_command() {
        let street =
            |blanks: usize| Address::new("usa", "town", format!("a{}b", " ".repeat(blanks)), 1).unwrap();
        assert!(street(98).is_within_limits());
        assert!(!street(99).is_within_limits(), "it is still read where it is stored");
        let country = Address::new(format!("u{}", ".".repeat(100)), "town", "a", 1).unwrap();
        assert!(!country.is_within_limits());
    }

    proptest! {
        #[test]
        fn the_id_of_an_accepted_address_is_stable_under_normalising_again(
            country in "[A-Za-z0-9 .,'_-]{1,40}", city in "[A-Za-z0-9 .,'_-]{1,40}",
            street in "[A-Za-z0-9 .,'_-]{1,40}", number in 1u32..=Address::MAX_NUMBER,
        ) {
            if let Ok(address) = Address::new(country, city, street, number) {
                let id = address.property_id();
                let [country, city, street, _] = id.segments();
                let again = Address::new(country, city, street, number).unwrap().property_id();
                prop_assert_eq!(&id, &again);
                prop_assert_eq!(id.as_str().parse::<PropertyId>().unwrap(), id);
            }
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in any::<String>()) {
            let _ = text.parse::<PropertyId>();
            let _ = Address::new(text.clone(), text.clone(), text, 1);
        }
    }
}
