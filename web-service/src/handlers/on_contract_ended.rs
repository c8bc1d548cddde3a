//! The end of a contract takes its listing down. The end is stored, so that a later approval that relies on
//! it is not published.

use events::{ContractStatusChanged, Envelope};
use lambda_kit::event::EventFailure;
use lambda_kit::redelivery::{MAX_ATTEMPTS, pause};
use serde_json::Value;
use tracing::Instrument;
use vocabulary::Timestamp;

use super::contended;
use crate::domain::{EndedContract, end};
use crate::ports::Publications;

/// Handles one event, `now` by the consumer's clock. A contract that has not ended is ignored with a log
/// line.
///
/// # Errors
/// When the event is malformed or a call fails. The event is delivered again, and finally dead-lettered.
pub async fn handle(
    event: Value,
    now: Timestamp,
    publications: &impl Publications,
) -> Result<(), EventFailure> {
    let event = Envelope::<ContractStatusChanged>::read(&event)?;
    let detail = event.credible_detail(now);
    let span = tracing::info_span!("contract", event_id = %event.id, property_id = %detail.property_id);
    if !detail.contract_status.is_ended() {
        span.in_scope(
            || tracing::info!(status = %detail.contract_status, "the contract has not ended: ignored"),
        );
        return Ok(());
    }
    let ended = EndedContract {
        property_id: detail.property_id,
        ended_at: detail.contract_last_modified_on,
        contract_version: detail.contract_version,
    };
    take_down(&event.id, &ended, publications).instrument(span).await
}

/// The end is stored first, and the listing is read after it. So an approval is either visible to this
/// read, or it finds the stored end.
async fn take_down(
    event_id: &str,
    ended: &EndedContract,
    publications: &impl Publications,
) -> Result<(), EventFailure> {
    let mut lost_races = 0;
    while lost_races < MAX_ATTEMPTS {
        pause(event_id, lost_races).await;
        let (listing, known) = publications.load(&ended.property_id).await?;
        let is_won = match known {
            Some(latest) if !ended.is_newer_than(&latest) => {
                let Some(revision) = end(listing.as_ref(), &latest) else {
                    tracing::info!("no published listing relies on the contract");
                    return Ok(());
                };
                let is_stored = publications.store(&revision, Some(&latest)).await?;
                if is_stored {
                    tracing::info!(status = revision.listing.status.as_str(), "listing taken down");
                    return Ok(());
                }
                false
            }
            // The listing must be read after the end is stored.
            known => publications.remember(ended, known.as_ref()).await?,
        };
        lost_races += u32::from(!is_won);
    }
    Err(contended())
}

#[cfg(test)]
mod tests {
    use lambda_kit::fixture::{Call, Fault};
    use serde_json::json;
    use vocabulary::{ContractVersion, EvaluationReason, EvaluationResult, ListingStatus};

    use super::*;
    use crate::domain::{Listing, evaluate};
    use crate::tests::world::{World, at, ended, evaluation, listing, offer};

    fn event(status: &str, version: u64) -> Value {
        json!({
            "version": "0", "id": "e-1", "source": "unicorn-contracts",
            "detail-type": "ContractStatusChanged", "account": "123456789012",
            "time": at(4).to_string(), "region": "us-east-1", "resources": [],
            "detail": {
                "property_id": offer().property_id(), "contract_id": "k-1", "contract_status": status,
                "contract_last_modified_on": at(4), "contract_version": version.to_string(),
            },
        })
    }

    fn published() -> World {
        World::with(listing(ListingStatus::Approved))
    }

    #[tokio::test]
    async fn every_kind_of_end_takes_the_listing_down() {
        for status in ["CANCELLED", "CLOSED", "EXPIRED"] {
            let world = published();
            handle(event(status, 4), at(1_000), &world).await.unwrap();
            let listing = world.listing().unwrap();
            assert_eq!(listing.status, ListingStatus::Declined, "{status}");
            assert_eq!(listing.evaluation_reasons, [EvaluationReason::ContractEnded]);
        }
    }

    /// The function counted its own successful write as a lost race.
    #[tokio::test(start_paused = true)]
    async fn the_usual_end_is_four_calls_without_a_pause() {
        let world = published();
        let begun = tokio::time::Instant::now();
        handle(event("CLOSED", 4), at(1_000), &world).await.unwrap();
        assert_eq!(world.calls.take(), ["load", "remember", "load", "store"]);
        assert_eq!(begun.elapsed().as_millis(), 0);
    }

    #[tokio::test]
    async fn an_end_keeps_its_time_where_the_clock_of_the_consumer_was_set_back() {
        let world = published();
        handle(event("CLOSED", 4), at(1), &world).await.unwrap();
        assert_eq!(world.ended.borrow()[&offer().property_id()], ended(Some(4), 4));
    }

    #[tokio::test]
    async fn a_contract_that_has_not_ended_changes_nothing() {
        for status in ["DRAFT", "APPROVED"] {
            let world = published();
            handle(event(status, 4), at(1_000), &world).await.unwrap();
            assert_eq!(world.status(), Some(ListingStatus::Approved), "{status}");
            assert!(world.ended.borrow().is_empty());
        }
    }

    #[tokio::test]
    async fn an_end_without_a_listing_is_kept_and_creates_no_listing() {
        let world = World::default();
        handle(event("CLOSED", 4), at(1_000), &world).await.unwrap();
        assert_eq!(world.listing(), None);
        assert_eq!(world.ended.borrow()[&offer().property_id()], ended(Some(4), 4));
    }

    #[tokio::test]
    async fn a_repeated_or_older_end_changes_nothing() {
        let world = published();
        handle(event("CLOSED", 4), at(1_000), &world).await.unwrap();
        let (down, kept) = (world.listing(), world.ended.borrow().clone());
        handle(event("CLOSED", 4), at(1_000), &world).await.unwrap();
        handle(event("CANCELLED", 2), at(1_000), &world).await.unwrap();
        assert_eq!((world.listing(), world.ended.borrow().clone()), (down, kept));
    }

    #[tokio::test]
    async fn the_end_of_an_older_contract_leaves_the_listing_published() {
        let world = World::with(Listing {
            contract_version: Some(ContractVersion(6)),
            ..listing(ListingStatus::Approved)
        });
        handle(event("CLOSED", 4), at(1_000), &world).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Approved));
    }

    #[tokio::test]
    async fn an_approval_that_is_published_while_the_end_is_kept_comes_down() {
        let world = World::with(listing(ListingStatus::Pending));
        world.calls.meanwhile(Call::Next("remember"), |world: &World| {
            let pending = world.listing();
            let answer = evaluation(EvaluationResult::Approved, Some(3));
            world.put(evaluate(pending.as_ref(), None, &answer).unwrap().listing);
        });
        handle(event("CLOSED", 4), at(1_000), &world).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Declined));
    }

    /// Known fault 3: a database error was logged and answered as success.
    #[tokio::test]
    async fn an_end_that_cannot_be_stored_fails_and_succeeds_when_repeated() {
        for call in ["load", "remember", "store"] {
            for fault in Fault::BOTH {
                let world = published();
                world.calls.fail(Call::Next(call), fault);
                assert!(handle(event("EXPIRED", 4), at(1_000), &world).await.is_err(), "{call} {fault:?}");
                handle(event("EXPIRED", 4), at(1_000), &world).await.unwrap();
                assert_eq!(world.status(), Some(ListingStatus::Declined), "{call} {fault:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_malformed_event_fails_with_its_ids_and_the_parsers_error() {
        let world = published();
        let failure = handle(event(&"S".repeat(300_000), 4), at(1_000), &world).await.unwrap_err();
        let text = format!("{failure:?}");
        let property = offer().property_id().to_string();
        for part in
            ["e-1", "unicorn-contracts", "ContractStatusChanged", property.as_str(), "unknown variant"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(text.len() < 1_000, "{} bytes", text.len());
        assert_eq!(world.status(), Some(ListingStatus::Approved));
    }

    #[tokio::test]
    async fn a_property_id_in_upper_case_is_the_same_property() {
        let world = published();
        let mut event = event("CLOSED", 4);
        event["detail"]["property_id"] = offer().property_id().as_str().to_uppercase().into();
        handle(event, at(1_000), &world).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Declined));
    }

    /// It would be the latest end for ever, and outdate every later approval.
    #[tokio::test]
    async fn an_end_with_an_absurd_version_bars_no_later_contract() {
        let world = World::default();
        handle(event("CLOSED", u64::MAX), at(1_000), &world).await.unwrap();
        assert_eq!(world.ended.borrow()[&offer().property_id()], ended(None, 4));
    }

    #[tokio::test]
    async fn an_end_dated_in_the_future_is_kept_with_the_consumers_own_time() {
        let world = World::default();
        let mut future = event("CLOSED", 4);
        future["detail"]["contract_last_modified_on"] = json!("9000-01-01T00:00:00.000Z");
        handle(future, at(5), &world).await.unwrap();
        assert_eq!(world.ended.borrow()[&offer().property_id()].ended_at, at(5));
    }
}
