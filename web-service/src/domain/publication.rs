//! How events change a listing: an evaluation publishes or declines it, and the end of its contract takes
//! it down. The order in which the two arrive does not matter if the evaluation says which state of the
//! contract it relies on.

use serde::{Deserialize, Serialize};
use vocabulary::{
    ApprovalRequestId, ContractVersion, EvaluationReason, EvaluationResult, ListingStatus, PropertyId,
    Timestamp,
};

use super::{Listing, Revision};

/// The latest contract of a property that has ended.
///
/// It is stored even if the property has no listing. The approval service may receive the end later than we
/// do. If it evaluates a listing in between, it relies on the ended contract; only this record stops the
/// publication then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedContract {
    /// The property that the contract was about.
    pub property_id: PropertyId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The version of its end; `None` if the event has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
}

/// The answer of the approval service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The request that is answered; `None` means the pending one, whichever it is.
    pub request: Option<ApprovalRequestId>,
    /// Whether the listing may be published.
    pub result: EvaluationResult,
    /// Why it was declined.
    pub reasons: Vec<EvaluationReason>,
    /// The version of the contract that the answer relies on.
    pub contract_version: Option<ContractVersion>,
    /// When the contract got into the state that the answer relies on.
    pub contract_last_modified_on: Option<Timestamp>,
    /// When it was published, in whole seconds; no later than the consumer's time.
    pub at: Timestamp,
}

/// How much later than its evaluation a state may be, in milliseconds: `EventBridge` sets the time of an
/// event in whole seconds.
const EVENT_TIME_PRECISION: i64 = 999;

/// The state of the contract that an approval relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReliedOn {
    version: Option<ContractVersion>,
    at: Timestamp,
}

impl ReliedOn {
    /// What an evaluation relies on, given the property's latest ended contract.
    ///
    /// An evaluation with neither version nor time may rely on any state before it. If a contract is known
    /// that ended before it, it relies on a later one. If none is known, it may rely on the contract that
    /// ends next.
    fn by(evaluation: &Evaluation, ended: Option<&EndedContract>) -> Self {
        let version = evaluation.contract_version.and_then(ContractVersion::credible);
        let at = match (evaluation.contract_last_modified_on, version, ended) {
            (Some(stated), _, _) => stated.min(evaluation.at.plus_millis(EVENT_TIME_PRECISION)),
            (None, Some(_), _) => evaluation.at,
            (None, None, Some(ended)) => ended.ended_at.next().min(evaluation.at),
            (None, None, None) => Timestamp::EARLIEST,
        };
        Self { version, at }
    }

    /// What the approval of a stored listing relies on; `None` if the row does not say.
    fn of(listing: &Listing) -> Option<Self> {
        let at = listing.relied_on_at.or(listing.evaluated_at)?;
        Some(Self { version: listing.contract_version.and_then(ContractVersion::credible), at })
    }
}

/// Why an evaluation changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The property has no listing. An evaluation never creates one.
    #[error("the property has no listing")]
    NoListing,
    /// It was answered before, or replaced or withdrawn in the meantime.
    #[error("the listing is not being evaluated")]
    NotPending,
    /// It answers an earlier request.
    #[error("the listing is being evaluated for another request")]
    AnotherRequest,
}

/// The next version of a listing after an evaluation, given the property's latest ended contract.
///
/// # Errors
/// When the listing does not wait for this answer.
pub fn evaluate(
    current: Option<&Listing>,
    ended: Option<&EndedContract>,
    evaluation: &Evaluation,
) -> Result<Revision, Ignored> {
    let listing = current.ok_or(Ignored::NoListing)?;
    if listing.status != ListingStatus::Pending {
        return Err(Ignored::NotPending);
    }
    if evaluation.request.as_ref().is_some_and(|request| !listing.is_pending_for(request)) {
        return Err(Ignored::AnotherRequest);
    }
    let relied = ReliedOn::by(evaluation, ended);
    let (status, reasons) = match evaluation.result {
        EvaluationResult::Declined => (ListingStatus::Declined, evaluation.reasons.clone()),
        EvaluationResult::Approved if ended.is_some_and(|ended| ended.outdates(relied)) => {
            (ListingStatus::Declined, vec![EvaluationReason::ContractEnded])
        }
        EvaluationResult::Approved => (ListingStatus::Approved, Vec::new()),
    };
    let next = Listing {
        status,
        evaluation_reasons: reasons,
        contract_version: relied.version,
        relied_on_at: Some(relied.at),
        evaluated_at: Some(evaluation.at),
        ..listing.clone()
    };
    Ok(Revision::of(listing, next, evaluation.at))
}

/// The next version of a listing after the end of a contract. `None` if nothing changes: the listing is not
/// published, or it is published under a newer contract.
pub fn end(current: Option<&Listing>, ended: &EndedContract) -> Option<Revision> {
    let listing = current.filter(|listing| listing.status == ListingStatus::Approved)?;
    // An approved listing without the time of its evaluation counts as outdated.
    if ReliedOn::of(listing).is_some_and(|relied| !ended.outdates(relied)) {
        return None;
    }
    let next = Listing {
        status: ListingStatus::Declined,
        evaluation_reasons: vec![EvaluationReason::ContractEnded],
        ..listing.clone()
    };
    Some(Revision::of(listing, next, ended.ended_at))
}

impl EndedContract {
    /// Whether an approval relies on this contract or an older one: by version, or by time if one of the
    /// two has no version.
    fn outdates(&self, relied: ReliedOn) -> bool {
        match (self.contract_version, relied.version) {
            (Some(ended), Some(relied_on)) => relied_on <= ended,
            _ => relied.at <= self.ended_at,
        }
    }

    /// Whether this end is newer than `other`: by version, or by time if one of the two has no version.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        match (self.contract_version, other.contract_version) {
            (Some(mine), Some(theirs)) => mine > theirs,
            _ => self.ended_at > other.ended_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use EvaluationResult::{Approved, Declined};
    use proptest::prelude::*;

    use super::*;
    use crate::tests::world::{at, ended, evaluation, listing, request};

    fn pending() -> Listing {
        listing(ListingStatus::Pending)
    }

    #[test]
    fn an_approval_publishes_the_listing_that_is_pending_for_that_very_request() {
        let revision = evaluate(Some(&pending()), None, &evaluation(Approved, Some(3))).unwrap();
        assert_eq!(revision.listing.status, ListingStatus::Approved);
        assert_eq!(revision.listing.contract_version, Some(ContractVersion(3)));
        assert!(!revision.leaves_search);
    }

    #[test]
    fn a_decline_keeps_its_reasons() {
        let revision = evaluate(Some(&pending()), None, &evaluation(Declined, None)).unwrap();
        assert_eq!(revision.listing.status, ListingStatus::Declined);
        assert_eq!(revision.listing.evaluation_reasons, [EvaluationReason::UnsafeImage]);
    }

    /// Known fault 21: an evaluation for an unknown listing created one.
    #[test]
    fn an_evaluation_without_a_listing_is_ignored() {
        assert_eq!(evaluate(None, None, &evaluation(Approved, None)), Err(Ignored::NoListing));
    }

    #[test]
    fn an_evaluation_of_a_listing_that_is_not_pending_is_ignored() {
        use ListingStatus::{Approved as Published, Declined as Refused, New, Withdrawn};
        for status in [New, Published, Refused, Withdrawn] {
            assert_eq!(
                evaluate(Some(&listing(status)), None, &evaluation(Approved, None)),
                Err(Ignored::NotPending),
                "{status:?}"
            );
        }
    }

    #[test]
    fn an_evaluation_of_an_earlier_request_is_ignored() {
        let late = Evaluation { request: Some(request("r-0")), ..evaluation(Approved, None) };
        assert_eq!(evaluate(Some(&pending()), None, &late), Err(Ignored::AnotherRequest));
    }

    #[test]
    fn an_evaluation_without_a_request_id_answers_whichever_is_pending() {
        let bare = Evaluation { request: None, ..evaluation(Approved, None) };
        assert_eq!(evaluate(Some(&pending()), None, &bare).unwrap().listing.status, ListingStatus::Approved);
    }

    #[test]
    fn an_approval_that_relied_on_an_ended_contract_is_not_published() {
        for relied_on in [3, 4] {
            let late = evaluation(Approved, Some(relied_on));
            let revision = evaluate(Some(&pending()), Some(&ended(Some(4), 1)), &late).unwrap();
            assert_eq!(revision.listing.status, ListingStatus::Declined, "{relied_on}");
            assert_eq!(revision.listing.evaluation_reasons, [EvaluationReason::ContractEnded]);
        }
        let newer = evaluation(Approved, Some(5));
        let revision = evaluate(Some(&pending()), Some(&ended(Some(4), 99)), &newer).unwrap();
        assert_eq!(revision.listing.status, ListingStatus::Approved, "a new contract was approved since");
    }

    #[test]
    fn a_published_listing_comes_down_when_its_contract_ends() {
        let published = listing(ListingStatus::Approved);
        let revision = end(Some(&published), &ended(Some(4), 9)).unwrap();
        assert_eq!(revision.listing.status, ListingStatus::Declined);
        assert_eq!(revision.listing.evaluation_reasons, [EvaluationReason::ContractEnded]);
        assert!(revision.leaves_search);
    }

    #[test]
    fn the_late_end_of_an_older_contract_leaves_a_listing_under_a_newer_one_alone() {
        let published =
            Listing { contract_version: Some(ContractVersion(6)), ..listing(ListingStatus::Approved) };
        assert_eq!(end(Some(&published), &ended(Some(4), 99)), None);
    }

    #[test]
    fn the_end_of_a_contract_changes_only_a_published_listing() {
        use ListingStatus::{Declined as Refused, New, Pending, Withdrawn};
        assert_eq!(end(None, &ended(Some(4), 9)), None);
        for status in [New, Pending, Refused, Withdrawn] {
            assert_eq!(end(Some(&listing(status)), &ended(Some(4), 9)), None, "{status:?}");
        }
    }

    #[test]
    fn where_a_version_is_missing_the_time_of_the_state_relied_on_decides() {
        let answer = |version| Evaluation {
            contract_last_modified_on: Some(at(5)),
            at: at(9),
            ..evaluation(Approved, version)
        };
        let first = |ended, version| {
            evaluate(Some(&pending()), Some(&ended), &answer(version)).unwrap().listing.status
        };
        // The contract ended after the state that the approval relies on, and before the approval.
        for (end_version, version) in [(Some(4), None), (None, None), (None, Some(3))] {
            let over = ended(end_version, 6);
            assert_eq!(first(over.clone(), version), ListingStatus::Declined, "{end_version:?} {version:?}");
            let published = evaluate(Some(&pending()), None, &answer(version)).unwrap().listing;
            let down = end(Some(&published), &over).map(|revision| revision.listing.status);
            assert_eq!(down, Some(ListingStatus::Declined), "{end_version:?} {version:?}");
            assert_eq!(first(ended(end_version, 4), version), ListingStatus::Approved);
            assert_eq!(end(Some(&published), &ended(end_version, 4)), None);
        }
    }

    #[test]
    fn an_evaluation_that_tells_a_version_alone_relies_on_a_state_of_its_own_time() {
        let answer = Evaluation { at: at(9), ..evaluation(Approved, Some(3)) };
        let status = |ended| evaluate(Some(&pending()), Some(&ended), &answer).unwrap().listing.status;
        assert_eq!(status(ended(None, 9)), ListingStatus::Declined);
        assert_eq!(status(ended(None, 8)), ListingStatus::Approved);
    }

    #[test]
    fn a_state_may_be_as_late_as_the_second_that_its_evaluation_was_published_in() {
        let within = at(9).plus_millis(500);
        let answer =
            Evaluation { contract_last_modified_on: Some(within), at: at(9), ..evaluation(Approved, None) };
        let over = EndedContract { ended_at: at(9).plus_millis(200), ..ended(None, 0) };
        let revision = evaluate(Some(&pending()), Some(&over), &answer).unwrap();
        assert_eq!(revision.listing.status, ListingStatus::Approved, "a contract of the same second");
    }

    /// The end of its contract did not take such an approval down.
    #[test]
    fn a_state_dated_after_its_evaluation_does_not_outlive_the_end_of_the_contract() {
        let answer =
            Evaluation { contract_last_modified_on: Some(at(1_000_000)), ..evaluation(Approved, None) };
        let published = evaluate(Some(&pending()), None, &answer).unwrap().listing;
        assert!(end(Some(&published), &ended(None, 4)).is_some());
    }

    /// The end of its contract did not take such an approval down.
    #[test]
    fn an_absurd_version_counts_as_absent_and_time_decides() {
        for version in [1_000_001, u64::MAX] {
            let answer =
                Evaluation { contract_last_modified_on: Some(at(2)), ..evaluation(Approved, Some(version)) };
            let published = evaluate(Some(&pending()), None, &answer).unwrap().listing;
            assert_eq!(published.contract_version, None, "{version}");
            assert!(end(Some(&published), &ended(Some(4), 4)).is_some(), "{version}");
            // Also one that was stored before versions were judged.
            let stored = Listing {
                contract_version: Some(ContractVersion(version)),
                ..listing(ListingStatus::Approved)
            };
            assert!(end(Some(&stored), &ended(Some(4), 4)).is_some(), "{version}");
        }
        let credible = evaluation(Approved, Some(1_000_000));
        let published = evaluate(Some(&pending()), None, &credible).unwrap().listing;
        assert_eq!(published.contract_version, Some(ContractVersion(1_000_000)));
    }

    #[test]
    fn an_approval_that_tells_nothing_of_its_contract_comes_down_with_whichever_ends_next() {
        let bare = Evaluation { at: at(9), ..evaluation(Approved, None) };
        let published = evaluate(Some(&pending()), None, &bare).unwrap().listing;
        assert_eq!(published.status, ListingStatus::Approved);
        assert!(
            end(Some(&published), &ended(None, 1)).is_some(),
            "however long before the approval it ended"
        );
        assert!(end(Some(&published), &ended(Some(4), 1)).is_some());
    }

    #[test]
    fn an_approval_that_tells_nothing_relies_on_a_later_contract_than_the_one_known_to_have_ended() {
        let bare = Evaluation { at: at(9), ..evaluation(Approved, None) };
        let known = ended(Some(4), 5);
        let published = evaluate(Some(&pending()), Some(&known), &bare).unwrap().listing;
        assert_eq!(published.status, ListingStatus::Approved);
        assert_eq!(end(Some(&published), &known), None, "the same end again");
        assert!(end(Some(&published), &ended(Some(6), 7)).is_some(), "the end of the next one");
        let too_late = evaluate(Some(&pending()), Some(&ended(None, 9)), &bare).unwrap().listing;
        assert_eq!(
            too_late.status,
            ListingStatus::Declined,
            "the contract ended in the same moment or later"
        );
    }

    #[test]
    fn a_row_without_the_time_relied_on_is_judged_by_the_time_of_its_evaluation() {
        let stored = |evaluated_at| Listing {
            contract_version: None,
            relied_on_at: None,
            evaluated_at,
            ..listing(ListingStatus::Approved)
        };
        assert_eq!(end(Some(&stored(Some(at(5)))), &ended(None, 4)), None);
        assert!(end(Some(&stored(Some(at(5)))), &ended(None, 5)).is_some());
        assert!(end(Some(&stored(None)), &ended(None, 1)).is_some());
    }

    proptest! {
        /// Events arrive in any order. An evaluation and the end of a contract give the same listing in
        /// both orders, if the evaluation has a version or a time.
        ///
        /// That is impossible for an evaluation with neither. If the end arrives first, it is older than
        /// the evaluation, which therefore relies on a newer contract. If the end arrives last, nobody
        /// knows whether the evaluation knew of it. The listing is taken down then: its agent notices a
        /// missing listing and asks again, but nobody notices a listing without a contract.
        #[test]
        fn the_order_of_an_approval_and_an_end_does_not_matter(
            (version, told_at) in (proptest::option::of(1u64..5), proptest::option::of(1i64..12))
                .prop_filter("it tells something", |(version, at)| version.is_some() || at.is_some()),
            approved_at in 3i64..8,
            end_version in proptest::option::of(1u64..5), ended_at in 1i64..12,
        ) {
            let answer = Evaluation {
                contract_last_modified_on: told_at.map(at),
                at: at(approved_at),
                ..evaluation(Approved, version)
            };
            let over = ended(end_version, ended_at);
            let end_first = evaluate(Some(&pending()), Some(&over), &answer).unwrap().listing;
            let published = evaluate(Some(&pending()), None, &answer).unwrap().listing;
            let end_last = end(Some(&published), &over).map_or(published, |revision| revision.listing);
            prop_assert_eq!(end_first.status, end_last.status);
            prop_assert_eq!(end_first.evaluation_reasons, end_last.evaluation_reasons);
        }
    }
}
