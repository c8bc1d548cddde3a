//! The terms of an offer, which the web service stores, shows and sends in its event.

use serde::{Deserialize, Serialize};

/// The terms of an offer. To add one, add a member here, its name in [`OfferTerms::NAMES`] and, if it has a
/// rule, a `term!`. The body of a write, the stored item, the event, the agent's view and the search result
/// all contain this struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferTerms {
    /// What the agent writes about the property.
    pub description: Description,
    /// For sale or for rent.
    pub contract: ContractKind,
    /// The price, or the rent.
    pub listprice: ListPrice,
    /// The currency of the price.
    pub currency: Currency,
}

impl OfferTerms {
    /// The names of all members: the attributes of a stored item.
    pub const NAMES: [&str; 4] = ["description", "contract", "listprice", "currency"];
}

/// Whether a property is for sale or for rent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContractKind {
    /// The property is for sale.
    Sale,
    /// The property is for rent.
    Rent,
}

/// The value of a term is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTerm(&'static str);

/// Declares a type whose values obey a rule, in Rust and in serde. `$json` is the name of `$inner` as a
/// string: serde's attributes take no other.
macro_rules! term {
    ($(#[$doc:meta])* $name:ident($inner:ty), $json:literal, $sentence:literal, $obeys:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = $json, into = $json)]
        pub struct $name($inner);

        impl TryFrom<$inner> for $name {
            type Error = InvalidTerm;

            fn try_from(value: $inner) -> Result<Self, Self::Error> {
                let obeys: fn(&$inner) -> bool = $obeys;
                if obeys(&value) { Ok(Self(value)) } else { Err(InvalidTerm($sentence)) }
            }
        }

        impl From<$name> for $inner {
            fn from(term: $name) -> Self {
                term.0
            }
        }
    };
}

term! {
    /// The text of an offer. Amazon Comprehend takes 5,000 bytes; a character has up to four.
    Description(String), "String", "a description has 1 to 1,200 characters",
    |text| (1..=1_200).contains(&text.chars().count())
}

term! {
    /// Whole currency units, up to the greatest integer that every JSON reader keeps exactly (RFC 8259,
    /// section 6).
    ListPrice(u64), "u64", "a list price is a whole number from 1 to 9007199254740991",
    |price| (1..=(1 << 53) - 1).contains(price)
}

term! {
    /// A code of ISO 4217.
    Currency(String), "String", "a currency is three capital letters",
    |text| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_names_are_those_of_the_members() {
        let terms = json!({"description": "A house.", "contract": "rent", "listprice": 1, "currency": "EUR"});
        let terms: OfferTerms = serde_json::from_value(terms).unwrap();
        let written = serde_json::to_value(terms).unwrap();
        let mut members: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        let mut names = OfferTerms::NAMES;
        members.sort_unstable();
        names.sort_unstable();
        assert_eq!(members, names);
    }
}
