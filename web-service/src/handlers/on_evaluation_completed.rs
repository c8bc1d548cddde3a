//! The answer of the approval service publishes a listing or declines it.

use events::{Envelope, PublicationEvaluationCompleted};
use serde_json::Value;
use tracing::Instrument;
use vocabulary::PropertyId;

use super::{EventFailure, MOST_RACES, contended, envelope};
use crate::domain::{Evaluation, evaluate};
use crate::ports::Publications;

/// Applies one event; what no listing waits for is ignored with a log line.
///
/// # Errors
/// When the event is malformed or a dependency fails, so that the invocation is repeated.
pub async fn apply(publications: &impl Publications, event: Value) -> Result<(), EventFailure> {
    let event: Envelope<PublicationEvaluationCompleted> = envelope(event)?;
    let span =
        tracing::info_span!("evaluation", event_id = %event.id, property_id = %event.detail.property_id);
    let (property, evaluation) = read(event)?;
    conclude(publications, &property, &evaluation).instrument(span).await
}

fn read(event: Envelope<PublicationEvaluationCompleted>) -> Result<(PropertyId, Evaluation), EventFailure> {
    let Envelope { id, time, detail, .. } = event;
    let at = time.parse().map_err(|cause: vocabulary::InvalidTimestamp| EventFailure::Malformed {
        id,
        cause: cause.to_string(),
    })?;
    let evaluation = Evaluation {
        request: detail.approval_request_id,
        result: detail.evaluation_result,
        reasons: detail.evaluation_reasons,
        contract_version: detail.contract_version,
        at,
    };
    Ok((detail.property_id, evaluation))
}

async fn conclude(
    publications: &impl Publications,
    property: &PropertyId,
    evaluation: &Evaluation,
) -> Result<(), EventFailure> {
    for _ in 0..MOST_RACES {
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
    use super::*;
    use crate::domain::{EndedContract, ListingStatus, Revision};
    use crate::testing::{Fault, World, at, ended, listing, offer, request};
    use serde_json::json;
    use vocabulary::EvaluationReason;

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

    #[tokio::test]
    async fn an_approval_publishes_and_its_second_copy_changes_nothing() {
        let world = pending();
        apply(&world, event("APPROVED")).await.unwrap();
        let published = world.listing();
        assert_eq!(published.as_ref().unwrap().status, ListingStatus::Approved);
        apply(&world, event("APPROVED")).await.unwrap();
        apply(&world, event("DECLINED")).await.unwrap();
        assert_eq!(world.listing(), published);
    }

    /// Known fault 21: an evaluation for an unknown listing created a ghost item.
    #[tokio::test]
    async fn an_evaluation_for_an_unknown_listing_creates_nothing() {
        let world = World::default();
        apply(&world, event("APPROVED")).await.unwrap();
        assert_eq!(world.listing(), None);
    }

    /// Known fault 21: any status text was stored.
    #[tokio::test]
    async fn an_evaluation_with_an_unknown_result_fails_and_changes_nothing() {
        let world = pending();
        let failure = apply(&world, event("MAYBE")).await.unwrap_err();
        assert!(matches!(&failure, EventFailure::Malformed { id, .. } if id == "e-1"), "{failure}");
        assert_eq!(world.status(), Some(ListingStatus::Pending));
    }

    /// Known fault 3: a database error was logged and answered as success.
    #[tokio::test]
    async fn an_evaluation_that_cannot_be_stored_fails_and_succeeds_when_repeated() {
        for call in ["load", "store"] {
            for (fault, name) in [(Fault::FailBefore, "before"), (Fault::FailAfter, "after")] {
                let world = pending();
                world.plan(call, fault);
                assert!(apply(&world, event("APPROVED")).await.is_err(), "{call} {name}");
                apply(&world, event("APPROVED")).await.unwrap();
                assert_eq!(world.status(), Some(ListingStatus::Approved), "{call} {name}");
            }
        }
    }

    /// Known fault 14: load, then save the whole item.
    #[tokio::test]
    async fn a_withdrawal_between_reading_and_writing_is_not_overwritten() {
        let world = pending();
        world.plan(
            "store",
            Fault::Meanwhile(Box::new(|world: &World| {
                let mut withdrawn = listing(ListingStatus::Withdrawn);
                withdrawn.listing_version = 5;
                world.put(withdrawn);
            })),
        );
        apply(&world, event("APPROVED")).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Withdrawn));
    }

    #[tokio::test]
    async fn a_contract_that_ends_between_reading_and_writing_stops_the_publication() {
        let world = pending();
        world.plan(
            "store",
            Fault::Meanwhile(Box::new(|world: &World| {
                world.ended.borrow_mut().insert(offer().property_id(), ended(Some(4), 9));
            })),
        );
        apply(&world, event("APPROVED")).await.unwrap();
        let listing = world.listing().unwrap();
        assert_eq!(listing.status, ListingStatus::Declined);
        assert_eq!(listing.evaluation_reasons, [EvaluationReason::ContractEnded]);
    }

    #[tokio::test]
    async fn a_listing_that_changes_all_the_time_fails_the_invocation_in_the_end() {
        struct Contended;
        impl Publications for Contended {
            async fn load(
                &self,
                _: &PropertyId,
            ) -> Result<(Option<crate::domain::Listing>, Option<EndedContract>), lambda_kit::CallError>
            {
                Ok((Some(listing(ListingStatus::Pending)), None))
            }
            async fn store(
                &self,
                _: &Revision,
                _: Option<&EndedContract>,
            ) -> Result<bool, lambda_kit::CallError> {
                Ok(false)
            }
            async fn remember(
                &self,
                _: &EndedContract,
                _: Option<&EndedContract>,
            ) -> Result<bool, lambda_kit::CallError> {
                Ok(false)
            }
        }
        assert!(apply(&Contended, event("APPROVED")).await.is_err());
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_request_is_ignored() {
        let world = World::with(crate::domain::Listing {
            approval_request_id: Some(request("r-2")),
            ..listing(ListingStatus::Pending)
        });
        apply(&world, event("APPROVED")).await.unwrap();
        assert_eq!(world.status(), Some(ListingStatus::Pending));
    }
}
