//! The ports of this service in memory: tables, executions and bus in one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use events::{ContractStatusChanged, PublicationEvaluationCompleted};
use lambda_kit::CallError;
use lambda_kit::fixture::Calls;
use vocabulary::PropertyId;

use crate::domain::{Answer, Request, SettledClaim, TaskToken, Waiting, Wake};
use crate::ports::{Answers, Claims, ContractStatuses, Executions, Kept, WaitingRoom, Woken};

#[derive(Debug, Clone)]
struct Claim {
    execution_arn: String,
    answer: Option<Answer>,
    answered: bool,
}

/// Tables, executions and bus in one.
#[derive(Default)]
pub struct World {
    contracts: RefCell<BTreeMap<PropertyId, ContractStatusChanged>>,
    waiting: RefCell<Vec<Waiting>>,
    /// Tokens that no execution waits with any more.
    dead: RefCell<BTreeSet<String>>,
    /// Tokens whose answer always fails.
    pub refused: RefCell<BTreeSet<String>>,
    /// Every execution that was woken, with its answer.
    pub woken: RefCell<Vec<(String, Wake)>>,
    /// What executions were started with, by ARN.
    pub inputs: RefCell<BTreeMap<String, String>>,
    /// Whether a row of the waiting room cannot be read.
    pub has_broken_row: Cell<bool>,
    claims: RefCell<BTreeMap<String, Claim>>,
    /// Every answer that reached the bus.
    pub published: RefCell<Vec<PublicationEvaluationCompleted>>,
    pub calls: Calls<Self>,
}

impl World {
    pub fn kill(&self, token: &str) {
        self.dead.borrow_mut().insert(token.to_owned());
    }

    pub fn contract_is(&self, contract: ContractStatusChanged) {
        self.contracts.borrow_mut().insert(contract.property_id.clone(), contract);
    }

    pub fn tokens(&self) -> Vec<String> {
        self.waiting.borrow().iter().map(|waiting| waiting.task_token.reveal().to_owned()).collect()
    }

    pub fn seat(&self, waiting: Waiting) {
        self.waiting.borrow_mut().push(waiting);
    }

    pub fn claim(&self, id: &str, execution_arn: &str, answer: Option<Answer>, answered: bool) {
        let claim = Claim { execution_arn: execution_arn.to_owned(), answer, answered };
        self.claims.borrow_mut().insert(id.to_owned(), claim);
    }

    pub fn is_answered(&self, id: &str) -> bool {
        self.claims.borrow().get(id).is_some_and(|claim| claim.answered)
    }

    fn call<T>(&self, name: &'static str, effect: impl FnOnce() -> T) -> Result<T, CallError> {
        self.calls.call(self, name, effect)
    }
}

impl ContractStatuses for World {
    async fn keep(&self, news: &ContractStatusChanged) -> Result<Kept, CallError> {
        self.call("keep", || {
            let mut contracts = self.contracts.borrow_mut();
            match contracts.get(&news.property_id) {
                Some(known) if !news.is_newer_than(known) => Kept::Outdated,
                _ => {
                    contracts.insert(news.property_id.clone(), news.clone());
                    Kept::Newest
                }
            }
        })
    }

    async fn current(&self, property_id: &PropertyId) -> Result<Option<ContractStatusChanged>, CallError> {
        self.call("current", || self.contracts.borrow().get(property_id).cloned())
    }
}

impl WaitingRoom for World {
    async fn enter(&self, waiting: &Waiting) -> Result<(), CallError> {
        self.call("enter", || {
            let mut room = self.waiting.borrow_mut();
            room.retain(|other| other.task_token != waiting.task_token);
            room.push(waiting.clone());
        })
    }

    async fn of(&self, property_id: &PropertyId) -> Result<Vec<Result<Waiting, CallError>>, CallError> {
        self.call("of", || {
            let broken = self.has_broken_row.get().then(|| Err(CallError::Corrupt("a broken row".into())));
            let waiting = self.waiting.borrow();
            let here = waiting.iter().filter(|waiting| waiting.property_id == *property_id);
            broken.into_iter().chain(here.cloned().map(Ok)).collect()
        })
    }

    async fn leave(&self, waiting: &Waiting) -> Result<(), CallError> {
        self.call("leave", || {
            self.waiting.borrow_mut().retain(|other| other.task_token != waiting.task_token)
        })
    }
}

impl Executions for World {
    async fn wake(&self, token: &TaskToken, with: &Wake) -> Result<Woken, CallError> {
        if self.refused.borrow().contains(token.reveal()) {
            return Err(CallError::Unavailable("Step Functions throttles".into()));
        }
        self.call("wake", || {
            if self.dead.borrow_mut().insert(token.reveal().to_owned()) {
                self.woken.borrow_mut().push((token.reveal().to_owned(), with.clone()));
                Woken::Now
            } else {
                Woken::DeadAlready
            }
        })
    }

    async fn input(&self, execution_arn: &str) -> Result<Option<String>, CallError> {
        self.call("input", || self.inputs.borrow().get(execution_arn).cloned())
    }
}

impl Claims for World {
    async fn settle(
        &self,
        request: &Request,
        execution_arn: &str,
        answer: &Answer,
    ) -> Result<Option<SettledClaim>, CallError> {
        self.call("settle", || {
            let mut claims = self.claims.borrow_mut();
            let claim = claims.entry(request.id.to_string()).or_insert_with(|| Claim {
                execution_arn: execution_arn.to_owned(),
                answer: None,
                answered: false,
            });
            (claim.execution_arn == execution_arn).then(|| SettledClaim {
                answer: claim.answer.get_or_insert_with(|| answer.clone()).clone(),
                answered: claim.answered,
            })
        })
    }

    async fn mark_answered(&self, request: &Request) -> Result<(), CallError> {
        self.call("mark_answered", || {
            if let Some(claim) = self.claims.borrow_mut().get_mut(request.id.as_str()) {
                claim.answered = true;
            }
        })
    }
}

impl Answers for World {
    async fn publish(&self, answer: &PublicationEvaluationCompleted) -> Result<(), CallError> {
        self.call("publish", || self.published.borrow_mut().push(answer.clone()))
    }
}
