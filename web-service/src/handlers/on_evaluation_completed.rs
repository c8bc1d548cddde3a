//! The result of an evaluation publishes a listing or declines it.

use events::{Envelope, Malformed, PublicationEvaluationCompleted};
use lambda_kit::event::EventFailure;
use lambda_kit::redelivery::{MAX_ATTEMPTS, pause};
use serde_json::Value;
use tracing::Instrument;
use vocabulary::{PropertyId, Timestamp};

use super::contended;
use crate::domain::{Evaluation, evaluate};
use crate::ports::Publications;

/// Handles one event, `now` by the consumer's clock. A result that no listing waits for is ignored with a
/// log line.
///
/// # Errors
/// When the event is malformed or a call fails. The event is delivered again, and finally dead-lettered.
pub async fn handle(
    event: Value,
    now: Timestamp,
    publications: &impl Publications,
) -> Result<(), EventFailure> {
    let envelope = Envelope::<PublicationEvaluationCompleted>::read(&event)?;
    let published_at = envelope
        .published_at(now)
        .map_err(|cause| Malformed::new(&event, format_args!("its time: {cause}")))?;
    let Envelope { id, detail, .. } = envelope;
    let evaluation = Evaluation {
        request: detail.approval_request_id,
        result: detail.evaluation_result,
        reasons: detail.evaluation_reasons,
        contract_version: detail.contract_version,
        contract_last_modified_on: detail.contract_last_modified_on,
        at: published_at,
    };
    let span = tracing::info_span!("evaluation", event_id = %id, property_id = %detail.property_id);
    conclude(publications, &id, &detail.property_id, &evaluation).instrument(span).await
}

async fn conclude(
    publications: &impl Publications,
    event_id: &str,
    property: &PropertyId,
    evaluation: &Evaluation,
) -> Result<(), EventFailure> {
    for attempt in 0..MAX_ATTEMPTS {
        pause(event_id, attempt).await;
        let (listing, ended) = publications.load(property).await?;
        match evaluate(listing.as_ref(), ended.as_ref(), evaluation) {
            Err(ignored) => {
                tracing::info!(reason = %ignored, "evaluation ignored");
                return Ok(());
            }
            Ok(revision) => {
                if publications.store(&revision, ended.as_ref()).await? {
                    tracing::info!(status = revision.listing.status.as_str(), "evaluation applied");
                    return Ok(());
                }
            }
        }
    }
    Err(contended())
}

#[cfg(test)]
mod tests {
    use lambda_kit::CallError;
    use lambda_kit::fixture::{Call, Fault};
    use serde_json::json;
    use vocabulary::{EvaluationReason, ListingStatus};

    use super::*;
    use crate::domain::{EndedContract, Revision};
    use crate::tests::world::{World, at, ended, listing, offer, request};

    fn event(result: &str) -> Value {
        json!({
            "version": "0", "id": "e-1", "source": "unicorn-properties",
            "detail-type": "PublicationEvaluationCompleted", "account": "123456789012",
            "time": at(3).to_string(), "region": "us-east-1", "resources": [],
            "detail": {
                "property_id": offer().property_id(), "evaluation_result": result,
                "approval_request_id": "r-1", "contract_version": "3",
            },
        })
    }

    fn pending() -> World {
        World::with(listing(ListingStatus::Pending))
    }

    /// A consumer whose clock is well after all events.
    async fn handle(event: Value, publications: &impl Publications) -> Result<(), EventFailure> {
        super::handle(event, at(1_000), publications).await
    }

    /// The end of its contract did not take such an approval down.
    #[tokio::test]
    async fn an_evaluation_dated_in_the_future_comes_down_with_its_contract() {
        let world = pending();
        let mut future = event("APPROVED");
        future["time"] = "9000-01-01T00:00:00Z".into();
        future["detail"]["contract_version"] = u64::MAX.into();
        future["detail"]["contract_last_modified_on"] = "9000-01-01T00:00:00.000Z".into();
        super::handle(future, at(3), &world).await.unwrap();
        let listing = world.listing().unwrap();
        assert_eq!((listing.status, listing.evaluated_at), (ListingStatus::Approved, Some(at(3))));
        assert!(crate::domain::end(Some(&listing), &ended(Some(4), 4)).is_some());
    }

    #[tokio::test]
    async fn the_state_relied_on_is_kept_with_the_listing_as_the_event_tells_it() {
        let world = pending();
        let mut event = event("APPROVED");
        event["detail"]["contract_last_modified_on"] = at(1).to_string().into();
        handle(event, &world).await.unwrap();
        assert_eq!(world.listing().unwrap().relied_on_at, Some(at(1)));
    }

    #[tokio::test]
    async fn null_in_the_optional_fields_and_a_property_id_in_upper_case_are_taken() {
        let world = pending();
        let mut nulls = event("APPROVED");
        nulls["detail"]["property_id"] = offer().property_id().as_str().to_uppercase().into();
        for field in
            ["approval_request_id", "evaluation_reasons", "contract_version", "contract_last_modified_on"]
        {
            nulls["detail"][field] = Value::Null;
        }
        handle(nulls, &world).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Approved));
    }

    #[tokio::test]
    async fn an_approval_publishes_and_its_second_copy_changes_nothing() {
        let world = pending();
        handle(event("APPROVED"), &world).await.unwrap();
        let published = world.listing();
        assert_eq!(published.as_ref().unwrap().status, ListingStatus::Approved);
        handle(event("APPROVED"), &world).await.unwrap();
        handle(event("DECLINED"), &world).await.unwrap();
        assert_eq!(world.listing(), published);
    }

    /// Known fault 21: an evaluation for an unknown listing created a ghost item.
    #[tokio::test]
    async fn an_evaluation_for_an_unknown_listing_creates_nothing() {
        let world = World::default();
        handle(event("APPROVED"), &world).await.unwrap();
        assert_eq!(world.listing(), None);
    }

    /// Known fault 21: any status text was stored.
    #[tokio::test]
    async fn an_evaluation_with_an_unknown_result_fails_and_changes_nothing() {
        let world = pending();
        let mut untimed = event("APPROVED");
        untimed["time"] = "yesterday".into();
        for event in [event("MAYBE"), untimed] {
            let failure = handle(event, &world).await.unwrap_err();
            let EventFailure::Malformed(malformed) = failure else { panic!("{failure}") };
            assert_eq!(malformed.id.as_deref(), Some("e-1"));
            assert_eq!(malformed.property_id, Some(offer().property_id().to_string()));
            assert_eq!(world.status(), Some(ListingStatus::Pending));
        }
    }

    /// Known fault 3: a database error was logged and answered as success.
    #[tokio::test]
    async fn an_evaluation_that_cannot_be_stored_fails_and_succeeds_when_repeated() {
        for call in ["load", "store"] {
            for fault in Fault::BOTH {
                let world = pending();
                world.calls.fail(Call::Next(call), fault);
                assert!(handle(event("APPROVED"), &world).await.is_err(), "{call} {fault:?}");
                handle(event("APPROVED"), &world).await.unwrap();
                assert_eq!(world.status(), Some(ListingStatus::Approved), "{call} {fault:?}");
            }
        }
    }

    /// Known fault 14: the function loaded the item, and later overwrote all of it.
    #[tokio::test]
    async fn a_withdrawal_between_reading_and_writing_is_not_overwritten() {
        let world = pending();
        world.calls.meanwhile(Call::Next("store"), |world: &World| {
            let mut withdrawn = listing(ListingStatus::Withdrawn);
            withdrawn.listing_version = 5;
            world.put(withdrawn);
        });
        handle(event("APPROVED"), &world).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Withdrawn));
    }

    #[tokio::test]
    async fn a_contract_that_ends_between_reading_and_writing_stops_the_publication() {
        let world = pending();
        world.calls.meanwhile(Call::Next("store"), |world: &World| {
            world.ended.borrow_mut().insert(offer().property_id(), ended(Some(4), 9));
        });
        handle(event("APPROVED"), &world).await.unwrap();
        let listing = world.listing().unwrap();
        assert_eq!(listing.status, ListingStatus::Declined);
        assert_eq!(listing.evaluation_reasons, [EvaluationReason::ContractEnded]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_that_changes_all_the_time_is_tried_again_with_pauses_and_fails_the_invocation() {
        struct Contended;
        impl Publications for Contended {
            async fn load(
                &self,
                _: &PropertyId,
            ) -> Result<(Option<crate::domain::Listing>, Option<EndedContract>), CallError> {
                Ok((Some(listing(ListingStatus::Pending)), None))
            }
            async fn store(&self, _: &Revision, _: Option<&EndedContract>) -> Result<bool, CallError> {
                Ok(false)
            }
            async fn remember(
                &self,
                _: &EndedContract,
                _: Option<&EndedContract>,
            ) -> Result<bool, CallError> {
                Ok(false)
            }
        }
        let begun = tokio::time::Instant::now();
        let failure = handle(event("APPROVED"), &Contended).await.unwrap_err();
        assert!(matches!(failure, EventFailure::Call(CallError::Unavailable(_))), "{failure}");
        assert!(begun.elapsed().as_millis() > 200, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_request_is_ignored() {
        let world = World::with(crate::domain::Listing {
            approval_request_id: Some(request("r-2")),
            ..listing(ListingStatus::Pending)
        });
        handle(event("APPROVED"), &world).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Pending));
    }
}
