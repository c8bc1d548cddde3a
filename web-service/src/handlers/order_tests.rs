//! The outcome follows the order of the requests: the real handler, over its fakes and a simulated
//! queue, against a reference of a few lines that follows product.md, "Writes are buffered".
//!
//! Every sequence of up to three commands, on a listing in any status, is delivered in every order.
//! `UNICORN_MODEL_LENGTH=4` tries all sequences of four commands.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use lambda_kit::CallError;
use lambda_kit::batch::Deadline;
use lambda_kit::fixture::{SimulatedQueue, orders, sequences};
use lambda_kit::ledger::CommandStatus;
use serde_json::{Value, json};
use vocabulary::{EvaluationResult, Timestamp};

use super::ingest::handle;
use super::ingest::tests::{LISTINGS, message, request_message, withdrawal_message};
use crate::domain::{Evaluation, Listing, ListingStatus, evaluate};
use crate::testing::{Fault as Failure, World, at, evaluation, listing, offer_json};
use ListingStatus::{Approved, Declined, New, Pending, Withdrawn};
use Step::{Request, Withdraw, Write};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Write,
    Request,
    Withdraw,
}

const STEPS: [Step; 3] = [Write, Request, Withdraw];

const STARTS: [Option<ListingStatus>; 6] =
    [None, Some(New), Some(Pending), Some(Approved), Some(Declined), Some(Withdrawn)];

/// `None` where it was applied, otherwise the reason to reject it.
type Outcome = Option<&'static str>;

/// One run: `steps[n]` was requested at `n * spacing_ms`, and is delivered for the first time
/// `delivered[n]` ms after all of them.
#[derive(Debug, Clone)]
struct Case {
    start: Option<ListingStatus>,
    steps: Vec<Step>,
    spacing_ms: i64,
    delivered: Vec<i64>,
    /// Whether every request is approved at once, or none is answered.
    answered: bool,
}

/// What product.md says of a case in which nothing goes wrong: the status, the command whose text
/// is shown, and the outcomes.
fn reference(case: &Case) -> (Option<ListingStatus>, Option<usize>, Vec<Outcome>) {
    const SHORT: &[i64] = &[2, 4, 8];
    const LONG: &[i64] = &[2, 4, 8, 16, 30, 30, 30];
    let (mut status, mut text) = (case.start, None);
    // Times of requests, in milliseconds after the first; the start was before it.
    let (mut newest_write, mut newest_request) = (-1, -1);
    let mut outcomes = vec![None; case.steps.len()];
    // Due time, command, and how often it has waited for which of the two.
    let mut due: Vec<_> = case.delivered.iter().enumerate().map(|(n, at)| (*at, n, 0, 0)).collect();
    while let Some(next) = due.iter().min().copied() {
        due.retain(|other| *other != next);
        let (at, n, of, tries) = next;
        let time = n as i64 * case.spacing_ms;
        let allowance = if case.steps[n] == Request { 2_000 } else { 0 };
        if time + allowance < newest_write {
            outcomes[n] = Some("superseded");
            continue;
        }
        let decision = match (status, case.steps[n]) {
            (Some(_), Write) if time < newest_request => Ok(Pending),
            (Some(Pending), Write | Request) => Err(("evaluation_in_progress", SHORT)),
            (_, Write) => {
                newest_request = -1;
                Ok(New)
            }
            (None, _) => Err(("listing_not_found", LONG)),
            (Some(_), Withdraw) => Ok(Withdrawn),
            (Some(New | Declined), Request) => Ok(Pending),
            (Some(Approved), Request) => Err(("already_approved", SHORT)),
            (Some(Withdrawn), Request) => Err(("withdrawn", SHORT)),
        };
        match decision {
            Ok(next) => {
                status = Some(if next == Pending && case.answered { Approved } else { next });
                match case.steps[n] {
                    Write => (newest_write, text) = (time, Some(n)),
                    Withdraw => newest_write = time,
                    Request => newest_request = newest_request.max(time),
                }
            }
            Err((reason, waits)) => {
                let tries = if of == waits.len() { tries } else { 0 };
                match waits.get(tries) {
                    Some(wait) => due.push((at + wait * 1_000, n, waits.len(), tries + 1)),
                    None => outcomes[n] = Some(reason),
                }
            }
        }
    }
    (status, text, outcomes)
}

/// What goes wrong in a run.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Each message comes twice, the second time after this many milliseconds.
    Twice(i64),
    /// The first call of this name fails, before or after its effect.
    Call(&'static str, bool),
    /// The nth invocation is killed, before or after its work.
    Killed(usize, bool),
}

fn id(n: usize) -> String {
    format!("c-{n}")
}

fn price(n: usize) -> u64 {
    1_000 + n as u64
}

fn begun() -> i64 {
    at(10).as_millis()
}

/// When the first message is delivered: after all requests.
fn delivered(case: &Case) -> i64 {
    begun() + case.steps.len() as i64 * case.spacing_ms + 100
}

fn record(n: usize, requested_ms: i64, step: Step) -> Value {
    let mut body = offer_json();
    body["listprice"] = json!(price(n));
    let mut record = match step {
        Write => message(&id(n), "POST", LISTINGS, &body.to_string()),
        Request => request_message(&id(n)),
        Withdraw => withdrawal_message(&id(n)),
    };
    record["messageAttributes"]["RequestTimeEpoch"]["stringValue"] = json!(requested_ms.to_string());
    record
}

/// Approves what is pending, as a quick workflow would.
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

async fn run(case: &Case, fault: Fault) -> (World, Vec<Outcome>) {
    let world = World::default();
    if let Some(status) = case.start {
        let before = Some(Timestamp::from_millis(begun() - 1).unwrap());
        let requested_at = before.filter(|_| !matches!(status, New | Withdrawn));
        world.put(Listing { last_write_at: before, approval_requested_at: requested_at, ..listing(status) });
    }
    if let Fault::Call(call, applied) = fault {
        world.plan(call, if applied { Failure::FailAfter } else { Failure::FailBefore });
    }
    let queue = SimulatedQueue::default();
    for (n, (step, at)) in case.steps.iter().zip(&case.delivered).enumerate() {
        let record = record(n, begun() + n as i64 * case.spacing_ms, *step);
        if let Fault::Twice(later) = fault {
            queue.put(record.clone(), delivered(case) + at + later);
        }
        queue.put(record, delivered(case) + at);
    }
    let invocation = Cell::new(0);
    let drained = queue
        .drain(async |batch, now| {
            invocation.set(invocation.get() + 1);
            let killed =
                |after| matches!(fault, Fault::Killed(n, late) if n == invocation.get() && late == after);
            if killed(false) {
                return Err(CallError::Unavailable("killed".into()));
            }
            let deadline = Deadline::after(Duration::from_secs(10));
            let response = handle(batch, now, deadline, &world, &world, &queue).await;
            if case.answered {
                approve(&world, now);
            }
            if killed(true) { Err(CallError::Unavailable("killed".into())) } else { response }
        })
        .await;
    assert_eq!(drained.dead, Vec::<String>::new(), "{case:?} {fault:?}");
    // All waits, one visibility timeout, and the copies.
    let took_ms = drained.ended_ms - delivered(case);
    assert!(took_ms < 120_000 + 60_000 + 90_000, "{case:?} {fault:?}: {took_ms} ms");
    let outcome = |n| match world.outcome(&id(n)) {
        (CommandStatus::Applied, None) => None,
        (CommandStatus::Rejected, Some(reason)) => Some(&*reason.leak()),
        other => panic!("command {n} has no outcome: {other:?} {case:?} {fault:?}"),
    };
    let outcomes = (0..case.steps.len()).map(outcome).collect();
    (world, outcomes)
}

/// Every sequence of up to `length` commands on every listing in every order of delivery, one
/// command every `gap_ms`, answered and not.
fn cases(length: usize, spacing_ms: i64, gap_ms: i64) -> Vec<Case> {
    let mut cases = Vec::new();
    for steps in (1..=length).flat_map(|length| sequences(&STEPS, length)) {
        for order in orders(steps.len()) {
            // Waits are whole seconds: the odd milliseconds keep two commands apart.
            let delivered: Vec<_> = order.iter().map(|place| *place as i64 * (gap_ms + 7)).collect();
            for (start, answered) in STARTS.into_iter().flat_map(|start| [(start, false), (start, true)]) {
                cases.push(Case {
                    start,
                    steps: steps.clone(),
                    spacing_ms,
                    delivered: delivered.clone(),
                    answered,
                });
            }
        }
    }
    cases
}

fn shown(world: &World) -> Option<usize> {
    let price = world.listing()?.offer.listprice();
    (0..10).find(|n| self::price(*n) == price)
}

/// What holds whatever goes wrong.
fn is_in_order(case: &Case, world: &World, outcomes: &[Outcome]) -> Result<(), String> {
    let is_applied = |n: &usize| outcomes[*n].is_none();
    let newest =
        |of: &[Step]| (0..case.steps.len()).filter(is_applied).filter(|n| of.contains(&case.steps[*n])).max();
    let write = newest(&[Write]);
    if shown(world) != write {
        return Err(format!("it shows the text of {:?}, and {write:?} is the newest", shown(world)));
    }
    let status = world.status();
    if let Some(last) = newest(&[Write, Withdraw])
        && (case.steps[last] == Withdraw) != (status == Some(Withdrawn))
    {
        return Err(format!("it is {status:?} after {last}"));
    }
    for (n, outcome) in outcomes.iter().enumerate() {
        let later = (n + 1..case.steps.len()).filter(is_applied).any(|later| case.steps[later] != Request);
        if *outcome == Some("superseded") && !later {
            return Err(format!("nothing supersedes command {n}"));
        }
    }
    let pending = world.listing().filter(|listing| listing.status == Pending);
    if let Some(listing) = pending.filter(|_| newest(&STEPS).is_some()) {
        let published = world.published.borrow();
        let is_asked = published.iter().any(|event| {
            event.approval_request_id == listing.approval_request_id
                && event.listprice == listing.offer.listprice()
        });
        if !is_asked && listing.approval_command.is_some() {
            return Err("nobody was asked to evaluate what is pending".into());
        }
    }
    Ok(())
}

fn length() -> usize {
    std::env::var("UNICORN_MODEL_LENGTH").map_or(3, |length| length.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_of_delivery_end_as_the_reference_says() {
    let mut tried = 0;
    for (spacing_ms, gap_ms) in [(1, 100), (3_000, 3_000), (1, 20_000)] {
        for case in cases(length(), spacing_ms, gap_ms) {
            let (world, outcomes) = run(&case, Fault::None).await;
            assert_eq!((world.status(), shown(&world), outcomes.clone()), reference(&case), "{case:?}");
            assert_eq!(is_in_order(&case, &world, &outcomes), Ok(()), "{case:?}");
            tried += 1;
        }
    }
    println!("web: {tried} orders of delivery, all as the reference says");
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_with_duplicates_and_faults_follow_the_order_of_the_requests() {
    let calls = ["find", "commit", "publish"];
    let calls = calls.into_iter().flat_map(|call| [false, true].map(|applied| Fault::Call(call, applied)));
    let kills = (1..=3).flat_map(|invocation| [false, true].map(|late| Fault::Killed(invocation, late)));
    let copies = [Fault::Twice(5_000), Fault::Twice(0), Fault::Twice(90_000)];
    let all: Vec<_> = copies.into_iter().chain(calls).chain(kills).collect();
    // Of three commands every fourth fault, unless more was asked for: seconds instead of a minute.
    let some: Vec<_> = all.iter().copied().step_by(if length() > 3 { 1 } else { 4 }).collect();
    let mut tried: BTreeMap<&str, u32> = BTreeMap::new();
    for case in cases(3, 1, 100) {
        for fault in if case.steps.len() < 3 { &all } else { &some } {
            let (world, outcomes) = run(&case, *fault).await;
            let context = format!("{case:?} {fault:?}: {outcomes:?}");
            assert_eq!(is_in_order(&case, &world, &outcomes), Ok(()), "{context}");
            // A request is for the text before it, whatever came first. Where a function was killed,
            // its command is back after a minute, which only those wait for that find no listing.
            let waits =
                !matches!(fault, Fault::Killed(..)) || matches!(case.start, None | Some(New | Declined));
            if case.steps == [Write, Request] && case.start != Some(Pending) && waits {
                let status = if case.answered { Approved } else { Pending };
                assert_eq!((world.status(), shown(&world)), (Some(status), Some(0)), "{context}");
                assert_eq!(outcomes, [None, None], "{context}");
            }
            let kind = match fault {
                Fault::None => unreachable!(),
                Fault::Twice(_) => "twice",
                Fault::Call(..) => "a failed call",
                Fault::Killed(..) => "a killed function",
            };
            *tried.entry(kind).or_default() += 1;
        }
    }
    println!("web: {tried:?} runs, all in the order of the requests");
}
