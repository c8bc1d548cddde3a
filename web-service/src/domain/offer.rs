//! What an agent offers: the body of `POST /listings`. A value of [`Offer`] is always valid.

use serde::{Deserialize, Serialize};
use vocabulary::{Address, OfferTerms, PropertyId};

/// A property for sale or for rent, as the agent describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Offer {
    #[serde(flatten)]
    address: Address,
    #[serde(flatten)]
    terms: OfferTerms,
    images: Vec<String>,
}

/// Which part of an offer is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOffer {
    /// An S3 key has up to 1,024 bytes:
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
    #[error("a listing has 1 to 20 images, each an object key of 1 to 512 characters and 1,024 bytes")]
    Images,
    /// These limits are for new offers only: a stored one is read as it is.
    #[error("country, city and street have up to 100 characters each")]
    Address,
}

/// An offer as clients send it: the address is a nested object.
#[derive(Deserialize)]
struct Body {
    address: Address,
    #[serde(flatten)]
    terms: OfferTerms,
    images: Vec<String>,
}

/// An offer as it is stored: the members of the address are beside the others.
#[derive(Deserialize)]
struct Unchecked {
    #[serde(flatten)]
    address: Address,
    #[serde(flatten)]
    terms: OfferTerms,
    images: Vec<String>,
}

impl Offer {
    const MAX_IMAGES: usize = 20;
    /// Bytes of an object key.
    const MAX_KEY_BYTES: usize = 1_024;
    /// Unicode code points of an object key, in new offers.
    const MAX_KEY_CHARACTERS: usize = 512;

    /// Checks the body of `POST /listings`, including the limits for new offers only.
    fn new(body: Body) -> Result<Self, InvalidOffer> {
        let offer = Self::checked(body.address, body.terms, body.images)?;
        if !offer.address.is_within_limits() {
            return Err(InvalidOffer::Address);
        }
        if offer.images.iter().any(|key| key.chars().count() > Self::MAX_KEY_CHARACTERS) {
            return Err(InvalidOffer::Images);
        }
        Ok(offer)
    }

    fn checked(address: Address, terms: OfferTerms, images: Vec<String>) -> Result<Self, InvalidOffer> {
        let is_key = |key: &String| (1..=Self::MAX_KEY_BYTES).contains(&key.len());
        if !(1..=Self::MAX_IMAGES).contains(&images.len()) || !images.iter().all(is_key) {
            return Err(InvalidOffer::Images);
        }
        Ok(Self { address, terms, images })
    }

    /// The primary key of the property that is offered.
    pub fn property_id(&self) -> PropertyId {
        self.address.property_id()
    }

    /// Where the property is, as the agent wrote it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Description, kind of contract, price and currency.
    pub fn terms(&self) -> &OfferTerms {
        &self.terms
    }

    /// Object keys in the images bucket, 1 to 20.
    pub fn images(&self) -> &[String] {
        &self.images
    }
}

/// An offer as an agent sends it. Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Body")]
pub struct NewOffer(pub Offer);

impl TryFrom<Body> for NewOffer {
    type Error = InvalidOffer;

    fn try_from(body: Body) -> Result<Self, Self::Error> {
        Offer::new(body).map(Self)
    }
}

impl TryFrom<Unchecked> for Offer {
    type Error = InvalidOffer;

    fn try_from(raw: Unchecked) -> Result<Self, Self::Error> {
        Self::checked(raw.address, raw.terms, raw.images)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::world::offer_json;

    fn parse(body: &Value) -> Result<Offer, serde_json::Error> {
        serde_json::from_str::<NewOffer>(&body.to_string()).map(|new| new.0)
    }

    #[test]
    fn an_offer_keeps_its_address_as_the_agent_wrote_it() {
        let offer = parse(&offer_json()).unwrap();
        assert_eq!(offer.property_id().as_str(), "usa/anytown/main-street/111");
        assert_eq!(offer.address().street(), "Main Street");
    }

    #[test]
    fn members_that_are_not_known_are_ignored() {
        let mut body = offer_json();
        body["agent_name"] = json!("somebody");
        assert!(parse(&body).is_ok());
    }

    #[test]
    fn a_stored_offer_is_the_one_that_was_sent() {
        let offer = parse(&offer_json()).unwrap();
        let stored = serde_json::to_value(&offer).unwrap();
        assert_eq!(stored["street"], "Main Street");
        assert_eq!(serde_json::from_value::<Offer>(stored).unwrap(), offer);
    }

    #[test]
    fn what_the_gateway_cannot_check_is_checked_here() {
        let long = "ä".repeat(1_201);
        let key = "k".repeat(513);
        let wide_key = "🏠".repeat(257);
        let long_street = format!("Main{}Street", " ".repeat(91));
        for (member, wrong) in [
            ("description", json!("")),
            ("description", json!(long)),
            ("contract", json!("lease")),
            ("listprice", json!(0)),
            ("listprice", json!(-1)),
            ("listprice", json!(1.5)),
            ("listprice", json!("200000")),
            ("listprice", json!(9_007_199_254_740_992_u64)),
            ("currency", json!("usd")),
            ("currency", json!("USDX")),
            ("currency", json!("ÄB")),
            ("images", json!([])),
            ("images", json!([""])),
            ("images", json!([key])),
            ("images", json!([wide_key])),
            ("address", json!({"country": "USA", "city": "Anytown", "street": long_street, "number": 1})),
            ("images", json!(vec!["a.png"; 21])),
            ("address", json!({"country": "USA", "city": "Any/town", "street": "Main", "number": 1})),
            ("address", json!({"country": "USA", "city": "Anytown", "street": "Main", "number": 0})),
        ] {
            let mut body = offer_json();
            body[member] = wrong;
            assert!(parse(&body).is_err(), "{body}");
        }
        for member in ["address", "description", "contract", "listprice", "currency", "images"] {
            let mut body = offer_json();
            body.as_object_mut().unwrap().remove(member);
            assert!(parse(&body).is_err(), "without {member}");
        }
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let mut body = offer_json();
        body["description"] = json!("🏠".repeat(1_200));
        body["images"] = json!(vec!["ä".repeat(512); 20]);
        body["address"]["street"] = json!(format!("Main{}Street", " ".repeat(90)));
        body["listprice"] = json!(9_007_199_254_740_991_u64);
        assert!(parse(&body).is_ok());
    }

    #[test]
    fn a_stored_offer_is_read_even_where_its_texts_are_longer_than_new_ones_may_be() {
        let mut stored = serde_json::to_value(parse(&offer_json()).unwrap()).unwrap();
        stored["street"] = json!(format!("Main{}Street", " ".repeat(5_000)));
        stored["images"] = json!(["k".repeat(1_024)]);
        assert!(serde_json::from_value::<Offer>(stored).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = serde_json::from_str::<NewOffer>(&text);
        }

        #[test]
        fn every_accepted_offer_survives_storage(
            description in "\\PC{1,40}", listprice in 1u64..=(1 << 53) - 1, number in 1u32..=999_999_999,
        ) {
            let mut body = offer_json();
            body["description"] = json!(description);
            body["listprice"] = json!(listprice);
            body["address"]["number"] = json!(number);
            let offer = parse(&body).unwrap();
            let stored = serde_json::to_string(&offer).unwrap();
            prop_assert_eq!(serde_json::from_str::<Offer>(&stored).unwrap(), offer);
        }
    }
}
