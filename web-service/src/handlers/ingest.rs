//! The consumer of the ingest queue: writes, approval requests and withdrawals of listings.

use std::cell::{Cell, RefCell};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use events::PublicationApprovalRequested;
use lambda_kit::CallError;
use lambda_kit::batch::{Deadline, Failure, Outcome, Parsed, Redelivery, each_message};
use lambda_kit::command::{Command, InvalidBody, NotFromTheGateway};
use lambda_kit::ledger::{Committed, settle};
use serde::Deserialize;
use serde_json::json;
use tracing::Instrument;
use vocabulary::{Address, CommandId, Decision, PropertyId, Timestamp};

use crate::domain::{Change, Listing, NewOffer, Rejection, decide};
use crate::ports::{Listings, Requests};

/// Handles one batch at the time `now`.
///
/// # Errors
/// When a message has no id: the whole batch is delivered again.
pub async fn handle(
    batch: SqsEvent,
    now: Timestamp,
    deadline: Deadline,
    listings: &impl Listings,
    requests: &impl Requests,
    queue: &impl Redelivery,
) -> Result<SqsBatchResponse, CallError> {
    each_message(batch, deadline, queue, parse, async |order: Order| {
        let span = tracing::info_span!("command", command_id = %order.command.id, property_id = order.key());
        handle_command(order, now, listings, requests).instrument(span).await
    })
    .await
}

/// The message can never be handled.
#[derive(Debug, thiserror::Error)]
enum Poison {
    #[error(transparent)]
    NotFromTheGateway(#[from] NotFromTheGateway),
    #[error("no route {method} {resource} leads here")]
    UnknownRoute { method: String, resource: String },
}

/// A command and its task, or the error in its body.
struct Order {
    command: Command,
    task: Result<Task, InvalidBody>,
}

struct Task {
    property: PropertyId,
    change: Change,
}

impl Order {
    /// Commands of one key run in order. The key is the property id, or the command id if that is not valid.
    fn key(&self) -> &str {
        self.task.as_ref().map_or(self.command.id.as_str(), |task| task.property.as_str())
    }
}

fn parse(message: &SqsMessage) -> Result<Parsed<String, Order>, Poison> {
    let mut command = Command::from_message(message)?;
    let task = match (command.method.as_str(), command.resource.as_str()) {
        ("POST", "/listings") => write(&command),
        ("POST", "/request_approval") => request(&command),
        ("DELETE", "/listings/{country}/{city}/{street}/{number}" | "") => withdrawal(&mut command),
        // A gateway that sends no route: the body says which of the two it is.
        ("POST", "") if names_an_address(&command) => write(&command),
        ("POST", "") => request(&command),
        (method, resource) => {
            return Err(Poison::UnknownRoute { method: method.into(), resource: resource.into() });
        }
    };
    let requested_at = command.requested_at;
    let order = Order { task, command };
    Ok(Parsed { key: order.key().to_owned(), requested_at, work: order })
}

fn names_an_address(command: &Command) -> bool {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "address")]
        _address: serde::de::IgnoredAny,
    }
    command.read::<Body>().is_ok()
}

fn write(command: &Command) -> Result<Task, InvalidBody> {
    let NewOffer(offer) = command.read()?;
    Ok(Task { property: offer.property_id(), change: Change::Write(Box::new(offer)) })
}

fn request(command: &Command) -> Result<Task, InvalidBody> {
    #[derive(Deserialize)]
    struct Body {
        property_id: PropertyId,
    }
    let Body { property_id } = command.read()?;
    Ok(Task { property: property_id, change: Change::RequestApproval })
}

/// The gateway builds this body from the decoded path. Its segments are normalised like those of every
/// route. The body is normalised too, so a client's retry in another spelling is the same command.
fn withdrawal(command: &mut Command) -> Result<Task, InvalidBody> {
    #[derive(Deserialize)]
    #[serde(try_from = "Path")]
    struct Body(PropertyId);

    #[derive(Deserialize)]
    struct Path {
        property_id: String,
    }

    impl TryFrom<Path> for Body {
        type Error = vocabulary::InvalidPropertyId;

        fn try_from(Path { property_id }: Path) -> Result<Self, Self::Error> {
            let segments: Vec<_> = property_id.split('/').map(Address::segment).collect();
            segments.join("/").parse().map(Self)
        }
    }

    let Body(property) = command.read()?;
    command.body = json!({"property_id": property}).to_string();
    Ok(Task { property, change: Change::Withdraw })
}

/// How far a delivery got.
#[derive(Default)]
struct Progress {
    /// The listing that this delivery has written.
    written: RefCell<Option<Listing>>,
    /// Whether an earlier delivery settled the command. It may have ended before it published the request.
    settled_before: Cell<bool>,
}

async fn handle_command(
    order: Order,
    now: Timestamp,
    listings: &impl Listings,
    requests: &impl Requests,
) -> Result<Outcome, Failure> {
    let Order { command, task } = &order;
    if let Err(InvalidBody { line, column }) = task {
        tracing::info!(line, column, "the body is not what the API describes");
    }
    let current = match task {
        // Most writes are for new listings, and the condition of the write checks that: no read is needed.
        Err(_) | Ok(Task { change: Change::Write(_), .. }) => None,
        Ok(task) => listings.find(&task.property).await?,
    };
    let requested_at = command.credible_request_time(now);
    let progress = Progress::default();
    let outcome = settle(
        command,
        now,
        current,
        |current| match task {
            Ok(task) => decide(current, &task.change, &command.id, requested_at),
            Err(_) => Decision::Reject(Rejection::InvalidBody),
        },
        async || listings.waited(&command.id).await,
        async |entry, revision| {
            let committed = listings.commit(entry, revision).await?;
            match &committed {
                Committed::Done => {
                    *progress.written.borrow_mut() = revision.map(|revision| revision.listing.clone());
                }
                Committed::AlreadySettled => progress.settled_before.set(true),
                Committed::Overtaken(_) | Committed::KeyTaken(_) | Committed::Collided => {}
            }
            Ok(committed)
        },
    )
    .await?;
    if let Ok(Task { property, change: Change::RequestApproval | Change::Write(_) }) = task
        && let Some(listing) = to_be_published(listings, property, &command.id, progress).await?
    {
        requests.publish(&event(&listing)).await?;
        let request = listing.approval_request_id.as_ref().map(tracing::field::display);
        tracing::info!(approval_request_id = request, "evaluation requested");
    }
    Ok(outcome)
}

/// The listing whose request must be published now: written by this delivery, or by an earlier one that may
/// have ended before it published. In the second case it is read again, since the read before the commit
/// may be older than the earlier delivery's write.
async fn to_be_published(
    listings: &impl Listings,
    property: &PropertyId,
    command: &CommandId,
    progress: Progress,
) -> Result<Option<Listing>, CallError> {
    let candidate = match progress.written.into_inner() {
        None if progress.settled_before.get() => listings.find(property).await?,
        written => written,
    };
    Ok(candidate.filter(|listing| listing.is_pending_by(command)))
}

fn event(listing: &Listing) -> PublicationApprovalRequested {
    let Listing { offer, status, approval_request_id, .. } = listing;
    PublicationApprovalRequested {
        property_id: listing.property_id(),
        approval_request_id: approval_request_id.clone(),
        address: offer.address().clone(),
        status: *status,
        terms: offer.terms().clone(),
        images: offer.images().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lambda_kit::fixture::{self, Call, Fault, Redeliveries, at_once, batch, failed, requested};
    use lambda_kit::ledger::CommandStatus::{Applied, Pending, Rejected};
    use serde_json::Value;
    use vocabulary::ListingStatus;

    use super::*;
    use crate::domain::approval_request_id;
    use crate::tests::world::{
        LISTING, LISTINGS, REQUEST, World, at, listing, message, offer, offer_json, request_message,
        withdrawal_message,
    };

    fn write_message(id: &str) -> Value {
        message(id, "POST", LISTINGS, &offer_json().to_string())
    }

    /// The same message at its nth receive, requested `seconds` after `at(0)`.
    fn received(message: Value, receive: u32, seconds: i64) -> Value {
        fixture::received(requested(message, at(seconds)), receive)
    }

    /// The ids that stay in the queue after a delivery at `at(seconds)`, and their delays.
    async fn deliver_at(
        world: &World,
        seconds: i64,
        messages: &[Value],
    ) -> (Vec<String>, Vec<(String, u64)>) {
        let queue = Redeliveries::default();
        let deadline = Deadline::after(Duration::from_secs(10));
        let response = handle(batch(messages), at(seconds), deadline, world, world, &queue).await.unwrap();
        (failed(response), queue.0.into_inner())
    }

    async fn deliver(world: &World, messages: &[Value]) -> Vec<String> {
        deliver_at(world, 1, messages).await.0
    }

    fn world(status: ListingStatus) -> World {
        World::with(listing(status))
    }

    #[tokio::test]
    async fn a_listing_is_written_requested_and_withdrawn_in_the_order_of_arrival() {
        let world = World::default();
        let failed =
            deliver(&world, &[write_message("c-1"), request_message("c-2"), withdrawal_message("c-3")]).await;
        assert!(failed.is_empty());
        assert_eq!(world.status(), Some(ListingStatus::Withdrawn));
        for id in ["c-1", "c-2", "c-3"] {
            assert_eq!(world.outcome(id), (Applied, None), "{id}");
        }
        assert_eq!(world.published.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_withdrawal_finds_its_listing_however_the_path_is_written() {
        for path in
            ["usa/anytown/main-street/111", " USA/AnyTown/Main  Street/111", "USA/Any.town/Main Street/111"]
        {
            let world = world(ListingStatus::Approved);
            deliver(&world, &[message("c-1", "DELETE", LISTING, &json!({"property_id": path}).to_string())])
                .await;
            assert_eq!(world.status(), Some(ListingStatus::Withdrawn), "{path}");
        }
    }

    #[tokio::test]
    async fn a_request_publishes_the_whole_listing_as_it_is_pending() {
        let world = world(ListingStatus::New);
        deliver(&world, &[request_message("c-1")]).await;
        let event = world.published.borrow()[0].clone();
        assert_eq!(event.approval_request_id, world.listing().unwrap().approval_request_id);
        assert_eq!(event.approval_request_id, Some(approval_request_id(&"c-1".parse().unwrap())));
        assert_eq!(
            serde_json::to_value(PublicationApprovalRequested { approval_request_id: None, ..event })
                .unwrap(),
            json!({
                "property_id": "usa/anytown/main-street/111",
                "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
                "status": "PENDING", "description": "A bright house & a garden, 100% sunny.",
                "images": ["usa/anytown/main-street-111-front.png"],
                "contract": "sale", "listprice": 200_000, "currency": "USD",
            })
        );
    }

    /// Wherever a delivery ends, the next one does the rest, and no more.
    #[tokio::test]
    async fn a_request_that_is_cut_short_anywhere_is_published_by_its_redelivery() {
        for call in ["find", "commit", "publish"] {
            for fault in Fault::BOTH {
                let world = world(ListingStatus::New);
                world.calls.fail(Call::Next(call), fault);
                assert_eq!(deliver(&world, &[request_message("c-1")]).await, ["c-1"], "{call} {fault:?}");
                assert!(deliver(&world, &[request_message("c-1")]).await.is_empty(), "{call} {fault:?}");
                assert_eq!(world.outcome("c-1"), (Applied, None));
                assert_eq!(world.listing().unwrap().listing_version, 5, "one change");
                let published = world.published.borrow();
                assert!(!published.is_empty(), "{call} {fault:?}");
                assert!(published.iter().all(|event| *event == published[0]), "always the same request");
            }
        }
    }

    #[tokio::test]
    async fn a_request_is_not_published_again_once_its_listing_has_moved_on() {
        let world = world(ListingStatus::New);
        world.calls.fail(Call::Next("publish"), Fault::Before);
        deliver(&world, &[request_message("c-1")]).await;
        deliver(&world, &[withdrawal_message("c-2")]).await;
        assert!(deliver(&world, &[request_message("c-1")]).await.is_empty());
        assert!(world.published.borrow().is_empty());
    }

    /// Two deliveries of one message overlap: the slower one has read the listing before the
    /// other wrote it. If it only trusted that, and the other died, nobody would publish.
    #[tokio::test]
    async fn the_slower_of_two_deliveries_publishes_what_the_faster_one_may_not_have() {
        let world = world(ListingStatus::New);
        world.calls.meanwhile(Call::Next("commit"), |world: &World| {
            let other = World::with(listing(ListingStatus::New));
            other.calls.fail(Call::Next("publish"), Fault::Before);
            at_once(deliver(&other, &[request_message("c-1")]));
            world.put(other.listing().unwrap());
            let record = other.ledger.record(&"c-1".parse().unwrap()).unwrap();
            world.ledger.put(record);
        });
        assert!(deliver(&world, &[request_message("c-1")]).await.is_empty());
        assert_eq!(world.published.borrow().len(), 1);
    }

    /// Known faults 20 and 28: a request for a missing listing crashed after it was answered OK.
    #[tokio::test]
    async fn a_request_that_overtakes_its_listing_waits_for_it() {
        let world = World::default();
        let (failed, delays) = deliver_at(&world, 0, &[request_message("c-2")]).await;
        assert_eq!((failed, delays), (vec!["c-2".into()], vec![("c-2".into(), 2)]));
        assert_eq!(world.outcome("c-2"), (Pending, Some("listing_not_found".into())));
        deliver(&world, &[write_message("c-1"), request_message("c-2")]).await;
        assert_eq!(world.outcome("c-2"), (Applied, None));
        assert_eq!(world.published.borrow().len(), 1);
    }

    #[tokio::test]
    async fn a_request_and_a_withdrawal_without_a_listing_are_rejected_after_all_waits() {
        let world = World::default();
        let at_receive = |receive| {
            [received(request_message("c-1"), receive, 0), received(withdrawal_message("c-2"), receive, 0)]
        };
        for receive in 1..=7 {
            assert_eq!(deliver_at(&world, 0, &at_receive(receive)).await.0.len(), 2, "{receive}");
        }
        assert_eq!(deliver_at(&world, 120, &at_receive(8)).await, (vec![], vec![]));
        for id in ["c-1", "c-2"] {
            assert_eq!(world.outcome(id), (Rejected, Some("listing_not_found".into())));
        }
        assert_eq!(world.listing(), None);
    }

    /// Known fault 22: approved listings were resubmitted.
    #[tokio::test]
    async fn a_request_that_cannot_be_waits_14_s_then_is_rejected_and_publishes_nothing() {
        for (status, reason) in [
            (ListingStatus::Approved, "already_approved"),
            (ListingStatus::Pending, "evaluation_in_progress"),
            (ListingStatus::Withdrawn, "withdrawn"),
        ] {
            let world = world(status);
            for (receive, wait) in [(1, 2), (2, 4), (3, 8)] {
                let (_, delays) =
                    deliver_at(&world, 1, &[received(request_message("c-1"), receive, 0)]).await;
                assert_eq!(delays, [("c-1".into(), wait)]);
                assert_eq!(world.outcome("c-1"), (Pending, Some(reason.into())));
            }
            assert!(deliver(&world, &[received(request_message("c-1"), 4, 0)]).await.is_empty());
            assert_eq!(world.outcome("c-1"), (Rejected, Some(reason.into())));
            assert!(world.published.borrow().is_empty());
            assert_eq!(world.listing(), Some(listing(status)));
        }
    }

    /// The client sent the text, then the request; the queue delivered them in the other order.
    #[tokio::test]
    async fn a_request_that_overtook_its_text_publishes_the_text() {
        let world = world(ListingStatus::New);
        let (write, request) = (received(write_message("c-1"), 1, 0), received(request_message("c-2"), 1, 1));
        deliver(&world, &[request]).await;
        for fault in [Some(Fault::Before), Some(Fault::After), None] {
            if let Some(fault) = fault {
                world.calls.fail(Call::Next("publish"), fault);
            }
            deliver(&world, std::slice::from_ref(&write)).await;
        }
        let pending = world.listing().unwrap();
        assert_eq!((pending.status, world.outcome("c-1")), (ListingStatus::Pending, (Applied, None)));
        let published = world.published.borrow();
        let requests: std::collections::BTreeSet<_> =
            published.iter().map(|event| event.approval_request_id.clone().unwrap().to_string()).collect();
        assert_eq!(requests.len(), 2, "the first, and the one that the late text made, however often");
        assert_eq!(published.last().unwrap().approval_request_id, pending.approval_request_id);
    }

    /// `%2531` is `%31` once it is decoded, which the gateway does; it withdrew number 1.
    #[tokio::test]
    async fn a_path_is_not_decoded_twice() {
        let world = World::default();
        deliver(
            &world,
            &[message("c-1", "DELETE", LISTING, r#"{"property_id": "usa/anytown/main-street/%31"}"#)],
        )
        .await;
        assert_eq!(world.outcome("c-1"), (Rejected, Some("invalid_body".into())));
    }

    #[test]
    fn a_withdrawal_is_the_same_command_however_its_path_is_written() {
        let fingerprint = |path: &str| {
            let message = message("c-1", "DELETE", LISTING, &json!({"property_id": path}).to_string());
            parse(&serde_json::from_value(message).unwrap()).unwrap().work.command.fingerprint()
        };
        assert_eq!(fingerprint("USA/Anytown/Main Street/111"), fingerprint("usa/anytown/main-street/111"));
        assert_ne!(fingerprint("usa/anytown/main-street/111"), fingerprint("usa/anytown/main-street/112"));
    }

    #[tokio::test]
    async fn of_many_writes_in_any_order_the_newest_stays() {
        let world = World::default();
        for second in [3, 9, 1, 7, 5] {
            let mut body = offer_json();
            body["listprice"] = json!(100 + second);
            let id = format!("c-{second}");
            let write = received(message(&id, "POST", LISTINGS, &body.to_string()), 1, second);
            assert!(deliver_at(&world, 10, &[write]).await.0.is_empty());
        }
        assert_eq!(world.price().unwrap(), 109);
        assert_eq!(world.outcome("c-9"), (Applied, None));
        assert_eq!(world.outcome("c-7"), (Rejected, Some("superseded".into())));
    }

    #[tokio::test]
    async fn a_request_from_a_clock_that_runs_ahead_supersedes_nothing_that_comes_after_it() {
        let world = World::default();
        deliver_at(&world, 1, &[received(write_message("c-1"), 1, 3_600)]).await;
        deliver_at(&world, 2, &[received(write_message("c-2"), 1, 2)]).await;
        assert_eq!(world.outcome("c-2"), (Applied, None));
    }

    /// The queue has the right time; the clock of the function's machine was set back.
    #[tokio::test]
    async fn writes_keep_their_order_where_the_clock_of_the_function_was_set_back() {
        let world = World::default();
        let write = |id: &str, price: i64, seconds| {
            let mut body = offer_json();
            body["listprice"] = json!(price);
            let mut write = received(message(id, "POST", LISTINGS, &body.to_string()), 1, seconds);
            write["attributes"]["SentTimestamp"] = json!(at(seconds).as_millis().to_string());
            write
        };
        deliver_at(&world, 11, &[write("c-1", 100, 10)]).await;
        deliver_at(&world, 2, &[write("c-3", 300, 30)]).await;
        deliver_at(&world, 3, &[write("c-2", 200, 20)]).await;
        assert_eq!(world.outcome("c-3"), (Applied, None));
        assert_eq!(world.outcome("c-2"), (Rejected, Some("superseded".into())));
        assert_eq!(world.price().unwrap(), 300);
    }

    /// Known fault 14: the function loaded the item, and later overwrote all of it.
    #[tokio::test]
    async fn an_approval_that_is_faster_is_not_overwritten() {
        let world = world(ListingStatus::New);
        world.calls.meanwhile(Call::Next("commit"), |world: &World| {
            let mut published = listing(ListingStatus::Approved);
            published.listing_version = 6;
            world.put(published);
        });
        deliver(&world, &[request_message("c-1")]).await;
        assert_eq!(world.status(), Some(ListingStatus::Approved));
        assert_eq!(world.outcome("c-1"), (Pending, Some("already_approved".into())));
    }

    #[tokio::test]
    async fn a_body_that_the_gateway_let_pass_is_rejected_with_a_record() {
        let mut without_images = offer_json();
        without_images["images"] = json!([]);
        let world = World::default();
        let mut not_utf8 = offer_json();
        not_utf8["description"] = json!("Stra\u{FFFD}e");
        let messages = [
            message("c-5", "POST", LISTINGS, &not_utf8.to_string()),
            message("c-1", "POST", LISTINGS, &without_images.to_string()),
            message("c-2", "POST", REQUEST, "not JSON"),
            message("c-3", "POST", REQUEST, r#"{"property_id": "usa/anytown"}"#),
            message("c-4", "DELETE", LISTING, r#"{"property_id": "usa/anytown/a%2Fb/1"}"#),
        ];
        assert!(deliver(&world, &messages).await.is_empty());
        for id in ["c-1", "c-2", "c-3", "c-4", "c-5"] {
            assert_eq!(world.outcome(id), (Rejected, Some("invalid_body".into())), "{id}");
        }
    }

    /// Known faults 5, 6 and 7.
    #[tokio::test]
    async fn a_command_without_the_name_of_its_route_is_known_by_its_body() {
        let world = World::default();
        let without_route = |mut message: Value| {
            message["messageAttributes"].as_object_mut().unwrap().remove("ResourcePath");
            message
        };
        let commands = [write_message("c-1"), request_message("c-2"), withdrawal_message("c-3")];
        for (command, status) in
            commands.into_iter().zip([ListingStatus::New, ListingStatus::Pending, ListingStatus::Withdrawn])
        {
            assert!(deliver(&world, &[without_route(command)]).await.is_empty());
            assert_eq!(world.status(), Some(status));
        }
        assert!(deliver(&world, &[without_route(message("c-4", "POST", "", "[]"))]).await.is_empty());
        assert_eq!(world.outcome("c-4"), (Rejected, Some("invalid_body".into())));
    }

    #[tokio::test]
    async fn poison_fails_alone_and_is_visible_at_once() {
        let world = World::default();
        let mut bare = write_message("m-1");
        bare["messageAttributes"] = json!({});
        let odd = message("m-2", "PATCH", LISTINGS, "{}");
        let (failed, delays) = deliver_at(&world, 1, &[bare, write_message("c-1"), odd]).await;
        assert_eq!(failed, ["m-1", "m-2"]);
        assert_eq!(delays, [("m-1".into(), 0), ("m-2".into(), 0)]);
        assert_eq!(world.outcome("c-1"), (Applied, None));
    }

    #[tokio::test]
    async fn a_new_listing_is_one_call_and_other_changes_are_two() {
        let world = World::default();
        deliver(&world, &[write_message("c-1")]).await;
        assert_eq!(world.calls.take(), ["commit"]);
        deliver(&world, &[write_message("c-2")]).await;
        assert_eq!(world.calls.take(), ["commit", "commit"], "the first finds the listing that is there");
        deliver(&world, &[request_message("c-3")]).await;
        assert_eq!(world.calls.take(), ["find", "commit", "publish"]);
        deliver(&world, &[withdrawal_message("c-4")]).await;
        assert_eq!(world.calls.take(), ["find", "commit"]);
    }

    #[tokio::test]
    async fn a_redelivered_write_changes_nothing() {
        let world = World::default();
        deliver(&world, &[write_message("c-1")]).await;
        let written = world.listing();
        deliver(&world, &[write_message("c-1"), withdrawal_message("c-2"), write_message("c-1")]).await;
        assert_eq!(written.unwrap().offer, offer());
        assert_eq!(world.status(), Some(ListingStatus::Withdrawn), "the late copy does not bring it back");
    }
}
