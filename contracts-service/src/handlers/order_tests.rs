//! The outcome follows the order of the requests: the real handler, over its fake and a simulated
//! queue, against a reference of a few lines that follows product.md, "Writes are buffered".
//!
//! Every sequence of up to three commands, from every kind of contract, is delivered in every
//! order. `UNICORN_MODEL_LENGTH=4` tries all sequences of four commands.

use std::collections::BTreeMap;
use std::time::Duration;

use lambda_kit::CallError;
use lambda_kit::batch::Deadline;
use lambda_kit::fixture::{SimulatedQueue, orders, sequences};
use lambda_kit::ledger::CommandStatus;
use serde_json::json;
use vocabulary::{ContractStatus, Timestamp};

use super::ingest::handle;
use super::ingest::tests::{Fake, NOW_MS, create_body, message};
use ContractStatus::{Approved, Cancelled, Closed, Draft};
use Step::{Create, Move};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Create,
    Move(ContractStatus),
}

const STEPS: [Step; 4] = [Create, Move(Approved), Move(Cancelled), Move(Closed)];

/// What was applied before, and how the contract stands then.
const STARTS: [(&[Step], Option<ContractStatus>); 4] = [
    (&[], None),
    (&[Create], Some(Draft)),
    (&[Create, Move(Approved)], Some(Approved)),
    (&[Create, Move(Cancelled)], Some(Cancelled)),
];

/// `None` where it was applied, otherwise the reason to reject it.
type Outcome = Option<&'static str>;

/// The status after `step`; `Err` the reason to wait, and the waits in seconds.
fn allowed(
    from: Option<ContractStatus>,
    step: Step,
) -> Result<ContractStatus, (&'static str, &'static [i64])> {
    const SHORT: &[i64] = &[2, 4, 8];
    const LONG: &[i64] = &[2, 4, 8, 16, 30, 30, 30];
    match (from, step) {
        (None | Some(Cancelled | Closed), Create) => Ok(Draft),
        (Some(_), Create) => Err(("contract_exists", SHORT)),
        (None, Move(_)) => Err(("contract_not_found", LONG)),
        (Some(Draft), Move(to @ (Approved | Cancelled))) => Ok(to),
        (Some(Approved), Move(to @ (Closed | Cancelled))) => Ok(to),
        (Some(_), Move(_)) => Err(("invalid_transition", SHORT)),
    }
}

/// One run: `steps[n]` was requested at the nth millisecond after the start, and is delivered for
/// the first time `delivered[n]` ms after all of them.
#[derive(Debug, Clone)]
struct Case {
    start: usize,
    steps: Vec<Step>,
    delivered: Vec<i64>,
}

/// What product.md says of a case in which nothing goes wrong.
fn reference(case: &Case) -> (Option<ContractStatus>, Vec<Outcome>) {
    let mut status = STARTS[case.start].1;
    let mut newest = 0;
    let mut outcomes = vec![None; case.steps.len()];
    // Due time, command, and how often it has waited for which of the two.
    let mut due: Vec<_> = case.delivered.iter().enumerate().map(|(n, at)| (*at, n, 0, 0)).collect();
    while let Some(next) = due.iter().min().copied() {
        due.retain(|other| *other != next);
        let (at, n, of, tries) = next;
        if n + 1 < newest {
            outcomes[n] = Some("superseded");
            continue;
        }
        match allowed(status, case.steps[n]) {
            Ok(next) => (status, newest) = (Some(next), n + 1),
            Err((reason, waits)) => {
                let tries = if of == waits.len() { tries } else { 0 };
                match waits.get(tries) {
                    Some(wait) => due.push((at + wait * 1_000, n, waits.len(), tries + 1)),
                    None => outcomes[n] = Some(reason),
                }
            }
        }
    }
    (status, outcomes)
}

/// What goes wrong in a run.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Each message comes twice, the second time after this many milliseconds.
    Twice(i64),
    /// The nth call fails, before or after its effect.
    Call(u32, bool),
    /// The nth invocation is killed, before or after its work.
    Killed(usize, bool),
}

fn id(n: usize) -> String {
    format!("c-{n}")
}

fn record(n: usize, requested_ms: i64, step: Step) -> serde_json::Value {
    let (method, body) = match step {
        Create => ("POST", create_body()),
        Move(status) => ("PUT", json!({"property_id": "usa/anytown/main-street/111", "status": status})),
    };
    let mut record = message(&id(n), method, &body);
    record["messageAttributes"]["RequestTimeEpoch"]["stringValue"] = json!(requested_ms.to_string());
    record
}

/// When the first command of a case was requested; those of its start were requested before.
const BEGUN_MS: i64 = NOW_MS + 1_000;

/// When the first message is delivered: after all requests.
const DELIVERED_MS: i64 = BEGUN_MS + 100;

async fn run(case: &Case, fault: Fault) -> (Option<ContractStatus>, Vec<Outcome>, i64) {
    let fake = Fake::default();
    let deliver = async |queue: &SimulatedQueue, fault: Fault| {
        let invocation = std::cell::Cell::new(0);
        let drained = queue
            .drain(async |batch, now| {
                invocation.set(invocation.get() + 1);
                let killed =
                    |after| matches!(fault, Fault::Killed(n, late) if n == invocation.get() && late == after);
                if killed(false) {
                    return Err(CallError::Unavailable("killed".into()));
                }
                let deadline = Deadline::after(Duration::from_secs(10));
                let response = handle(batch, now, deadline, &fake, queue).await;
                if killed(true) { Err(CallError::Unavailable("killed".into())) } else { response }
            })
            .await;
        assert_eq!(drained.dead, Vec::<String>::new(), "{case:?} {fault:?}");
        drained.ended_ms
    };
    for (n, step) in STARTS[case.start].0.iter().enumerate() {
        let queue = SimulatedQueue::default();
        queue.put(record(100 + n, NOW_MS + n as i64, *step), NOW_MS + n as i64);
        deliver(&queue, Fault::None).await;
    }
    if let Fault::Call(call, applied) = fault {
        fake.calls.set(0);
        fake.fault.set(Some((call, applied)));
    }
    let queue = SimulatedQueue::default();
    for (n, (step, at)) in case.steps.iter().zip(&case.delivered).enumerate() {
        let record = record(n, BEGUN_MS + n as i64, *step);
        if let Fault::Twice(later) = fault {
            queue.put(record.clone(), DELIVERED_MS + at + later);
        }
        queue.put(record, DELIVERED_MS + at);
    }
    let ended_ms = deliver(&queue, fault).await;
    let outcome = |n| match fake.record(&id(n)) {
        (CommandStatus::Applied, None) => None,
        (CommandStatus::Rejected, Some(reason)) => Some(&*reason.leak()),
        other => panic!("command {n} has no outcome: {other:?} {case:?} {fault:?}"),
    };
    let outcomes = (0..case.steps.len()).map(outcome).collect();
    (fake.contract().map(|contract| contract.contract_status), outcomes, ended_ms - DELIVERED_MS)
}

/// Every sequence of up to `length` commands from every start in every order of delivery, one
/// command every `gap_ms`.
fn cases(length: usize, gap_ms: i64) -> Vec<Case> {
    let mut cases = Vec::new();
    for length in 1..=length {
        for (start, steps) in (0..STARTS.len())
            .flat_map(|start| sequences(&STEPS, length).into_iter().map(move |steps| (start, steps)))
        {
            for order in orders(length) {
                // Waits are whole seconds: the odd milliseconds keep two commands apart.
                let delivered = order.iter().map(|place| *place as i64 * (gap_ms + 7)).collect();
                cases.push(Case { start, steps: steps.clone(), delivered });
            }
        }
    }
    cases
}

/// What holds whatever goes wrong: the applied commands, in the order of their requests, are a life
/// of the contract that ends as it stands, and only a later one that was applied supersedes.
fn is_in_order(case: &Case, status: Option<ContractStatus>, outcomes: &[Outcome]) -> Result<(), String> {
    let mut expected = STARTS[case.start].1;
    for (step, _) in case.steps.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_none()) {
        expected =
            Some(allowed(expected, *step).map_err(|(reason, _)| format!("{step:?} was applied: {reason}"))?);
    }
    if expected != status {
        return Err(format!("it stands at {status:?}, and the applied commands lead to {expected:?}"));
    }
    for (n, outcome) in outcomes.iter().enumerate() {
        if *outcome == Some("superseded") && !outcomes[n + 1..].contains(&None) {
            return Err(format!("nothing supersedes command {n}"));
        }
    }
    Ok(())
}

/// Whether each command is possible only after the one before it: then nothing else than applying
/// all of them is right.
fn is_a_chain(case: &Case) -> bool {
    let mut before = vec![STARTS[case.start].1];
    for step in &case.steps {
        let (last, earlier) = before.split_last().unwrap();
        let Ok(next) = allowed(*last, *step) else { return false };
        if earlier.iter().any(|status| allowed(*status, *step).is_ok()) {
            return false;
        }
        before.push(Some(next));
    }
    true
}

fn length() -> usize {
    std::env::var("UNICORN_MODEL_LENGTH").map_or(3, |length| length.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_of_delivery_end_as_the_reference_says() {
    let mut tried = 0;
    for gap_ms in [100, 3_000, 20_000] {
        for case in cases(length(), gap_ms) {
            let (status, outcomes, _) = run(&case, Fault::None).await;
            assert_eq!((status, outcomes.clone()), reference(&case), "{case:?}");
            assert_eq!(is_in_order(&case, status, &outcomes), Ok(()), "{case:?}");
            tried += 1;
        }
    }
    println!("contracts: {tried} orders of delivery, all as the reference says");
}

#[tokio::test(start_paused = true)]
async fn commands_in_one_batch_run_in_the_order_of_their_requests() {
    for mut case in cases(length(), 0) {
        case.delivered.fill(0);
        let (status, outcomes, _) = run(&case, Fault::None).await;
        // As if each had come right after the one before.
        let in_order = Case { delivered: (0..case.steps.len() as i64).collect(), ..case.clone() };
        assert_eq!((status, outcomes), reference(&in_order), "{case:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_with_duplicates_and_faults_follow_the_order_of_the_requests() {
    let calls = (1..=6).flat_map(|call| [false, true].map(|applied| Fault::Call(call, applied)));
    let kills = (1..=3).flat_map(|invocation| [false, true].map(|late| Fault::Killed(invocation, late)));
    let copies = [Fault::Twice(5_000), Fault::Twice(0), Fault::Twice(90_000)];
    let all: Vec<_> = copies.into_iter().chain(calls).chain(kills).collect();
    // Of three commands every fourth fault, unless more was asked for: seconds instead of a minute.
    let some: Vec<_> = all.iter().copied().step_by(if length() > 3 { 1 } else { 4 }).collect();
    let mut tried: BTreeMap<&str, u32> = BTreeMap::new();
    for case in cases(3, 100) {
        for fault in if case.steps.len() < 3 { &all } else { &some } {
            let (status, outcomes, took_ms) = run(&case, *fault).await;
            let context = format!("{case:?} {fault:?}: {outcomes:?}");
            assert_eq!(is_in_order(&case, status, &outcomes), Ok(()), "{context}");
            // All waits, one visibility timeout, and the copies.
            assert!(took_ms < 120_000 + 60_000 + 90_000, "{context}: {took_ms} ms");
            // A command whose function was killed comes back after a minute, which only those wait
            // for that have no contract at all.
            let is_short =
                matches!(fault, Fault::Killed(..)) && case.steps.len() > 2 - usize::from(case.start > 0);
            if is_a_chain(&case) && !is_short {
                assert!(outcomes.iter().all(Option::is_none), "{context}");
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
    println!("contracts: {tried:?} runs, all in the order of the requests");
}

/// A command whose function was killed comes back after a minute.
#[tokio::test(start_paused = true)]
async fn an_approval_waits_for_a_create_whose_function_was_killed() {
    for delivered in [[0, 7], [7, 0]] {
        let fake = Fake::default();
        let queue = SimulatedQueue::default();
        for (n, step) in [Create, Move(Approved)].into_iter().enumerate() {
            queue.put(record(n, BEGUN_MS + n as i64, step), DELIVERED_MS + delivered[n]);
        }
        let killed = std::cell::Cell::new(false);
        queue
            .drain(async |batch, now: Timestamp| {
                if batch.records[0].message_id.as_deref() == Some("c-0") && !killed.replace(true) {
                    return Err(CallError::Unavailable("killed".into()));
                }
                handle(batch, now, Deadline::after(Duration::from_secs(10)), &fake, &queue).await
            })
            .await;
        assert_eq!(fake.record("c-1"), (CommandStatus::Applied, None), "{delivered:?}");
    }
}

/// Both met an outage of a quarter of an hour, and the approval came back first.
#[tokio::test(start_paused = true)]
async fn an_outage_of_15_minutes_dead_letters_nothing_and_keeps_the_order() {
    // It begins at once, and after the first waits.
    for begins_s in [0, 1, 10] {
        outage(DELIVERED_MS + begins_s * 1_000).await;
    }
}

async fn outage(begins_ms: i64) {
    let (fake, queue) = (Fake::default(), SimulatedQueue::default());
    let steps = [Create, Move(Approved), Move(Closed)];
    for (n, step) in steps.iter().enumerate() {
        // The create comes with the outage, and the others before it.
        let due = if n == 0 { begins_ms + 7 } else { DELIVERED_MS + 7 * (3 - n as i64) };
        queue.put(record(n, BEGUN_MS + n as i64, *step), due);
    }
    let begun = Timestamp::from_millis(begins_ms).unwrap();
    let over = Timestamp::from_millis(begins_ms + 15 * 60 * 1_000).unwrap();
    let drained = queue
        .drain(async |batch, now: Timestamp| {
            let deadline = Deadline::after(Duration::from_secs(10));
            if (begun..over).contains(&now) {
                // Every call of this invocation fails.
                let down = Fake::default();
                down.fault.set(Some((1, false)));
                return handle(batch, now, deadline, &down, &queue).await;
            }
            handle(batch, now, deadline, &fake, &queue).await
        })
        .await;
    assert_eq!(drained.dead, Vec::<String>::new());
    for n in 0..3 {
        assert_eq!(fake.record(&id(n)), (CommandStatus::Applied, None), "{n}, begun at {begins_ms}");
    }
}
