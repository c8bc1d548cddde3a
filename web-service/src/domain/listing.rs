//! How commands change a listing: `NEW -> PENDING -> APPROVED | DECLINED`, and `WITHDRAWN` from any status.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vocabulary::{
    ApprovalRequestId, CommandId, ContractVersion, Decision, EvaluationReason, ListingStatus, PropertyId,
    Reason, Timestamp,
};

use super::Offer;

/// The listing of one property: the offer and its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What the agent offers.
    #[serde(flatten)]
    pub offer: Offer,
    /// Its status.
    pub status: ListingStatus,
    /// The request time of the newest write or withdrawal that was applied; an older command is superseded.
    /// `None` in rows that were stored before this field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write_at: Option<Timestamp>,
    /// The latest request to publish it; `None` if there was none since it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_request_id: Option<ApprovalRequestId>,
    /// When that request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_requested_at: Option<Timestamp>,
    /// The command that made that request, or the late write that renewed it. The deliveries of this
    /// command publish the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_command: Option<CommandId>,
    /// Why it was declined; empty in other statuses.
    pub evaluation_reasons: Vec<EvaluationReason>,
    /// The version of the contract that its approval relies on, if the evaluation has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<ContractVersion>,
    /// The contract got into the state that the approval relies on at this time or earlier.
    /// `None` in rows that were stored before this field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relied_on_at: Option<Timestamp>,
    /// When the latest evaluation was published; `None` before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_at: Option<Timestamp>,
    /// When it was first written, or first written again after a withdrawal.
    pub created_at: Timestamp,
    /// When it last changed. Each version has a later time than the one before.
    pub updated_at: Timestamp,
    /// The number of changes so far, from 1. Every write has the condition that the stored version is the
    /// one that was read.
    pub listing_version: u64,
}

/// What a command changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `POST /listings`: create or replace the listing.
    Write(Box<Offer>),
    /// `POST /request_approval`: publish the listing if the evaluation approves it.
    RequestApproval,
    /// `DELETE /listings/...`: withdraw the listing.
    Withdraw,
}

/// Why a command is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The body is invalid, although the gateway let it pass.
    InvalidBody,
    /// The property has no listing.
    ListingNotFound,
    /// It is published already.
    AlreadyApproved,
    /// It is being evaluated.
    EvaluationInProgress,
    /// It was withdrawn.
    Withdrawn,
    /// A later write or withdrawal was applied before this command arrived.
    Superseded,
}

impl Reason for Rejection {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidBody => "invalid_body",
            Self::ListingNotFound => "listing_not_found",
            Self::AlreadyApproved => "already_approved",
            Self::EvaluationInProgress => "evaluation_in_progress",
            Self::Withdrawn => "withdrawn",
            Self::Superseded => "superseded",
        }
    }

    fn sentence(&self) -> &'static str {
        match self {
            Self::InvalidBody => "The request is not what this route takes.",
            Self::ListingNotFound => "This property has no listing.",
            Self::AlreadyApproved => "This listing is published already.",
            Self::EvaluationInProgress => "This listing is being evaluated.",
            Self::Withdrawn => "This listing was withdrawn; write it anew first.",
            Self::Superseded => "A later change of this listing was applied before this one.",
        }
    }
}

/// The next version of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The listing; its version is one more than the version that it replaces.
    pub listing: Listing,
    /// Whether search shows the version before and must not show the listing any more.
    pub leaves_search: bool,
}

/// The namespace of approval request ids: a random UUID, never to be changed.
const REQUEST_NAMESPACE: Uuid = Uuid::from_u128(0x5b0c_8f3e_91d4_4a7a_b6de_2f60_c1e7_93a8);

/// The id of the request that a command makes: the same for every delivery of the command.
pub fn approval_request_id(command: &CommandId) -> ApprovalRequestId {
    named(command.as_str())
}

/// The id of the request that replaces `request` after the command `write` has brought its text late.
fn restarted(request: &ApprovalRequestId, write: &CommandId) -> ApprovalRequestId {
    // A command id contains no line break, so no other pair has this name.
    named(&format!("{write}\n{request}"))
}

fn named(name: &str) -> ApprovalRequestId {
    let id = Uuid::new_v5(&REQUEST_NAMESPACE, name.as_bytes()).to_string();
    id.parse().unwrap_or_else(|_| unreachable!("a UUID is an approval request id"))
}

/// How much older than the newest write a request for approval may be, in milliseconds. An agent who sends
/// both together wants this text published; an older request was for another text.
const REQUEST_TOLERANCE_MS: i64 = 2_000;

/// Decides about a command that was requested `at` (see [`Timestamp::credible`]), given the property's
/// current listing.
///
/// The queue does not keep the order of commands, but the outcome follows it: of two writes the later one
/// wins; a command that may have overtaken an earlier one waits for it.
pub fn decide(
    current: Option<&Listing>,
    change: &Change,
    command: &CommandId,
    at: Timestamp,
) -> Decision<Revision, Rejection> {
    if current.is_some_and(|listing| listing.supersedes(change, at)) {
        return Decision::Reject(Rejection::Superseded);
    }
    match (current, change) {
        (None, Change::Write(offer)) => Decision::Write(Revision::first(offer, at)),
        // The first write may arrive later.
        (None, Change::RequestApproval | Change::Withdraw) => Decision::NotYet(Rejection::ListingNotFound),
        (Some(listing), Change::Write(offer)) => rewrite(listing, offer, command, at),
        (Some(listing), Change::RequestApproval) => request_approval(listing, command, at),
        (Some(listing), Change::Withdraw) => Decision::Write(withdraw(listing, at)),
    }
}

/// Replaces the text of a listing. The listing becomes NEW, or PENDING if a later request was for this
/// text.
fn rewrite(
    listing: &Listing,
    offer: &Offer,
    command: &CommandId,
    at: Timestamp,
) -> Decision<Revision, Rejection> {
    let created_at = if listing.status == ListingStatus::Withdrawn { at } else { listing.created_at };
    let next = match listing.request_later_than(at) {
        // The request was for this text, and overtook it.
        Some(request) => Listing {
            offer: offer.clone(),
            last_write_at: Some(at),
            created_at,
            ..listing.pending_for(restarted(request, command), command)
        },
        // The answer may arrive later.
        None if listing.status == ListingStatus::Pending => {
            return Decision::NotNow(Rejection::EvaluationInProgress);
        }
        None => Listing { created_at, ..Revision::first(offer, at).listing },
    };
    Decision::Write(Revision::of(listing, next, at))
}

/// Where the status does not allow the request, a write before it may arrive later.
fn request_approval(listing: &Listing, command: &CommandId, at: Timestamp) -> Decision<Revision, Rejection> {
    match listing.status {
        ListingStatus::New | ListingStatus::Declined => {
            let next = Listing {
                // A late request does not replace the time of a later one.
                approval_requested_at: listing.approval_requested_at.max(Some(at)),
                ..listing.pending_for(approval_request_id(command), command)
            };
            Decision::Write(Revision::of(listing, next, at))
        }
        ListingStatus::Approved => Decision::NotNow(Rejection::AlreadyApproved),
        ListingStatus::Pending => Decision::NotNow(Rejection::EvaluationInProgress),
        ListingStatus::Withdrawn => Decision::NotNow(Rejection::Withdrawn),
    }
}

/// Any status allows it, even WITHDRAWN: DELETE is idempotent (RFC 9110, section 9.2.2), so a second one is
/// applied and changes only the time.
fn withdraw(listing: &Listing, at: Timestamp) -> Revision {
    let next = Listing {
        status: ListingStatus::Withdrawn,
        last_write_at: Some(at),
        evaluation_reasons: Vec::new(),
        ..listing.clone()
    };
    Revision::of(listing, next, at)
}

impl Revision {
    fn first(offer: &Offer, at: Timestamp) -> Self {
        let listing = Listing {
            offer: offer.clone(),
            status: ListingStatus::New,
            last_write_at: Some(at),
            approval_request_id: None,
            approval_requested_at: None,
            approval_command: None,
            evaluation_reasons: Vec::new(),
            contract_version: None,
            relied_on_at: None,
            evaluated_at: None,
            created_at: at,
            updated_at: at,
            listing_version: 1,
        };
        Self { listing, leaves_search: false }
    }

    /// Replaces `before` by `next`. `at` may be before the last change, since a later command may have
    /// overtaken this one.
    pub(super) fn of(before: &Listing, next: Listing, at: Timestamp) -> Self {
        Self {
            leaves_search: before.status == ListingStatus::Approved && next.status != ListingStatus::Approved,
            listing: Listing {
                updated_at: at.max(before.updated_at.next()),
                listing_version: before.listing_version + 1,
                ..next
            },
        }
    }
}

impl Listing {
    pub fn property_id(&self) -> PropertyId {
        self.offer.property_id()
    }

    /// The same listing, PENDING for `request`, which `command` publishes.
    fn pending_for(&self, request: ApprovalRequestId, command: &CommandId) -> Self {
        Self {
            status: ListingStatus::Pending,
            approval_request_id: Some(request),
            approval_command: Some(command.clone()),
            evaluation_reasons: Vec::new(),
            contract_version: None,
            relied_on_at: None,
            evaluated_at: None,
            ..self.clone()
        }
    }

    /// Whether it is being evaluated for this request.
    pub fn is_pending_for(&self, request: &ApprovalRequestId) -> bool {
        self.status == ListingStatus::Pending && self.approval_request_id.as_ref() == Some(request)
    }

    /// Whether it is being evaluated for a request that `command` has to publish.
    pub fn is_pending_by(&self, command: &CommandId) -> bool {
        match &self.approval_command {
            Some(by) => self.status == ListingStatus::Pending && by == command,
            // A row that was stored before this field existed.
            None => self.is_pending_for(&approval_request_id(command)),
        }
    }

    /// Whether a later write or withdrawal than this command has been applied. A request for approval
    /// supersedes nothing.
    fn supersedes(&self, change: &Change, at: Timestamp) -> bool {
        let allowance = match change {
            Change::Write(_) | Change::Withdraw => 0,
            Change::RequestApproval => REQUEST_TOLERANCE_MS,
        };
        self.last_write_at.is_some_and(|last| at.plus_millis(allowance) < last)
    }

    /// The request that it is or was evaluated for, if that was made later than `at`.
    fn request_later_than(&self, at: Timestamp) -> Option<&ApprovalRequestId> {
        let is_later = self.approval_requested_at.is_some_and(|requested_at| requested_at > at);
        self.approval_request_id.as_ref().filter(|_| is_later)
    }
}

#[cfg(test)]
mod tests {
    use ListingStatus::{Approved, Declined, New, Pending, Withdrawn};

    use super::*;
    use crate::tests::world::{at, listing, offer, request};

    const ALL: [ListingStatus; 5] = [New, Pending, Approved, Declined, Withdrawn];

    fn by(command: &str) -> CommandId {
        command.parse().unwrap()
    }

    /// `Ok` the next status, `Err` the reason to wait briefly.
    fn outcome(current: Option<ListingStatus>, change: &Change) -> Result<ListingStatus, &'static str> {
        match decide(current.map(listing).as_ref(), change, &by("c-2"), at(5)) {
            Decision::Write(revision) => Ok(revision.listing.status),
            Decision::NotNow(reason) => Err(reason.code()),
            other => panic!("{other:?}"),
        }
    }

    fn written(current: ListingStatus, change: &Change) -> Revision {
        match decide(Some(&listing(current)), change, &by("c-2"), at(5)) {
            Decision::Write(revision) => revision,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listing_is_written_and_replaced_unless_it_is_being_evaluated() {
        let write = Change::Write(Box::new(offer()));
        assert_eq!(outcome(None, &write), Ok(New));
        assert_eq!(
            ALL.map(|status| outcome(Some(status), &write)),
            [Ok(New), Err("evaluation_in_progress"), Ok(New), Ok(New), Ok(New)]
        );
    }

    /// Known fault 22: approved listings were resubmitted.
    #[test]
    fn approval_is_requested_for_new_and_declined_listings_only() {
        assert_eq!(
            ALL.map(|status| outcome(Some(status), &Change::RequestApproval)),
            [
                Ok(Pending),
                Err("evaluation_in_progress"),
                Err("already_approved"),
                Ok(Pending),
                Err("withdrawn")
            ]
        );
    }

    /// Known fault 20: a request for a missing listing crashed after it was answered OK.
    #[test]
    fn a_request_for_a_missing_listing_waits_and_is_rejected_then() {
        for change in [Change::RequestApproval, Change::Withdraw] {
            let decision = decide(None, &change, &by("c-2"), at(5));
            assert_eq!(decision, Decision::NotYet(Rejection::ListingNotFound));
        }
    }

    #[test]
    fn a_listing_is_withdrawn_from_any_status_even_twice() {
        assert_eq!(ALL.map(|status| outcome(Some(status), &Change::Withdraw)), [Ok(Withdrawn); 5]);
    }

    #[test]
    fn only_an_approved_listing_has_to_leave_search() {
        for change in [Change::Write(Box::new(offer())), Change::Withdraw] {
            for status in [New, Approved, Declined, Withdrawn] {
                assert_eq!(written(status, &change).leaves_search, status == Approved, "{status:?}");
            }
        }
    }

    #[test]
    fn a_request_clears_what_an_earlier_evaluation_said() {
        let pending = written(Declined, &Change::RequestApproval).listing;
        assert_eq!(pending.approval_request_id, Some(approval_request_id(&by("c-2"))));
        assert_eq!((pending.evaluation_reasons, pending.evaluated_at), (vec![], None));
    }

    #[test]
    fn a_replaced_listing_forgets_its_request_and_reasons_and_keeps_its_birthday() {
        let next = written(Declined, &Change::Write(Box::new(offer()))).listing;
        assert_eq!((next.approval_request_id, next.evaluation_reasons), (None, vec![]));
        assert_eq!((next.created_at, next.updated_at), (at(1), at(5)));
        let anew = written(Withdrawn, &Change::Write(Box::new(offer()))).listing;
        assert_eq!(anew.created_at, at(5), "after a withdrawal a listing starts anew");
    }

    #[test]
    fn every_change_is_the_next_version_and_later_than_the_one_before() {
        let before = listing(New);
        let Decision::Write(revision) = decide(Some(&before), &Change::Withdraw, &by("c-2"), at(0)) else {
            panic!()
        };
        assert_eq!(revision.listing.listing_version, before.listing_version + 1);
        assert!(revision.listing.updated_at > before.updated_at, "even where its request is older");
    }

    #[test]
    fn a_redelivered_command_makes_the_same_request_and_another_one_another() {
        let [one, again, other] = ["c-1", "c-1", "c-2"].map(|id| approval_request_id(&id.parse().unwrap()));
        assert_eq!(one, again);
        assert_ne!(one, other);
    }

    /// A listing as a write that was requested at `at(10)` left it.
    fn written_at_10(status: ListingStatus) -> Listing {
        Listing { last_write_at: Some(at(10)), ..listing(status) }
    }

    /// An older write overwrote a newer price.
    #[test]
    fn an_older_write_or_withdrawal_is_superseded_and_one_of_the_same_time_is_not() {
        for change in [Change::Write(Box::new(offer())), Change::Withdraw] {
            for status in ALL {
                let older = decide(Some(&written_at_10(status)), &change, &by("c-2"), at(9));
                assert_eq!(older, Decision::Reject(Rejection::Superseded), "{status:?}");
            }
            let same = decide(Some(&written_at_10(New)), &change, &by("c-2"), at(10));
            let Decision::Write(revision) = same else { panic!("{same:?}") };
            assert_eq!(revision.listing.last_write_at, Some(at(10)));
        }
    }

    #[test]
    fn a_request_may_be_2_s_older_than_the_text_and_supersedes_nothing() {
        let ask = |at| decide(Some(&written_at_10(New)), &Change::RequestApproval, &by("c-2"), at);
        assert_eq!(ask(at(8).plus_millis(-1)), Decision::Reject(Rejection::Superseded));
        let Decision::Write(asked) = ask(at(8)) else { panic!() };
        assert_eq!((asked.listing.status, asked.listing.last_write_at), (Pending, Some(at(10))));
        let Decision::Write(asked) = ask(at(20)) else { panic!() };
        assert_eq!(asked.listing.last_write_at, Some(at(10)));
    }

    /// Earlier, if the request overtook the write of an approved listing, the request was rejected.
    #[test]
    fn a_write_that_its_request_overtook_starts_the_evaluation_again() {
        let mut text = crate::tests::world::offer_json();
        text["description"] = "Another text.".into();
        let text = crate::tests::world::offer_of(text);
        let write = Change::Write(Box::new(text.clone()));
        // However far the evaluation of the old text has come.
        for status in [Pending, Approved, Declined, Withdrawn] {
            let before = Listing {
                approval_request_id: Some(request("r-1")),
                approval_requested_at: Some(at(6)),
                ..listing(status)
            };
            let Decision::Write(again) = decide(Some(&before), &write, &by("c-2"), at(5)) else { panic!() };
            assert_eq!(again.leaves_search, status == Approved);
            let again = again.listing;
            assert_eq!((again.status, &again.offer, again.last_write_at), (Pending, &text, Some(at(5))));
            assert_ne!(again.approval_request_id, before.approval_request_id, "the old answer is ignored");
            assert_eq!((again.evaluated_at, again.evaluation_reasons.len()), (None, 0));
            assert!(again.is_pending_by(&by("c-2")) && !again.is_pending_by(&by("c-1")));
        }
        let before = Listing { approval_requested_at: Some(at(6)), ..listing(Pending) };
        let later = decide(Some(&before), &write, &by("c-2"), at(6));
        assert_eq!(
            later,
            Decision::NotNow(Rejection::EvaluationInProgress),
            "the request meant the old text"
        );
    }

    #[test]
    fn the_same_late_write_makes_the_same_request_and_another_one_another() {
        let request = request("r-1");
        assert_eq!(restarted(&request, &by("c-1")), restarted(&request, &by("c-1")));
        assert_ne!(restarted(&request, &by("c-1")), restarted(&request, &by("c-2")));
        assert_ne!(restarted(&request, &by("c-1")), approval_request_id(&by("c-1")));
    }
}
