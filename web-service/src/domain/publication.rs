//! What events do to a listing: an evaluation publishes or declines it, and a contract that
//! ends takes it down. Whichever of the two arrives first, the outcome is the same.

use serde::{Deserialize, Serialize};
use vocabulary::{
    ApprovalRequestId, ContractVersion, EvaluationReason, EvaluationResult, PropertyId, Timestamp,
};

use super::{Listing, ListingStatus, Revision};

/// The latest contract of a property that has ended.
///
/// It is kept whether or not the property has a listing. The approval service may hear of
/// the end later than we do; if it evaluates a listing meanwhile that was written only after
/// the end, it relies on the ended contract, and nothing but this would stop that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedContract {
    /// The property that the contract was about.
    pub property_id: PropertyId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The version that its end is; `None` where the producer tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
}

/// What the approval service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The request that is answered; `None`: whichever is pending.
    pub request: Option<ApprovalRequestId>,
    /// May the listing be published?
    pub result: EvaluationResult,
    /// Why not.
    pub reasons: Vec<EvaluationReason>,
    /// The version of the contract that the answer relies on.
    pub contract_version: Option<ContractVersion>,
    /// When it was published.
    pub at: Timestamp,
}

/// Why an evaluation changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The property has no listing: there is nothing to evaluate, and none is made up.
    #[error("the property has no listing")]
    NoListing,
    /// Answered before, replaced or withdrawn meanwhile.
    #[error("the listing is not being evaluated")]
    NotPending,
    /// It answers an earlier request.
    #[error("the listing is being evaluated for another request")]
    AnotherRequest,
}

/// What an evaluation makes of the listing that the property has now, given the latest
/// contract of the property that has ended.
///
/// # Errors
/// When it is not the answer that the listing waits for.
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
    let relied = (evaluation.contract_version, evaluation.at);
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
        contract_version: evaluation.contract_version,
        evaluated_at: Some(evaluation.at),
        ..listing.clone()
    };
    Ok(Revision::of(listing, next, evaluation.at))
}

/// What the end of a contract makes of the listing that the property has now; `None` where
/// it changes nothing: not published, or published under a newer contract.
pub fn end(current: Option<&Listing>, ended: &EndedContract) -> Option<Revision> {
    let listing = current.filter(|listing| listing.status == ListingStatus::Approved)?;
    // An approved listing has been evaluated; one that does not say when counts as outdated.
    if listing.evaluated_at.is_some_and(|at| !ended.outdates((listing.contract_version, at))) {
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
    /// Whether an approval relies on this contract or an older one: by version, and by time
    /// where one of the two has none.
    fn outdates(&self, (relied_on, at): (Option<ContractVersion>, Timestamp)) -> bool {
        match (self.contract_version, relied_on) {
            (Some(ended), Some(relied_on)) => relied_on <= ended,
            _ => at <= self.ended_at,
        }
    }

    /// Whether this is the end of a newer contract than `other` is: by version, and by time
    /// where one of the two has none.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        match (self.contract_version, other.contract_version) {
            (Some(mine), Some(theirs)) => mine > theirs,
            _ => self.ended_at > other.ended_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ended, evaluation, listing, request};
    use EvaluationResult::{Approved, Declined};
    use proptest::prelude::*;

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
    fn where_a_version_is_missing_the_times_decide() {
        let old = Evaluation { at: at(9), ..evaluation(Approved, None) };
        let status = |ended| evaluate(Some(&pending()), Some(&ended), &old).unwrap().listing.status;
        assert_eq!(status(ended(Some(4), 9)), ListingStatus::Declined);
        assert_eq!(status(ended(None, 8)), ListingStatus::Approved);
    }

    proptest! {
        /// Events come in any order: an evaluation and the end of a contract agree about the
        /// listing whichever of them is first.
        #[test]
        fn the_order_of_an_approval_and_an_end_does_not_matter(
            relied_on in proptest::option::of(1u64..5), approved_at in 3i64..8,
            end_version in proptest::option::of(1u64..5), ended_at in 3i64..8,
        ) {
            let answer = Evaluation { at: at(approved_at), ..evaluation(Approved, relied_on) };
            let over = ended(end_version, ended_at);
            let end_first = evaluate(Some(&pending()), Some(&over), &answer).unwrap().listing;
            let published = evaluate(Some(&pending()), None, &answer).unwrap().listing;
            let end_last = end(Some(&published), &over).map_or(published, |revision| revision.listing);
            prop_assert_eq!(end_first.status, end_last.status);
            prop_assert_eq!(end_first.evaluation_reasons, end_last.evaluation_reasons);
        }
    }
}
