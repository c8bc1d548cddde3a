//! The rules of contracts: when a property gets one, and how its status may change. No clock, no I/O, no
//! randomness: ids and times come from the command, so a repeated command gives the same decision.

use ContractStatus::{Approved, Cancelled, Closed, Draft, Expired};
use serde::{Deserialize, Serialize};
use vocabulary::{Address, ContractStatus, ContractVersion, Decision, PropertyId, Reason, Timestamp};

/// The one current contract of a property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The property; the partition key.
    pub property_id: PropertyId,
    /// A new contract that follows an ended one has another id.
    pub contract_id: String,
    /// Where the contract stands.
    pub contract_status: ContractStatus,
    /// The seller. Never logged, never published.
    pub seller_name: String,
    /// The address as the agent wrote it.
    pub address: Address,
    /// When this contract was created.
    pub contract_created: Timestamp,
    /// When its status last changed. Each version has a later time than the one before.
    pub contract_last_modified_on: Timestamp,
    /// The number of writes to all contracts of the property so far.
    pub contract_version: ContractVersion,
    /// The request time of the newest command that was applied; an older command is superseded. `None` in
    /// rows that were stored before this field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_requested_at: Option<Timestamp>,
}

/// An agent's request about one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub property_id: PropertyId,
    /// When the API accepted it (see [`Timestamp::credible`]).
    pub requested_at: Timestamp,
    pub change: Change,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new contract, as a draft.
    Create(Terms),
    /// The contract's next status.
    Move(ContractStatus),
}

/// The terms of a new contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The id of the new contract, derived from the command.
    pub contract_id: String,
    /// Who sells.
    pub seller_name: String,
    /// Where the property is.
    pub address: Address,
}

impl Terms {
    /// The greatest length of a seller's name, in Unicode code points.
    pub const MAX_SELLER_NAME: usize = 200;

    /// Checks the limits of a new contract.
    ///
    /// # Errors
    /// [`Rejection::InvalidBody`] when the seller's name is blank or too long, or a text of the address is
    /// too long.
    pub fn new(contract_id: String, seller_name: String, address: Address) -> Result<Self, Rejection> {
        let is_name = !seller_name.trim().is_empty() && seller_name.chars().count() <= Self::MAX_SELLER_NAME;
        if is_name && address.is_within_limits() {
            Ok(Self { contract_id, seller_name, address })
        } else {
            Err(Rejection::InvalidBody)
        }
    }
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The property has a contract that has not ended.
    ContractExists,
    /// The property has no contract.
    ContractNotFound,
    /// The contract's status does not allow this change.
    InvalidTransition,
    /// A later request was applied before this one arrived.
    Superseded,
    /// The property id does not match the address.
    PropertyIdMismatch,
    /// The body is not what the API describes.
    InvalidBody,
}

impl Reason for Rejection {
    fn code(&self) -> &'static str {
        match self {
            Self::ContractExists => "contract_exists",
            Self::ContractNotFound => "contract_not_found",
            Self::InvalidTransition => "invalid_transition",
            Self::Superseded => "superseded",
            Self::PropertyIdMismatch => "property_id_mismatch",
            Self::InvalidBody => "invalid_body",
        }
    }

    fn sentence(&self) -> &'static str {
        match self {
            Self::ContractExists => "The property has a contract that is a draft or approved.",
            Self::ContractNotFound => "The property has no contract.",
            Self::InvalidTransition => "The contract's status does not allow this change.",
            Self::Superseded => "A later request for this property was applied before this one.",
            Self::PropertyIdMismatch => "The property_id is not the one that the address builds.",
            Self::InvalidBody => "The body is not what the API describes.",
        }
    }
}

/// Decides about `request`, given the property's current contract.
///
/// The queue does not keep the order of requests, but the outcome follows it: of two requests that exclude
/// each other, the later one wins; a request that may have overtaken an earlier one waits for it.
pub fn decide(current: Option<&Contract>, request: &Request) -> Decision<Contract, Rejection> {
    if current.is_some_and(|contract| contract.supersedes(request)) {
        return Decision::Reject(Rejection::Superseded);
    }
    match (current, &request.change) {
        (None, Change::Create(terms)) => Decision::Write(draft(None, request, terms)),
        (Some(last), Change::Create(terms)) if last.contract_status.is_ended() => {
            Decision::Write(draft(Some(last), request, terms))
        }
        // The request that ends the present contract may arrive later.
        (Some(_), Change::Create(_)) => Decision::NotNow(Rejection::ContractExists),
        // No earlier request can make this possible.
        (_, Change::Move(Draft)) => Decision::Reject(Rejection::InvalidTransition),
        // The request that creates the contract may arrive later.
        (None, Change::Move(_)) => Decision::NotYet(Rejection::ContractNotFound),
        (Some(contract), Change::Move(next)) if may_become(contract.contract_status, *next) => {
            Decision::Write(moved(contract, *next, request.requested_at))
        }
        // The change before it may arrive later.
        (Some(_), Change::Move(_)) => Decision::NotNow(Rejection::InvalidTransition),
    }
}

/// Whether a contract may change from one status to another. Anyone who can reach the API may approve a
/// contract; only a draft can be approved.
fn may_become(from: ContractStatus, next: ContractStatus) -> bool {
    matches!((from, next), (Draft, Approved | Cancelled | Expired) | (Approved, Closed | Cancelled | Expired))
}

impl Contract {
    /// Whether a later request than this one has been applied.
    fn supersedes(&self, request: &Request) -> bool {
        self.last_requested_at.is_some_and(|last| request.requested_at < last)
    }
}

/// A new draft. Its version follows that of the property's last contract, if there was one.
fn draft(last: Option<&Contract>, request: &Request, terms: &Terms) -> Contract {
    let time = modified_at(last, request.requested_at);
    Contract {
        property_id: request.property_id.clone(),
        contract_id: terms.contract_id.clone(),
        contract_status: Draft,
        seller_name: terms.seller_name.clone(),
        address: terms.address.clone(),
        contract_created: time,
        contract_last_modified_on: time,
        contract_version: last.map_or(ContractVersion::FIRST, |last| last.contract_version.next()),
        last_requested_at: Some(request.requested_at),
    }
}

/// The same contract in its next status.
fn moved(contract: &Contract, next: ContractStatus, requested_at: Timestamp) -> Contract {
    Contract {
        contract_status: next,
        contract_last_modified_on: modified_at(Some(contract), requested_at),
        contract_version: contract.contract_version.next(),
        last_requested_at: Some(requested_at),
        ..contract.clone()
    }
}

/// The request's time, or one millisecond after the stored time if that is later. So time and version
/// always grow together.
fn modified_at(last: Option<&Contract>, requested_at: Timestamp) -> Timestamp {
    last.map_or(requested_at, |last| requested_at.max(last.contract_last_modified_on.next()))
}

/// The status that `PUT /contracts` sets where the body has none.
pub const DEFAULT_STATUS: ContractStatus = Approved;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms).unwrap()
    }

    fn request(ms: i64, change: Change) -> Request {
        Request { property_id: "usa/anytown/main-street/111".parse().unwrap(), requested_at: at(ms), change }
    }

    fn terms(id: &str) -> Terms {
        Terms {
            contract_id: id.into(),
            seller_name: "Ada".into(),
            address: Address::new("USA", "Anytown", "Main Street", 111).unwrap(),
        }
    }

    fn create(ms: i64, id: &str) -> Request {
        request(ms, Change::Create(terms(id)))
    }

    fn written(decision: Decision<Contract, Rejection>) -> Contract {
        match decision {
            Decision::Write(contract) => contract,
            other => panic!("expected a write, not {other:?}"),
        }
    }

    fn contract(status: ContractStatus) -> Contract {
        Contract { contract_status: status, ..written(decide(None, &create(1_000, "one"))) }
    }

    #[test]
    fn a_property_without_a_contract_gets_a_draft() {
        let draft = written(decide(None, &create(1_000, "one")));
        assert_eq!((draft.contract_status, draft.contract_version), (Draft, ContractVersion::FIRST));
        assert_eq!((draft.contract_created, draft.contract_last_modified_on), (at(1_000), at(1_000)));
    }

    #[test]
    fn a_draft_or_approved_contract_bars_a_second_one_unless_its_end_is_on_the_way() {
        for status in [Draft, Approved] {
            assert_eq!(
                decide(Some(&contract(status)), &create(2_000, "two")),
                Decision::NotNow(Rejection::ContractExists)
            );
        }
    }

    #[test]
    fn an_ended_contract_is_followed_by_a_new_one_whose_version_goes_on() {
        for status in [Cancelled, Closed, Expired] {
            let next = written(decide(Some(&contract(status)), &create(2_000, "two")));
            assert_eq!((next.contract_id.as_str(), next.contract_status), ("two", Draft));
            assert_eq!(next.contract_version, ContractVersion(2));
        }
    }

    #[test]
    fn only_a_draft_is_approved_and_the_rest_follows_the_table_of_changes() {
        for from in ContractStatus::ALL {
            for to in ContractStatus::ALL {
                let decision = decide(Some(&contract(from)), &request(2_000, Change::Move(to)));
                if may_become(from, to) {
                    assert_eq!(written(decision).contract_status, to);
                } else if to == Draft {
                    assert_eq!(decision, Decision::Reject(Rejection::InvalidTransition), "{from} to {to}");
                } else {
                    assert_eq!(decision, Decision::NotNow(Rejection::InvalidTransition), "{from} to {to}");
                }
            }
        }
    }

    #[test]
    fn exactly_six_changes_of_status_are_allowed() {
        let allowed: Vec<_> = ContractStatus::ALL
            .into_iter()
            .flat_map(|from| ContractStatus::ALL.into_iter().map(move |to| (from, to)))
            .filter(|(from, to)| may_become(*from, *to))
            .collect();
        assert_eq!(
            allowed,
            [
                (Draft, Approved),
                (Draft, Cancelled),
                (Draft, Expired),
                (Approved, Cancelled),
                (Approved, Closed),
                (Approved, Expired),
            ]
        );
    }

    #[test]
    fn an_ended_contract_never_moves_again() {
        for from in ContractStatus::ALL.into_iter().filter(|status| status.is_ended()) {
            assert!(ContractStatus::ALL.into_iter().all(|to| !may_become(from, to)), "{from}");
        }
    }

    /// Known fault 28: an approve that overtook its create was dropped.
    #[test]
    fn a_change_that_overtakes_its_create_waits() {
        assert_eq!(
            decide(None, &request(1_000, Change::Move(Approved))),
            Decision::NotYet(Rejection::ContractNotFound)
        );
    }

    /// An approval without a contract approved a contract that was requested 9 s later, and an approval of
    /// a cancelled contract approved the next one.
    #[test]
    fn a_request_never_changes_a_contract_that_was_requested_after_it() {
        for change in [Change::Move(Approved), Change::Move(Cancelled), Change::Create(terms("two"))] {
            let older = request(999, change);
            let decision = decide(Some(&contract(Draft)), &older);
            assert_eq!(decision, Decision::Reject(Rejection::Superseded), "{older:?}");
        }
        let moved = written(decide(Some(&contract(Draft)), &request(1_000, Change::Move(Approved))));
        assert_eq!(moved.contract_status, Approved, "one of the same millisecond may follow it");
    }

    #[test]
    fn time_grows_with_the_version_where_two_requests_share_a_millisecond() {
        let moved = written(decide(Some(&contract(Draft)), &request(1_000, Change::Move(Approved))));
        assert_eq!(moved.contract_last_modified_on, at(1_001));
        assert_eq!((moved.contract_created, moved.last_requested_at), (at(1_000), Some(at(1_000))));
        let closed = written(decide(Some(&moved), &request(1_000, Change::Move(Closed))));
        assert_eq!(closed.contract_last_modified_on, at(1_002));
    }

    #[test]
    fn a_contract_stored_without_a_request_time_supersedes_nothing() {
        let stored = Contract { last_requested_at: None, ..contract(Draft) };
        assert!(matches!(decide(Some(&stored), &request(1, Change::Move(Approved))), Decision::Write(_)));
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let change = prop_oneof![
            "[a-z]{4}".prop_map(|id| Change::Create(terms(&id))),
            prop::sample::select(ContractStatus::ALL.to_vec()).prop_map(Change::Move),
        ];
        (0i64..10_000, change).prop_map(|(ms, change)| request(ms, change))
    }

    proptest! {
        #[test]
        fn version_and_time_grow_together_with_every_write(requests in prop::collection::vec(any_request(), 1..40)) {
            let mut current: Option<Contract> = None;
            for request in &requests {
                let Decision::Write(next) = decide(current.as_ref(), request) else { continue };
                if let Some(last) = &current {
                    prop_assert_eq!(next.contract_version, last.contract_version.next());
                    prop_assert!(next.contract_last_modified_on > last.contract_last_modified_on);
                    prop_assert!(next.contract_status != last.contract_status, "every write is a change of status");
                }
                current = Some(next);
            }
        }
    }
}
