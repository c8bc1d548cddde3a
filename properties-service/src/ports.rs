//! What the handlers need of the world, in verbs of the domain. Every method is one call,
//! so that a test can fail, repeat or interleave between any two of them.

use events::{ContractStatusChanged, PublicationEvaluationCompleted};
use lambda_kit::CallError;
use vocabulary::PropertyId;

use crate::domain::{Answer, Request, SettledClaim, TaskToken, Waiting, Wake};

/// What became of news about a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is the last known state now.
    Newest,
    /// The same or something newer was known.
    Outdated,
}

/// The last known state of every property's contract.
pub trait ContractStatuses {
    /// Keeps `news`, unless it is not newer than what is known; atomically.
    fn keep(&self, news: &ContractStatusChanged) -> impl Future<Output = Result<Kept, CallError>>;

    /// The last known state, never a stale one; `None` where nothing was ever told.
    fn current(
        &self,
        property_id: &PropertyId,
    ) -> impl Future<Output = Result<Option<ContractStatusChanged>, CallError>>;
}

/// Who waits for which contract.
pub trait WaitingRoom {
    /// Adds one; adding it again changes nothing.
    fn enter(&self, waiting: &Waiting) -> impl Future<Output = Result<(), CallError>>;

    /// All that wait for the contract of a property, those who just entered included. A row that
    /// cannot be read is an error of its own: nobody else has to wait for it.
    fn of(
        &self,
        property_id: &PropertyId,
    ) -> impl Future<Output = Result<Vec<Result<Waiting, CallError>>, CallError>>;

    /// Removes one; it may be gone already.
    fn leave(&self, waiting: &Waiting) -> impl Future<Output = Result<(), CallError>>;
}

/// What became of an answer to a waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The execution goes on.
    Now,
    /// Nobody waits with this token any more: answered before, timed out, or ended.
    DeadAlready,
}

/// The executions of the workflow.
pub trait Executions {
    /// Answers the task that waits with `token`.
    fn wake(&self, token: &TaskToken, with: &Wake) -> impl Future<Output = Result<Woken, CallError>>;

    /// The input that an execution was started with, as text; `None` where Step Functions does not
    /// know the execution: it forgets one 90 days after its end.
    fn input(&self, execution_arn: &str) -> impl Future<Output = Result<Option<String>, CallError>>;
}

/// The claims on requests for approval.
pub trait Claims {
    /// Settles the claim of `execution_arn` on `request`: it holds `answer` from now on,
    /// unless it held one before, which stays. `None` where another execution has the claim.
    fn settle(
        &self,
        request: &Request,
        execution_arn: &str,
        answer: &Answer,
    ) -> impl Future<Output = Result<Option<SettledClaim>, CallError>>;

    /// Marks the claim's answer as published.
    fn mark_answered(&self, request: &Request) -> impl Future<Output = Result<(), CallError>>;
}

/// Where answers are published.
pub trait Answers {
    /// Publishes one.
    fn publish(&self, answer: &PublicationEvaluationCompleted)
    -> impl Future<Output = Result<(), CallError>>;
}

impl Answers for lambda_kit::publish::Bus {
    async fn publish(&self, answer: &PublicationEvaluationCompleted) -> Result<(), CallError> {
        lambda_kit::publish::Bus::publish(self, answer, answer.property_id.as_str()).await
    }
}
