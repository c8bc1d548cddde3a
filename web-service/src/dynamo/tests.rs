//! The adapters against a real DynamoDB API, which must behave like the fakes of the ports.

use lambda_kit::batch::Outcome;
use lambda_kit::command::Command;
use lambda_kit::fixture::dynamodb;
use lambda_kit::ledger::{CommandStatus, Records, settle};
use vocabulary::EvaluationResult::Approved;
use vocabulary::ListingStatus;

use super::*;
use crate::domain::{Change, EndedContract, Evaluation, decide};
use crate::page::Scope;
use crate::ports::{Catalogue, Listings, Publications};
use crate::tests::world::{at, ended, evaluation, listing, offer, offer_at, offer_of};

/// An approval without a request id: it answers the pending request.
fn answer(contract_version: Option<u64>) -> Evaluation {
    Evaluation { request: None, ..evaluation(Approved, contract_version) }
}

struct Database {
    client: Client,
    listings: DynamoListings,
    publications: DynamoPublications,
    catalogue: DynamoCatalogue,
}

async fn database() -> Database {
    let client = dynamodb(&[("listings", &["PK", "SK"]), ("commands", &["pk"])]).await.unwrap();
    Database {
        listings: DynamoListings::connect(client.clone(), "listings", "commands").await,
        publications: DynamoPublications::connect(client.clone(), "listings").await,
        catalogue: DynamoCatalogue::connect(client.clone(), "listings").await,
        client,
    }
}

fn command(id: &str) -> Command {
    Command {
        id: id.parse().unwrap(),
        method: "POST".into(),
        resource: "/listings".into(),
        requested_at: at(0),
        sent_at: None,
        idempotency_key: None,
        body: "{}".into(),
        receive_count: 1,
    }
}

impl Database {
    /// Settles `change` of the property of `current`'s reader, who has read `seen`.
    async fn settle(&self, id: &str, seen: Option<Listing>, change: Change) -> CommandStatus {
        let command = command(id);
        let outcome = settle(
            &command,
            at(1),
            seen,
            |current| decide(current, &change, &command.id, at(1)),
            async || self.listings.waited(&command.id).await,
            async |entry, revision| self.listings.commit(entry, revision).await,
        );
        assert!(matches!(outcome.await.unwrap(), Outcome::Done | Outcome::Again(_)));
        self.listings.record(&command.id).await.unwrap().unwrap().status
    }

    async fn write(&self, id: &str, offer: crate::domain::Offer) -> CommandStatus {
        self.settle(id, None, Change::Write(Box::new(offer))).await
    }

    /// Brings the listing of `offer` into search.
    async fn publish(&self, id: &str, offer: crate::domain::Offer) {
        let property = offer.property_id();
        self.write(&format!("{id}-write"), offer).await;
        let seen = self.listings.find(&property).await.unwrap();
        self.settle(&format!("{id}-ask"), seen, Change::RequestApproval).await;
        let (listing, ended) = self.publications.load(&property).await.unwrap();
        let revision = crate::domain::evaluate(listing.as_ref(), ended.as_ref(), &answer(Some(3))).unwrap();
        assert!(self.publications.store(&revision, ended.as_ref()).await.unwrap());
    }

    async fn status(&self) -> Option<ListingStatus> {
        self.listings.find(&offer().property_id()).await.unwrap().map(|listing| listing.status)
    }

    /// `(street, number)` of a page.
    async fn found(&self, street: Option<&str>) -> Vec<(String, u32)> {
        let scope = Scope::new("USA", "Anytown", street).unwrap();
        let page = self.catalogue.page(&scope, None, 100).await.unwrap();
        page.listings
            .into_iter()
            .map(|listing| (listing.address.street().to_owned(), listing.address.number()))
            .collect()
    }

    async fn items(&self) -> i32 {
        self.client.scan().table_name("listings").send().await.unwrap().count()
    }
}

#[tokio::test]
async fn a_listing_is_stored_whole_in_any_status() {
    let database = database().await;
    for status in [ListingStatus::New, ListingStatus::Declined, ListingStatus::Approved] {
        let stored = Listing { listing_version: 1, ..listing(status) };
        let client = &database.client;
        let put = item(listing_key(&stored.property_id()), &stored).unwrap();
        client.put_item().table_name("listings").set_item(Some(put)).send().await.unwrap();
        assert_eq!(database.listings.find(&stored.property_id()).await.unwrap(), Some(stored));
    }
}

#[tokio::test]
async fn keys_are_those_of_the_product() {
    let database = database().await;
    database.publish("c", offer()).await;
    let answer = database.client.scan().table_name("listings").send().await.unwrap();
    let mut keys: Vec<_> = answer
        .items()
        .iter()
        .map(|item| (item[PK].as_s().unwrap().clone(), item[SK].as_s().unwrap().clone()))
        .collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            ("PROPERTY#usa#anytown".to_owned(), "main-street#111".to_owned()),
            ("SEARCH#usa#anytown".to_owned(), "main-street#000000111".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_write_that_finds_a_listing_decides_anew_on_what_is_there() {
    let database = database().await;
    assert_eq!(database.write("c-1", offer()).await, CommandStatus::Applied);
    assert_eq!(database.write("c-2", offer()).await, CommandStatus::Applied);
    let current = database.listings.find(&offer().property_id()).await.unwrap().unwrap();
    assert_eq!(current.listing_version, 2);
    database.settle("c-3", Some(current), Change::RequestApproval).await;
    assert_eq!(database.write("c-4", offer()).await, CommandStatus::Pending, "it is being evaluated");
}

#[tokio::test]
async fn a_listing_is_in_search_only_while_it_is_approved() {
    let database = database().await;
    let property = offer().property_id();
    database.publish("c", offer()).await;
    assert_eq!(database.found(None).await, [("Main Street".to_owned(), 111)]);
    let shown = database.catalogue.details(&property).await.unwrap().unwrap();
    assert_eq!(shown.images.as_deref(), Some(offer().images()));

    database.write("c-2", offer()).await;
    assert_eq!(database.status().await, Some(ListingStatus::New));
    assert!(database.found(None).await.is_empty(), "replaced");
    assert_eq!(database.catalogue.details(&property).await.unwrap(), None);

    database.publish("d", offer()).await;
    let seen = database.listings.find(&property).await.unwrap();
    database.settle("c-3", seen, Change::Withdraw).await;
    assert!(database.found(None).await.is_empty(), "withdrawn");

    database.publish("e", offer()).await;
    let (listing, _) = database.publications.load(&property).await.unwrap();
    let over = ended(Some(4), 9);
    assert!(database.publications.remember(&over, None).await.unwrap());
    let down = crate::domain::end(listing.as_ref(), &over).unwrap();
    assert!(database.publications.store(&down, Some(&over)).await.unwrap());
    assert_eq!(database.status().await, Some(ListingStatus::Declined));
    assert!(database.found(None).await.is_empty(), "its contract has ended");
}

/// Known fault 26: number 11 matched 111, street `main` matched `main-street`.
#[tokio::test]
async fn a_street_is_matched_whole_and_numbers_sort_as_numbers() {
    let database = database().await;
    for (street, number) in [("Main", 111), ("Main", 11), ("Main", 9), ("Main Street", 1), ("Mai", 2)] {
        database
            .publish(&format!("{street}{number}").replace(' ', ""), offer_at("Anytown", street, number))
            .await;
    }
    let main = [("Main".to_owned(), 9), ("Main".to_owned(), 11), ("Main".to_owned(), 111)];
    assert_eq!(database.found(Some("main")).await, main);
    let all = database.found(None).await;
    assert_eq!(all[1..4], main);
    assert_eq!((all[0].1, all[4].1, all.len()), (2, 1, 5));
    let eleven = "usa/anytown/main/11".parse().unwrap();
    assert_eq!(database.catalogue.details(&eleven).await.unwrap().unwrap().address.number(), 11);
    let one = "usa/anytown/main/1".parse().unwrap();
    assert_eq!(database.catalogue.details(&one).await.unwrap(), None);
}

/// Known fault 24: search returned one page and dropped the rest.
#[tokio::test]
async fn pages_go_on_where_the_one_before_ended() {
    let database = database().await;
    for number in [3, 1, 2] {
        database.publish(&format!("c{number}"), offer_at("Anytown", "Main", number)).await;
    }
    let scope = Scope::new("usa", "anytown", Some("main")).unwrap();
    let first = database.catalogue.page(&scope, None, 2).await.unwrap();
    assert_eq!(first.listings.iter().map(|listing| listing.address.number()).collect::<Vec<_>>(), [1, 2]);
    assert!(first.listings.iter().all(|listing| listing.images.is_none()));
    let rest = database.catalogue.page(&scope, first.next.as_ref(), 2).await.unwrap();
    assert_eq!(rest.listings.iter().map(|listing| listing.address.number()).collect::<Vec<_>>(), [3]);
    assert_eq!(rest.next, None);
    let exact = database.catalogue.page(&scope, None, 3).await.unwrap();
    assert_eq!(exact.next, None, "a full page that is the last one");
}

/// One DynamoDB answer holds 1 MB at most; such listings have 20 KB each.
#[tokio::test]
async fn a_page_that_dynamodb_cuts_short_goes_on_with_the_next() {
    let database = database().await;
    let mut body = crate::tests::world::offer_json();
    body["images"] = serde_json::json!(vec!["ä".repeat(512); 20]);
    for number in 1..=70 {
        body["address"]["number"] = number.into();
        let offer = offer_of(body.clone());
        let put = item(
            search_key(&offer.property_id()).unwrap(),
            &Published::from(&Listing { offer, ..listing(ListingStatus::Approved) }),
        );
        let put = database.client.put_item().table_name("listings").set_item(Some(put.unwrap()));
        put.send().await.unwrap();
    }
    let scope = Scope::new("usa", "anytown", None).unwrap();
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = database.catalogue.page(&scope, after.as_ref(), 100).await.unwrap();
        pages += 1;
        seen.extend(page.listings.into_iter().map(|listing| listing.address.number()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=70).collect::<Vec<_>>());
    assert!(pages > 1);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_stored() {
    let database = database().await;
    let property = offer().property_id();
    database.write("c-1", offer()).await;
    let seen = database.listings.find(&property).await.unwrap();
    database.settle("c-2", seen.clone(), Change::RequestApproval).await;
    let (pending, _) = database.publications.load(&property).await.unwrap();
    let revision = crate::domain::evaluate(pending.as_ref(), None, &answer(Some(3))).unwrap();
    database.settle("c-3", pending, Change::Withdraw).await;
    assert!(!database.publications.store(&revision, None).await.unwrap());
    assert_eq!(database.status().await, Some(ListingStatus::Withdrawn));
    assert_eq!(database.items().await, 1, "and search shows nothing");
}

#[tokio::test]
async fn an_approval_is_not_stored_once_another_contract_has_ended() {
    let database = database().await;
    let property = offer().property_id();
    database.write("c-1", offer()).await;
    let seen = database.listings.find(&property).await.unwrap();
    database.settle("c-2", seen, Change::RequestApproval).await;
    for (known, newer) in [
        (None, ended(None, 1)),
        (Some(ended(None, 1)), ended(None, 2)),
        (Some(ended(None, 2)), ended(Some(1), 3)),
        (Some(ended(Some(1), 3)), ended(Some(2), 3)),
    ] {
        let (pending, _) = database.publications.load(&property).await.unwrap();
        let answer = answer(Some(9));
        let revision = crate::domain::evaluate(pending.as_ref(), known.as_ref(), &answer).unwrap();
        assert!(database.publications.remember(&newer, known.as_ref()).await.unwrap());
        assert!(!database.publications.store(&revision, known.as_ref()).await.unwrap(), "{newer:?}");
        let stale: Option<EndedContract> = known;
        assert!(!database.publications.remember(&newer, stale.as_ref()).await.unwrap(), "lost a race");
        assert_eq!(database.publications.load(&property).await.unwrap().1, Some(newer));
    }
    assert_eq!(database.status().await, Some(ListingStatus::Pending));
}

#[tokio::test]
async fn a_table_that_is_not_there_is_an_error_and_no_answer() {
    let client = dynamodb(&[]).await.unwrap();
    let publications = DynamoPublications::connect(client.clone(), "listings").await;
    let catalogue = DynamoCatalogue::connect(client, "listings").await;
    let property = offer().property_id();
    assert!(publications.load(&property).await.is_err());
    assert!(publications.remember(&ended(None, 1), None).await.is_err());
    assert!(catalogue.details(&property).await.is_err());
    assert!(catalogue.page(&Scope::new("usa", "anytown", None).unwrap(), None, 1).await.is_err());
}
