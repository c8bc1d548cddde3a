//! Stores the status of a `ContractStatusChanged`, unless a newer one is known.

use events::{ContractStatusChanged, Envelope};
use lambda_kit::event::EventFailure;
use serde_json::Value;
use vocabulary::Timestamp;

use crate::ports::{ContractStatuses, Kept};

/// Handles one event, `now` by the consumer's clock. Repeated, late and replayed events change nothing.
///
/// # Errors
/// When the event cannot be read or the status cannot be stored. The event is delivered again, and finally
/// dead-lettered.
pub async fn handle(
    event: Value,
    now: Timestamp,
    statuses: &impl ContractStatuses,
) -> Result<Kept, EventFailure> {
    let event = Envelope::<ContractStatusChanged>::read(&event)?;
    let news = event.credible_detail(now);
    let kept = statuses.keep(&news).await?;
    tracing::info!(
        event_id = event.id,
        property_id = %news.property_id,
        contract_status = %news.contract_status,
        contract_version = news.contract_version.map(|version| version.0),
        ?kept,
        "news about a contract"
    );
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use lambda_kit::fixture::{Call, Fault};
    use lambda_runtime::Diagnostic;
    use serde_json::json;
    use vocabulary::ContractStatus::{self, Approved, Cancelled, Draft};
    use vocabulary::ContractVersion;

    use super::*;
    use crate::domain::tests::{contract, property};
    use crate::tests::world::World;

    fn event(detail: impl serde::Serialize) -> Value {
        json!({
            "id": "e-1", "source": "unicorn-contracts", "detail-type": "ContractStatusChanged",
            "time": "2026-11-23T18:22:06Z", "resources": [], "detail": detail,
        })
    }

    /// Later than every event of these tests.
    fn now() -> Timestamp {
        "2026-12-01T00:00:00.000Z".parse().unwrap()
    }

    async fn tell(world: &World, status: ContractStatus, version: u64) -> Result<Kept, EventFailure> {
        handle(event(contract(status, version)), now(), world).await
    }

    #[tokio::test]
    async fn a_malformed_event_fails_with_its_ids_and_touches_nothing() {
        let world = World::default();
        let mut detail = serde_json::to_value(contract(Draft, 1)).unwrap();
        detail["contract_status"] = "M".repeat(300_000).into();
        let Diagnostic { error_type, error_message } =
            handle(event(detail), now(), &world).await.unwrap_err().into();
        assert_eq!(error_type, "Malformed");
        for part in
            ["e-1", "unicorn-contracts", "ContractStatusChanged", property().as_str(), "unknown variant"]
        {
            assert!(error_message.contains(part), "{part} is not in {error_message}");
        }
        assert!(error_message.len() < 1_000, "{} bytes", error_message.len());
        assert_eq!(world.calls.count(), 0);
    }

    #[tokio::test]
    async fn a_property_id_in_upper_case_is_the_same_property() {
        let world = World::default();
        let mut detail = serde_json::to_value(contract(Approved, 2)).unwrap();
        detail["property_id"] = property().as_str().to_uppercase().into();
        handle(event(detail), now(), &world).await.unwrap();
        assert_eq!(world.current(&property()).await.unwrap(), Some(contract(Approved, 2)));
    }

    #[tokio::test]
    async fn news_dated_in_the_future_is_kept_with_the_consumers_own_time() {
        let world = World::default();
        let future = ContractStatusChanged {
            contract_version: None,
            contract_last_modified_on: "9000-01-01T00:00:00.000Z".parse().unwrap(),
            ..contract(Draft, 1)
        };
        handle(event(future), now(), &world).await.unwrap();
        let kept = world.current(&property()).await.unwrap().unwrap();
        assert_eq!(kept.contract_last_modified_on, now());
    }

    #[tokio::test]
    async fn news_keeps_its_time_where_the_clock_of_the_consumer_was_set_back() {
        let world = World::default();
        let news = ContractStatusChanged {
            contract_last_modified_on: "2026-11-23T18:22:06.500Z".parse().unwrap(),
            ..contract(Draft, 1)
        };
        let set_back = "2026-11-23T17:00:00.000Z".parse().unwrap();
        handle(event(&news), set_back, &world).await.unwrap();
        assert_eq!(world.current(&property()).await.unwrap(), Some(news));
    }

    #[tokio::test]
    async fn an_absurd_version_does_not_bar_later_news() {
        let world = World::default();
        let absurd = ContractStatusChanged {
            contract_version: Some(ContractVersion(u64::MAX / 2)),
            ..contract(Draft, 1)
        };
        handle(event(absurd), now(), &world).await.unwrap();
        assert_eq!(tell(&world, Approved, 2).await.unwrap(), Kept::Newest);
    }

    /// Known fault 11: a late DRAFT overwrote APPROVED.
    #[tokio::test]
    async fn a_late_draft_never_overwrites_an_approved_contract() {
        let world = World::default();
        assert_eq!(tell(&world, Approved, 2).await.unwrap(), Kept::Newest);
        assert_eq!(tell(&world, Draft, 1).await.unwrap(), Kept::Outdated);
        assert_eq!(world.current(&property()).await.unwrap(), Some(contract(Approved, 2)));
    }

    #[tokio::test]
    async fn the_newest_status_is_kept_in_whatever_order_and_number_the_events_come() {
        let events = [(Draft, 1), (Approved, 2), (Cancelled, 3)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let world = World::default();
            for index in order.into_iter().chain(order) {
                tell(&world, events[index].0, events[index].1).await.unwrap();
            }
            assert_eq!(world.current(&property()).await.unwrap(), Some(contract(Cancelled, 3)), "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_status_that_could_not_be_kept_is_an_error_and_kept_when_the_event_comes_again() {
        for fault in Fault::BOTH {
            let world = World::default();
            world.calls.fail(Call::Nth(0), fault);
            assert!(tell(&world, Approved, 2).await.is_err());
            tell(&world, Approved, 2).await.unwrap();
            assert_eq!(world.current(&property()).await.unwrap(), Some(contract(Approved, 2)));
        }
    }
}
