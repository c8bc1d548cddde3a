//! Keeps what a `ContractStatusChanged` tells, unless something newer is known.

use events::{ContractStatusChanged, Envelope};
use lambda_kit::CallError;

use crate::ports::{ContractStatuses, Kept};

/// Handles one event. Repeated, late and replayed events change nothing.
///
/// # Errors
/// When the status cannot be kept: the event is delivered again.
pub async fn handle(
    event: Envelope<ContractStatusChanged>,
    statuses: &impl ContractStatuses,
) -> Result<Kept, CallError> {
    let news = event.detail;
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
    use super::*;
    use crate::domain::tests::{contract, property};
    use crate::handlers::fakes::{Fault, World};
    use vocabulary::ContractStatus::{self, Approved, Cancelled, Draft};

    async fn tell(world: &World, status: ContractStatus, version: u64) -> Result<Kept, CallError> {
        let event = Envelope {
            id: "e-1".into(),
            source: "unicorn-contracts".into(),
            detail_type: "ContractStatusChanged".into(),
            time: "2026-11-23T18:22:06Z".into(),
            resources: vec![],
            detail: contract(status, version),
        };
        handle(event, world).await
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
        for fault in [Fault::Before, Fault::After] {
            let world = World::default();
            world.fail(0, fault);
            assert!(tell(&world, Approved, 2).await.is_err());
            tell(&world, Approved, 2).await.unwrap();
            assert_eq!(world.current(&property()).await.unwrap(), Some(contract(Approved, 2)));
        }
    }
}
