//! Searches, and the positions where their pages begin. The `next` token of a search is opaque to clients,
//! and only that search accepts it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use vocabulary::{Address, PropertyId};

/// What is searched: a city, or one street of it. Normalised like an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    country: String,
    city: String,
    street: Option<String>,
}

/// The position of a published listing in the results: `{street}#{number, 9 digits}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(String);

impl Scope {
    /// `None` if no property can have such an address: the search has no results.
    pub fn new(country: &str, city: &str, street: Option<&str>) -> Option<Self> {
        let scope = Self {
            country: Address::segment(country),
            city: Address::segment(city),
            street: street.map(Address::segment),
        };
        let street = scope.street.as_deref().unwrap_or("any");
        PropertyId::from_segments(&scope.country, &scope.city, street, "1").ok().map(|_| scope)
    }

    pub fn country(&self) -> &str {
        &self.country
    }

    pub fn city(&self) -> &str {
        &self.city
    }

    /// The street, normalised; `None` means all streets.
    pub fn street(&self) -> Option<&str> {
        self.street.as_deref()
    }

    /// The `next` token of this search for `position`.
    pub fn token(&self, position: &Position) -> String {
        URL_SAFE_NO_PAD.encode(self.name() + &position.0)
    }

    /// The position of a `next` token of this search; `None` for any other text.
    pub fn position(&self, token: &str) -> Option<Position> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let position = text.strip_prefix(&self.name())?;
        let (street, number) = position.split_once('#')?;
        let is_number = number.len() == 9 && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_here = self.street().is_none_or(|own| own == street);
        // The street must be valid: a listing can have this position.
        let is_street = PropertyId::from_segments(&self.country, &self.city, street, "1").is_ok();
        (is_number && is_here && is_street).then(|| Position(position.to_owned()))
    }

    /// No segment contains `/`, so no two searches have the same name.
    fn name(&self) -> String {
        format!("{}/{}/{}/", self.country, self.city, self.street().unwrap_or_default())
    }
}

impl Position {
    /// The position of a property; `None` if no address has its number (`0111`, `abc`).
    pub fn of(property: &PropertyId) -> Option<Self> {
        let [_, _, street, text] = property.segments();
        let number: u32 = text.parse().ok()?;
        let is_canonical = (1..=Address::MAX_NUMBER).contains(&number) && number.to_string() == text;
        is_canonical.then(|| Self(format!("{street}#{number:09}")))
    }

    /// The sort key. `#` sorts before every character of a street, so the numbers of one street are
    /// together, and before those of any street whose name begins with its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Position {
    /// From a stored sort key.
    fn from(sort_key: String) -> Self {
        Self(sort_key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(property: &str) -> Option<Position> {
        Position::of(&property.parse().unwrap())
    }

    /// Known fault 25: `/search/USA/Anytown` found nothing.
    #[test]
    fn a_search_is_the_same_however_its_place_is_written() {
        assert_eq!(
            Scope::new(" USA", "Any Town", Some("St. John's")),
            Scope::new("usa", "any-town", Some("st-johns"))
        );
    }

    #[test]
    fn where_no_property_can_be_there_is_nothing_to_search() {
        assert_eq!(Scope::new("usa", "zürich", None), None);
        assert_eq!(Scope::new("usa", "", None), None);
        assert_eq!(Scope::new("usa", "a/b", None), None);
    }

    #[test]
    fn positions_sort_by_street_and_then_by_number_as_a_number() {
        let sorted =
            ["main/9", "main/10", "main/111", "main-street/1", "main0/1", "main_street/1", "main_street/20"];
        let positions: Vec<_> =
            sorted.iter().map(|end| position(&format!("usa/anytown/{end}")).unwrap()).collect();
        assert!(positions.is_sorted(), "{positions:?}");
    }

    #[test]
    fn a_number_that_no_address_has_is_nowhere() {
        for number in ["0111", "abc", "0", "1000000000", "1e3", "-1"] {
            assert_eq!(position(&format!("usa/anytown/main/{number}")), None, "{number}");
        }
    }

    #[test]
    fn the_next_of_another_search_is_refused() {
        let whole = Scope::new("usa", "anytown", None).unwrap();
        let street = Scope::new("usa", "anytown", Some("main")).unwrap();
        let elsewhere = Scope::new("usa", "othertown", None).unwrap();
        let here = position("usa/anytown/main/7").unwrap();
        assert_eq!(whole.position(&whole.token(&here)), Some(here.clone()));
        assert_eq!(street.position(&street.token(&here)), Some(here.clone()));
        for other in [&street, &elsewhere] {
            assert_eq!(other.position(&whole.token(&here)), None);
        }
        assert_eq!(whole.position(&street.token(&here)), None);
        let aside = position("usa/anytown/main-street/7").unwrap();
        assert_eq!(street.position(&street.token(&aside)), None, "a forged one of another street");
    }

    proptest! {
        #[test]
        fn any_other_text_is_no_next(text in any::<String>(), inner in "\\PC{0,30}") {
            let scope = Scope::new("usa", "anytown", None).unwrap();
            prop_assert_eq!(scope.position(&text), None);
            let forged = URL_SAFE_NO_PAD.encode(format!("usa/anytown//{inner}"));
            if let Some(position) = scope.position(&forged) {
                prop_assert_eq!(position.as_str(), inner);
            }
        }
    }
}
