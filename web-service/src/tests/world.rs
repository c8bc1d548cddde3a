//! A property, its listing in any status, the messages of its commands, and the ports of this service
//! in memory.

use std::cell::RefCell;
use std::collections::HashMap;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use aws_lambda_events::encodings::Body;
use events::PublicationApprovalRequested;
use lambda_kit::CallError;
use lambda_kit::fixture::{self, Calls, MemoryLedger};
use lambda_kit::ledger::{CommandStatus, Committed, Entry, Record, Records, Waited};
use serde_json::{Value, json};
use vocabulary::{
    ApprovalRequestId, CommandId, ContractVersion, EvaluationReason, EvaluationResult, ListingStatus,
    PropertyId, Timestamp,
};

use crate::domain::{EndedContract, Evaluation, Listing, NewOffer, Offer, Revision};
use crate::page::{Position, Scope};
use crate::ports::{Catalogue, Listings, Page, Publications, Published, Requests};

/// `seconds` after a moment of the tests.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_458_126_000 + seconds * 1_000).unwrap()
}

pub(crate) fn request(id: &str) -> ApprovalRequestId {
    id.parse().unwrap()
}

pub(crate) fn offer_json() -> Value {
    json!({
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
        "description": "A bright house & a garden, 100% sunny.",
        "contract": "sale",
        "listprice": 200_000,
        "currency": "USD",
        "images": ["usa/anytown/main-street-111-front.png"],
    })
}

pub(crate) fn offer() -> Offer {
    offer_of(offer_json())
}

pub(crate) fn offer_of(body: Value) -> Offer {
    serde_json::from_value::<NewOffer>(body).unwrap().0
}

/// An offer at another place.
pub(crate) fn offer_at(city: &str, street: &str, number: u32) -> Offer {
    let mut body = offer_json();
    body["address"] = json!({"country": "USA", "city": city, "street": street, "number": number});
    offer_of(body)
}

pub(crate) const LISTINGS: &str = "/listings";
pub(crate) const REQUEST: &str = "/request_approval";
pub(crate) const LISTING: &str = "/listings/{country}/{city}/{street}/{number}";

/// A command, requested at `at(0)`.
pub(crate) fn message(id: &str, method: &str, resource: &str, body: &str) -> Value {
    fixture::message(id, method, resource, body, at(0))
}

pub(crate) fn request_message(id: &str) -> Value {
    message(id, "POST", REQUEST, r#"{"property_id": "USA/Anytown/main-street/111"}"#)
}

pub(crate) fn withdrawal_message(id: &str) -> Value {
    message(id, "DELETE", LISTING, r#"{"property_id": "USA/Anytown/Main Street/111"}"#)
}

/// The listing of [`offer`], as its life so far has made it; its request is `r-1`, its
/// contract's version 3.
pub(crate) fn listing(status: ListingStatus) -> Listing {
    let is_evaluated = matches!(status, ListingStatus::Approved | ListingStatus::Declined);
    Listing {
        offer: offer(),
        status,
        approval_request_id: (is_evaluated || status == ListingStatus::Pending).then(|| request("r-1")),
        evaluation_reasons: match status {
            ListingStatus::Declined => vec![EvaluationReason::UnsafeImage],
            _ => vec![],
        },
        approval_requested_at: None,
        approval_command: None,
        last_write_at: None,
        contract_version: is_evaluated.then_some(ContractVersion(3)),
        relied_on_at: is_evaluated.then(|| at(2)),
        evaluated_at: is_evaluated.then(|| at(2)),
        created_at: at(1),
        updated_at: at(2),
        listing_version: 4,
    }
}

/// A request as API Gateway hands it over: `path` are the parameters of `route` in their order.
pub(crate) fn api_request(route: &str, path: &[&str], query: &[(&str, &str)]) -> ApiGatewayProxyRequest {
    let names = route.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: HashMap<_, _> = names.zip(path).collect();
    let mut filled = route.to_owned();
    for (name, value) in &parameters {
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    let mut last = HashMap::new();
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for (name, value) in query {
        last.insert(name, value);
        all.entry(name).or_default().push(value);
    }
    serde_json::from_value(json!({
        "resource": route, "path": filled, "httpMethod": "GET",
        "headers": {"Host": "api.example.com", "X-Forwarded-Proto": "https"},
        "pathParameters": parameters,
        "queryStringParameters": last,
        "multiValueQueryStringParameters": all,
        "requestContext": {
            "path": format!("/local{filled}"), "httpMethod": "GET", "stage": "local", "resourcePath": route,
        },
    }))
    .unwrap()
}

pub(crate) fn body(response: &ApiGatewayProxyResponse) -> Value {
    match &response.body {
        Some(Body::Text(text)) => serde_json::from_str(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// An answer to `r-1`.
pub(crate) fn evaluation(result: EvaluationResult, contract_version: Option<u64>) -> Evaluation {
    Evaluation {
        request: Some(request("r-1")),
        result,
        reasons: match result {
            EvaluationResult::Approved => vec![],
            EvaluationResult::Declined => vec![EvaluationReason::UnsafeImage],
        },
        contract_version: contract_version.map(ContractVersion),
        contract_last_modified_on: None,
        at: at(3),
    }
}

pub(crate) fn ended(contract_version: Option<u64>, seconds: i64) -> EndedContract {
    EndedContract {
        property_id: offer().property_id(),
        ended_at: at(seconds),
        contract_version: contract_version.map(ContractVersion),
    }
}

/// All ports in memory.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) listings: RefCell<HashMap<PropertyId, Listing>>,
    pub(crate) ended: RefCell<HashMap<PropertyId, EndedContract>>,
    pub(crate) published: RefCell<Vec<PublicationApprovalRequested>>,
    pub(crate) ledger: MemoryLedger,
    pub(crate) calls: Calls<Self>,
}

impl World {
    pub(crate) fn with(listing: Listing) -> Self {
        let world = Self::default();
        world.put(listing);
        world
    }

    pub(crate) fn put(&self, listing: Listing) {
        self.listings.borrow_mut().insert(listing.property_id(), listing);
    }

    /// The only listing.
    pub(crate) fn listing(&self) -> Option<Listing> {
        self.listings.borrow().get(&offer().property_id()).cloned()
    }

    pub(crate) fn status(&self) -> Option<ListingStatus> {
        self.listing().map(|listing| listing.status)
    }

    pub(crate) fn price(&self) -> Option<u64> {
        Some(self.listing()?.offer.terms().listprice.clone().into())
    }

    pub(crate) fn outcome(&self, command: &str) -> (CommandStatus, Option<String>) {
        self.ledger.outcome(command).unwrap()
    }

    fn call<T>(&self, name: &'static str, effect: impl FnOnce() -> T) -> Result<T, CallError> {
        self.calls.call(self, name, effect)
    }

    /// Whether `revision` follows on the stored listing; then it is stored.
    fn revise(&self, revision: &Revision) -> bool {
        let stored =
            self.listings.borrow().get(&revision.listing.property_id()).map_or(0, |l| l.listing_version);
        let follows = revision.listing.listing_version == stored + 1;
        if follows {
            self.put(revision.listing.clone());
        }
        follows
    }
}

impl Listings for World {
    async fn find(&self, property: &PropertyId) -> Result<Option<Listing>, CallError> {
        self.call("find", || self.listings.borrow().get(property).cloned())
    }

    async fn waited(&self, command: &CommandId) -> Result<Option<Waited>, CallError> {
        Ok(self.ledger.waited(command))
    }

    async fn commit(
        &self,
        entry: &Entry,
        revision: Option<&Revision>,
    ) -> Result<Committed<Listing>, CallError> {
        let write = || match revision {
            Some(revision) if !self.revise(revision) => {
                Committed::Overtaken(self.listings.borrow().get(&revision.listing.property_id()).cloned())
            }
            _ => Committed::Done,
        };
        self.call("commit", || self.ledger.commit(entry, write))
    }
}

impl Publications for World {
    async fn load(
        &self,
        property: &PropertyId,
    ) -> Result<(Option<Listing>, Option<EndedContract>), CallError> {
        self.call("load", || {
            (self.listings.borrow().get(property).cloned(), self.ended.borrow().get(property).cloned())
        })
    }

    async fn store(&self, revision: &Revision, ended: Option<&EndedContract>) -> Result<bool, CallError> {
        self.call("store", || {
            let unchanged = self.ended.borrow().get(&revision.listing.property_id()) == ended;
            unchanged && self.revise(revision)
        })
    }

    async fn remember(
        &self,
        ended: &EndedContract,
        known: Option<&EndedContract>,
    ) -> Result<bool, CallError> {
        self.call("remember", || {
            let unchanged = self.ended.borrow().get(&ended.property_id) == known;
            if unchanged {
                self.ended.borrow_mut().insert(ended.property_id.clone(), ended.clone());
            }
            unchanged
        })
    }
}

impl Requests for World {
    async fn publish(&self, request: &PublicationApprovalRequested) -> Result<(), CallError> {
        self.call("publish", || self.published.borrow_mut().push(request.clone()))
    }
}

impl Catalogue for World {
    async fn page(&self, scope: &Scope, after: Option<&Position>, limit: u32) -> Result<Page, CallError> {
        self.call("page", || {
            let listings = self.listings.borrow();
            let mut found: Vec<_> = listings
                .iter()
                .filter(|(property, listing)| {
                    let [country, city, street, _] = property.segments();
                    listing.status == ListingStatus::Approved
                        && (country, city) == (scope.country(), scope.city())
                        && scope.street().is_none_or(|own| own == street)
                })
                .map(|(property, listing)| (Position::of(property).unwrap(), listing))
                .filter(|(position, _)| after.is_none_or(|after| position > after))
                .collect();
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
            let limit = usize::try_from(limit).unwrap();
            let next = (found.len() > limit).then(|| found[limit - 1].0.clone());
            let shown = |listing| Published { images: None, ..Published::from(listing) };
            Page {
                listings: found.into_iter().take(limit).map(|(_, listing)| shown(listing)).collect(),
                next,
            }
        })
    }

    async fn details(&self, property: &PropertyId) -> Result<Option<Published>, CallError> {
        self.call("details", || {
            let listings = self.listings.borrow();
            let listing = listings.get(property).filter(|listing| listing.status == ListingStatus::Approved);
            listing.map(Published::from)
        })
    }
}

impl Records for World {
    async fn record(&self, id: &CommandId) -> Result<Option<Record>, CallError> {
        self.call("record", || self.ledger.record(id))
    }
}
