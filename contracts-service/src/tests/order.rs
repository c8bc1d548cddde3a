//! The outcome follows the order of the requests: the real handler against a reference of a few lines
//! that follows the README, "How long a command takes until it is rejected".
//!
//! Every sequence of up to three commands, from every kind of contract, is delivered in every
//! order. `UNICORN_MODEL_LENGTH=4` tries all sequences of four commands.

use std::time::Duration;

use ContractStatus::{Approved, Cancelled, Closed, Draft};
use Step::{Create, Move};
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_kit::CallError;
use lambda_kit::batch::Deadline;
use lambda_kit::fixture::order::{
    self, Case, Mishap, Outcome, Refusal, Subject, begun, id, max_length, with_mishaps,
};
use lambda_kit::fixture::{Call, Fault, MemoryLedger, SimulatedQueue, batch, requested};
use lambda_kit::ledger::CommandStatus;
use serde_json::{Value, json};
use vocabulary::{ContractStatus, Timestamp};

use super::world::{World, create_body, message};
use crate::handlers::ingest::handle;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Create,
    Move(ContractStatus),
}

const STEPS: [Step; 4] = [Create, Move(Approved), Move(Cancelled), Move(Closed)];

/// The commands that were applied before, and the status of the contract after them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start(&'static [Step], Option<ContractStatus>);

const STARTS: [Start; 4] = [
    Start(&[], None),
    Start(&[Create], Some(Draft)),
    Start(&[Create, Move(Approved)], Some(Approved)),
    Start(&[Create, Move(Cancelled)], Some(Cancelled)),
];

async fn deliver<Q: lambda_kit::batch::Redelivery>(
    world: &World,
    batch: SqsEvent,
    now: Timestamp,
    queue: &Q,
) -> Result<SqsBatchResponse, CallError> {
    handle(batch, now, Deadline::after(Duration::from_secs(10)), world, queue).await
}

impl Subject for World {
    type Start = Start;
    type Step = Step;

    async fn new(start: Start, begun: Timestamp) -> Self {
        let world = Self::default();
        for (n, step) in start.0.iter().enumerate() {
            let requested_at = begun.plus_millis(n as i64 - 1_000);
            let message = Self::message(100 + n, *step, requested_at);
            let queue = SimulatedQueue::default();
            deliver(&world, batch(&[message]), requested_at, &queue).await.unwrap();
        }
        assert_eq!(world.contract().map(|contract| contract.contract_status), start.1);
        world
    }

    fn message(n: usize, step: Step, requested_at: Timestamp) -> Value {
        let (method, body) = match step {
            Create => ("POST", create_body()),
            Move(status) => ("PUT", json!({"property_id": "usa/anytown/main-street/111", "status": status})),
        };
        requested(message(&id(n), method, &body), requested_at)
    }

    fn fail(&self, call: Call, fault: Fault) {
        self.calls.fail(call, fault);
    }

    async fn handle(
        &self,
        batch: SqsEvent,
        now: Timestamp,
        queue: &SimulatedQueue,
    ) -> Result<SqsBatchResponse, CallError> {
        deliver(self, batch, now, queue).await
    }

    fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }
}

/// The status after `step`.
fn next(from: Option<ContractStatus>, step: Step) -> Result<ContractStatus, Refusal> {
    match (from, step) {
        (None | Some(Cancelled | Closed), Create) => Ok(Draft),
        (Some(_), Create) => Err(Refusal::by_state("contract_exists")),
        (None, Move(_)) => Err(Refusal::without_predecessor("contract_not_found")),
        (Some(Draft), Move(to @ (Approved | Cancelled))) => Ok(to),
        (Some(Approved), Move(to @ (Closed | Cancelled))) => Ok(to),
        (Some(_), Move(_)) => Err(Refusal::by_state("invalid_transition")),
    }
}

/// The outcome of a case in which nothing goes wrong.
fn reference(case: &Case<Start, Step>) -> (Option<ContractStatus>, Vec<Outcome>) {
    let mut status = case.start.1;
    let mut newest = 0;
    let outcomes = case.reference(|n| {
        if n + 1 < newest {
            return Err(Refusal::now("superseded"));
        }
        (status, newest) = (Some(next(status, case.steps[n])?), n + 1);
        Ok(())
    });
    (status, outcomes)
}

async fn run(case: &Case<Start, Step>) -> (World, Vec<Outcome>) {
    let run = case.run(Mishap::None).await.unwrap();
    (run.world, run.outcomes)
}

fn status(world: &World) -> Option<ContractStatus> {
    world.contract().map(|contract| contract.contract_status)
}

fn cases(length: usize, gap_ms: i64) -> Vec<Case<Start, Step>> {
    order::cases::<World>(&STARTS, &STEPS, length, 1, gap_ms)
}

/// What must hold in every run: the applied commands, in the order of their requests, lead to the
/// contract's status, and only a later command that was applied supersedes another.
fn is_in_order(case: &Case<Start, Step>, world: &World, outcomes: &[Outcome]) -> Result<(), String> {
    let mut expected = case.start.1;
    for (step, _) in case.steps.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_none()) {
        let after = next(expected, *step);
        expected = Some(after.map_err(|refusal| format!("{step:?} was applied: {}", refusal.reason))?);
    }
    if expected != status(world) {
        let status = status(world);
        return Err(format!("it stands at {status:?}, and the applied commands lead to {expected:?}"));
    }
    for (n, outcome) in outcomes.iter().enumerate() {
        if outcome.as_deref() == Some("superseded") && !outcomes[n + 1..].contains(&None) {
            return Err(format!("nothing supersedes command {n}"));
        }
    }
    Ok(())
}

/// Whether each command is possible only after the one before it. All of them must be applied then.
fn is_a_chain(case: &Case<Start, Step>) -> bool {
    let mut before = vec![case.start.1];
    for step in &case.steps {
        let (last, earlier) = before.split_last().unwrap();
        let Ok(after) = next(*last, *step) else { return false };
        if earlier.iter().any(|status| next(*status, *step).is_ok()) {
            return false;
        }
        before.push(Some(after));
    }
    true
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_of_delivery_end_as_the_reference_says() {
    let mut tried = 0;
    for gap_ms in [100, 3_000, 20_000] {
        for case in cases(max_length(), gap_ms) {
            let (world, outcomes) = run(&case).await;
            assert_eq!((status(&world), outcomes.clone()), reference(&case), "{case:?}");
            assert_eq!(is_in_order(&case, &world, &outcomes), Ok(()), "{case:?}");
            tried += 1;
        }
    }
    println!("contracts: {tried} orders of delivery, all as the reference says");
}

#[tokio::test(start_paused = true)]
async fn commands_in_one_batch_run_in_the_order_of_their_requests() {
    for mut case in cases(max_length(), 0) {
        case.delivered.fill(0);
        let (world, outcomes) = run(&case).await;
        // As if each had come right after the one before.
        let in_order = Case { delivered: (0..case.steps.len() as i64).collect(), ..case.clone() };
        assert_eq!((status(&world), outcomes), reference(&in_order), "{case:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn commands_in_every_order_with_duplicates_and_faults_follow_the_order_of_the_requests() {
    let calls: Vec<_> = (0..6).map(Call::Nth).collect();
    let cases = cases(3, 100);
    let runs = with_mishaps::<World>(&cases, &calls, |case, mishap, run| {
        is_in_order(case, &run.world, &run.outcomes)?;
        // A command whose function was killed comes back after a minute, which only those wait
        // for that have no contract at all.
        let has_contract = case.start.1.is_some();
        let is_short =
            matches!(mishap, Mishap::Killed(..)) && case.steps.len() > 2 - usize::from(has_contract);
        if is_a_chain(case) && !is_short && !run.outcomes.iter().all(Option::is_none) {
            return Err("each command is possible after the one before it, and not all are applied".into());
        }
        Ok(())
    });
    println!("contracts: {:?} runs, all in the order of the requests", runs.await.unwrap());
}

/// A command whose function was killed comes back after a minute.
#[tokio::test(start_paused = true)]
async fn an_approval_waits_for_a_create_whose_function_was_killed() {
    for delivered in [[0, 7], [7, 0]] {
        let world = World::default();
        let queue = SimulatedQueue::default();
        for (n, step) in [Create, Move(Approved)].into_iter().enumerate() {
            let requested_at = begun().plus_millis(n as i64);
            queue.put(World::message(n, step, requested_at), begun().as_millis() + 100 + delivered[n]);
        }
        let killed = std::cell::Cell::new(false);
        queue
            .drain(async |batch, now: Timestamp| {
                if batch.records[0].message_id.as_deref() == Some("c-0") && !killed.replace(true) {
                    return Err(CallError::Unavailable("killed".into()));
                }
                deliver(&world, batch, now, &queue).await
            })
            .await;
        assert_eq!(world.ledger.outcome("c-1"), Some((CommandStatus::Applied, None)), "{delivered:?}");
    }
}

/// Both met an outage of a quarter of an hour, and the approval came back first.
#[tokio::test(start_paused = true)]
async fn an_outage_of_15_minutes_dead_letters_nothing_and_keeps_the_order() {
    // It begins at once, and after the first waits.
    for begins_s in [0, 1, 10] {
        outage(begun().plus_millis(100 + begins_s * 1_000)).await;
    }
}

async fn outage(begins: Timestamp) {
    let (world, queue) = (World::default(), SimulatedQueue::default());
    let steps = [Create, Move(Approved), Move(Closed)];
    for (n, step) in steps.iter().enumerate() {
        // The create comes with the outage, and the others before it.
        let due = if n == 0 { begins.plus_millis(7) } else { begun().plus_millis(100 + 7 * (3 - n as i64)) };
        queue.put(World::message(n, *step, begun().plus_millis(n as i64)), due.as_millis());
    }
    let over = begins.plus_millis(15 * 60 * 1_000);
    let drained = queue
        .drain(async |batch, now: Timestamp| {
            if (begins..over).contains(&now) {
                // Every call of this invocation fails.
                let down = World::default();
                down.calls.fail(Call::Nth(0), Fault::Before);
                return deliver(&down, batch, now, &queue).await;
            }
            deliver(&world, batch, now, &queue).await
        })
        .await;
    assert_eq!(drained.dead, Vec::<String>::new());
    for n in 0..3 {
        let outcome = world.ledger.outcome(&id(n));
        assert_eq!(outcome, Some((CommandStatus::Applied, None)), "{n}, begun at {begins}");
    }
}
