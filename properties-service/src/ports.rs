//! What the handlers need from the outside. Every method is one call, so a test can fail, repeat or
//! interleave any two of them.

use events::{ContractStatusChanged, PublicationEvaluationCompleted};
use lambda_kit::CallError;
use vocabulary::PropertyId;

use crate::domain::{Answer, Request, SettledClaim, TaskToken, Waiting, Wake};

/// What `keep` did with an event about a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The event is now the last known state.
    Newest,
    /// The same or a newer state was known.
    Outdated,
}

/// The last known state of every property's contract.
pub trait ContractStatuses {
    /// Stores `news` if it is newer than the known state, in one atomic step.
    fn keep(&self, news: &ContractStatusChanged) -> impl Future<Output = Result<Kept, CallError>>;

    /// The last known state (a consistent read); `None` if there was no event.
    fn current(
        &self,
        property_id: &PropertyId,
    ) -> impl Future<Output = Result<Option<ContractStatusChanged>, CallError>>;
}

/// The executions that wait for a contract.
pub trait WaitingRoom {
    /// Adds one. To add it again changes nothing.
    fn enter(&self, waiting: &Waiting) -> impl Future<Output = Result<(), CallError>>;

    /// All executions that wait for the contract of a property (a consistent read). A row that cannot be
    /// read is an error of its own, so that the others are still woken.
    fn of(
        &self,
        property_id: &PropertyId,
    ) -> impl Future<Output = Result<Vec<Result<Waiting, CallError>>, CallError>>;

    /// Removes one. It may have been removed before.
    fn leave(&self, waiting: &Waiting) -> impl Future<Output = Result<(), CallError>>;
}

/// What happened to an answer to a waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The execution continues.
    Now,
    /// No task waits with this token any more: it was answered, timed out or ended.
    DeadAlready,
}

/// The executions of the workflow.
pub trait Executions {
    /// Answers the task that waits with `token`.
    fn wake(&self, token: &TaskToken, with: &Wake) -> impl Future<Output = Result<Woken, CallError>>;

    /// The input of an execution, as text; `None` if Step Functions does not know the execution: it deletes
    /// one 90 days after its end.
    fn input(&self, execution_arn: &str) -> impl Future<Output = Result<Option<String>, CallError>>;
}

/// The claims on requests for approval.
pub trait Claims {
    /// Stores `answer` in the claim of `execution_arn` on `request`, unless the claim has an answer: that
    /// one stays. Returns the claim, or `None` if another execution has it.
    fn settle(
        &self,
        request: &Request,
        execution_arn: &str,
        answer: &Answer,
    ) -> impl Future<Output = Result<Option<SettledClaim>, CallError>>;

    /// Marks the claim's answer as published.
    fn mark_answered(&self, request: &Request) -> impl Future<Output = Result<(), CallError>>;
}

/// The bus for answers.
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
