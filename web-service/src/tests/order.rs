//! The outcome follows the order of the requests: the real handler against a reference of a few lines
//! that follows the README, "How long a command takes until it is rejected".
//!
//! Every sequence of up to three commands, on a listing in any status, is delivered in every order.
//! `UNICORN_MODEL_LENGTH=4` tries all sequences of four commands.

use std::time::Duration;

use ListingStatus::{Approved, Declined, New, Pending, Withdrawn};
use Step::{Request, Withdraw, Write};
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_kit::CallError;
use lambda_kit::batch::Deadline;
use lambda_kit::fixture::order::{
    self, Case, Mishap, Outcome, Refusal, Subject, id, max_length, with_mishaps,
};
use lambda_kit::fixture::{Call, Fault, MemoryLedger, SimulatedQueue, requested};
use serde_json::{Value, json};
use vocabulary::{EvaluationResult, ListingStatus, Timestamp};

use super::world::{
    LISTINGS, World, evaluation, listing, message, offer_json, request_message, withdrawal_message,
};
use crate::domain::{Evaluation, Listing, evaluate};
use crate::handlers::ingest;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Write,
    Request,
    Withdraw,
}

const STEPS: [Step; 3] = [Write, Request, Withdraw];

#[derive(Debug, Clone, Copy)]
struct Start {
    status: Option<ListingStatus>,
    /// Whether every request is approved at once, or none is answered.
    answered: bool,
}

fn starts() -> Vec<Start> {
    [None, Some(New), Some(Pending), Some(Approved), Some(Declined), Some(Withdrawn)]
        .into_iter()
        .flat_map(|status| [false, true].map(|answered| Start { status, answered }))
        .collect()
}

/// The world, and whether requests are approved in it.
struct Answering {
    world: World,
    answered: bool,
}

impl Answering {
    fn status(&self) -> Option<ListingStatus> {
        self.world.status()
    }

    /// The command whose text is shown.
    fn shown(&self) -> Option<usize> {
        let price = self.world.price()?;
        (0..10).find(|n| self::price(*n) == price)
    }
}

fn price(n: usize) -> u64 {
    1_000 + n as u64
}

/// Approves the pending listing, like a fast workflow.
fn approve(world: &World, now: Timestamp) {
    let Some(listing) = world.listing().filter(|listing| listing.status == Pending) else { return };
    let published = world.published.borrow();
    let Some(event) = published.iter().find(|event| event.approval_request_id == listing.approval_request_id)
    else {
        return;
    };
    let answer = Evaluation {
        request: event.approval_request_id.clone(),
        at: now,
        ..evaluation(EvaluationResult::Approved, Some(3))
    };
    let revision = evaluate(Some(&listing), None, &answer).unwrap();
    world.put(revision.listing);
}

impl Subject for Answering {
    type Start = Start;
    type Step = Step;

    async fn new(start: Start, begun: Timestamp) -> Self {
        let world = World::default();
        if let Some(status) = start.status {
            let before = Some(begun.plus_millis(-1));
            let requested_at = before.filter(|_| !matches!(status, New | Withdrawn));
            world.put(Listing {
                last_write_at: before,
                approval_requested_at: requested_at,
                ..listing(status)
            });
        }
        Self { world, answered: start.answered }
    }

    fn message(n: usize, step: Step, requested_at: Timestamp) -> Value {
        let mut body = offer_json();
        body["listprice"] = json!(price(n));
        let message = match step {
            Write => message(&id(n), "POST", LISTINGS, &body.to_string()),
            Request => request_message(&id(n)),
            Withdraw => withdrawal_message(&id(n)),
        };
        requested(message, requested_at)
    }

    fn fail(&self, call: Call, fault: Fault) {
        self.world.calls.fail(call, fault);
    }

    async fn handle(
        &self,
        batch: SqsEvent,
        now: Timestamp,
        queue: &SimulatedQueue,
    ) -> Result<SqsBatchResponse, CallError> {
        let deadline = Deadline::after(Duration::from_secs(10));
        let response = ingest::handle(batch, now, deadline, &self.world, &self.world, queue).await;
        if self.answered {
            approve(&self.world, now);
        }
        response
    }

    fn ledger(&self) -> &MemoryLedger {
        &self.world.ledger
    }
}

/// The outcome of a case in which nothing goes wrong: the status, the command whose text
/// is shown, and the outcomes.
fn reference(case: &Case<Start, Step>) -> (Option<ListingStatus>, Option<usize>, Vec<Outcome>) {
    let (mut status, mut text) = (case.start.status, None);
    // Times of requests, in milliseconds after the first; the start was before it.
    let (mut newest_write, mut newest_request) = (-1, -1);
    let outcomes = case.reference(|n| {
        let time = n as i64 * case.spacing_ms;
        let allowance = if case.steps[n] == Request { 2_000 } else { 0 };
        if time + allowance < newest_write {
            return Err(Refusal::now("superseded"));
        }
        let next = match (status, case.steps[n]) {
            (Some(_), Write) if time < newest_request => Pending,
            (Some(Pending), Write | Request) => return Err(Refusal::by_state("evaluation_in_progress")),
            (_, Write) => {
                newest_request = -1;
                New
            }
            (None, _) => return Err(Refusal::without_predecessor("listing_not_found")),
            (Some(_), Withdraw) => Withdrawn,
            (Some(New | Declined), Request) => Pending,
            (Some(Approved), Request) => return Err(Refusal::by_state("already_approved")),
            (Some(Withdrawn), Request) => return Err(Refusal::by_state("withdrawn")),
        };
        status = Some(if next == Pending && case.start.answered { Approved } else { next });
        match case.steps[n] {
            Write => (newest_write, text) = (time, Some(n)),
            Withdraw => newest_write = time,
            Request => newest_request = newest_request.max(time),
        }
        Ok(())
    });
    (status, text, outcomes)
}

fn cases(length: usize, spacing_ms: i64, gap_ms: i64) -> Vec<Case<Start, Step>> {
    order::cases::<Answering>(&starts(), &STEPS, length, spacing_ms, gap_ms)
}

/// What must hold in every run.
fn is_in_order(case: &Case<Start, Step>, subject: &Answering, outcomes: &[Outcome]) -> Result<(), String> {
    let is_applied = |n: &usize| outcomes[*n].is_none();
    let newest =
        |of: &[Step]| (0..case.steps.len()).filter(is_applied).filter(|n| of.contains(&case.steps[*n])).max();
    let (write, shown) = (newest(&[Write]), subject.shown());
    if shown != write {
        return Err(format!("it shows the text of {shown:?}, and {write:?} is the newest"));
    }
    let status = subject.status();
    if let Some(last) = newest(&[Write, Withdraw])
        && (case.steps[last] == Withdraw) != (status == Some(Withdrawn))
    {
        return Err(format!("it is {status:?} after {last}"));
    }
    for (n, outcome) in outcomes.iter().enumerate() {
        let later = (n + 1..case.steps.len()).filter(is_applied).any(|later| case.steps[later] != Request);
        if outcome.as_deref() == Some("superseded") && !later {
            return Err(format!("nothing supersedes command {n}"));
        }
    }
    let pending = subject.world.listing().filter(|listing| listing.status == Pending);
    if let Some(listing) = pending.filter(|_| newest(&STEPS).is_some()) {
        let published = subject.world.published.borrow();
        let is_asked = published.iter().any(|event| {
            event.approval_request_id == listing.approval_request_id && event.terms == *listing.offer.terms()
        });
        if !is_asked && listing.approval_command.is_some() {
            return Err("nobody was asked to evaluate what is pending".into());
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_of_delivery_end_as_the_reference_says() {
    let mut tried = 0;
    for (spacing_ms, gap_ms) in [(1, 100), (3_000, 3_000), (1, 20_000)] {
        for case in cases(max_length(), spacing_ms, gap_ms) {
            let run = case.run::<Answering>(Mishap::None).await.unwrap();
            let end = (run.world.status(), run.world.shown(), run.outcomes.clone());
            assert_eq!(end, reference(&case), "{case:?}");
            assert_eq!(is_in_order(&case, &run.world, &run.outcomes), Ok(()), "{case:?}");
            tried += 1;
        }
    }
    println!("web: {tried} orders of delivery, all as the reference says");
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_with_duplicates_and_faults_follow_the_order_of_the_requests() {
    let calls = ["find", "commit", "publish"].map(Call::Next);
    let cases = cases(3, 1, 100);
    let runs = with_mishaps::<Answering>(&cases, &calls, |case, mishap, run| {
        is_in_order(case, &run.world, &run.outcomes)?;
        // A request is for the text before it, whatever came first. Where a function was killed,
        // its command is back after a minute, which only those wait for that find no listing.
        let start = case.start;
        let waits =
            !matches!(mishap, Mishap::Killed(..)) || matches!(start.status, None | Some(New | Declined));
        if case.steps == [Write, Request] && start.status != Some(Pending) && waits {
            let status = if start.answered { Approved } else { Pending };
            let end = (run.world.status(), run.world.shown());
            if end != (Some(status), Some(0)) || run.outcomes != [None, None] {
                return Err(format!("the request is not for the text before it: {end:?}"));
            }
        }
        Ok(())
    });
    println!("web: {:?} runs, all in the order of the requests", runs.await.unwrap());
}
