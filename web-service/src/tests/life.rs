//! Random commands and events of one property against a model of a few lines. Each goes through its
//! handler, fails at a random call, is delivered until it succeeds, and then once more.

use std::time::Duration;

use lambda_kit::batch::Deadline;
use lambda_kit::fixture::{Call, Fault, Redeliveries, batch, failed, message, received};
use proptest::prelude::*;
use serde_json::json;
use vocabulary::{EvaluationReason, ListingStatus};

use super::world::{LISTING, LISTINGS, REQUEST, World, at, offer, offer_json};
use crate::domain::approval_request_id;
use crate::handlers::{ingest, on_contract_ended, on_evaluation_completed};

#[derive(Debug, Clone)]
enum Step {
    Write,
    Request,
    Withdraw,
    /// The answer to the nth latest request, relying on a version of the contract.
    Evaluate {
        back: usize,
        approved: bool,
        version: u64,
    },
    End {
        version: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<(Step, Option<(&'static str, Fault)>)>> {
    let step = prop_oneof![
        2 => Just(Step::Write),
        4 => Just(Step::Request),
        1 => Just(Step::Withdraw),
        5 => (0usize..3, any::<bool>(), 1u64..8)
            .prop_map(|(back, approved, version)| Step::Evaluate { back, approved, version }),
        2 => (1u64..8).prop_map(|version| Step::End { version }),
    ];
    let call = prop::sample::select(vec!["find", "commit", "publish", "load", "store", "remember"]);
    prop::collection::vec((step, prop::option::of((call, prop::sample::select(Fault::BOTH.to_vec())))), 1..40)
}

/// A listing in as few members as possible.
#[derive(Debug, Default, PartialEq, Clone)]
struct Model {
    status: Option<ListingStatus>,
    /// Commands that asked, in their order; the last one is the pending one.
    requests: Vec<usize>,
    pending: Option<usize>,
    relied_on: u64,
    ended: u64,
    contract_ended: bool,
}

impl Model {
    fn apply(&mut self, index: usize, step: &Step) {
        use ListingStatus::{Approved, Declined, New, Pending, Withdrawn};
        let before = self.status;
        match (before, step) {
            (Some(Pending), Step::Write | Step::Request) => {}
            (_, Step::Write) => self.status = Some(New),
            (Some(New | Declined), Step::Request) => {
                self.status = Some(Pending);
                self.pending = Some(index);
                self.requests.push(index);
            }
            (Some(_), Step::Withdraw) => self.status = Some(Withdrawn),
            (None | Some(_), Step::Request | Step::Withdraw) => {}
            (_, Step::Evaluate { back, approved, version }) => {
                if before == Some(Pending) && self.pending == self.answered(*back) {
                    let too_late = *version <= self.ended;
                    self.status = Some(if *approved && !too_late { Approved } else { Declined });
                    self.contract_ended = *approved && too_late;
                    self.relied_on = *version;
                    return;
                }
            }
            (_, Step::End { version }) => {
                self.ended = self.ended.max(*version);
                if before == Some(Approved) && self.relied_on <= self.ended {
                    self.status = Some(Declined);
                    self.contract_ended = true;
                    return;
                }
            }
        }
        if self.status != before {
            self.contract_ended = false;
        }
    }

    fn answered(&self, back: usize) -> Option<usize> {
        self.requests.iter().rev().nth(back).copied()
    }
}

fn command_id(index: usize) -> String {
    format!("c-{index}")
}

/// One delivery of a step; whether it succeeded.
async fn deliver(world: &World, index: usize, step: &Step, model: &Model, receive: u32) -> bool {
    let property = offer().property_id();
    let event = |source: &str, name: &str, detail: serde_json::Value| {
        json!({
            "id": format!("e-{index}"), "source": source, "detail-type": name, "time": at(index as i64),
            "resources": [], "detail": detail,
        })
    };
    let (method, resource, body) = match step {
        Step::Write => ("POST", LISTINGS, offer_json()),
        Step::Request => ("POST", REQUEST, json!({"property_id": property})),
        Step::Withdraw => ("DELETE", LISTING, json!({"property_id": property})),
        Step::Evaluate { back, approved, version } => {
            let Some(request) = model.answered(*back) else { return true };
            let detail = json!({
                "property_id": property, "contract_version": version,
                "evaluation_result": if *approved { "APPROVED" } else { "DECLINED" },
                "approval_request_id": approval_request_id(&command_id(request).parse().unwrap()),
            });
            let event = event("unicorn-properties", "PublicationEvaluationCompleted", detail);
            return on_evaluation_completed::handle(event, at(1_000), world).await.is_ok();
        }
        Step::End { version } => {
            let detail = json!({
                "property_id": property, "contract_id": "k", "contract_status": "CLOSED",
                "contract_version": version, "contract_last_modified_on": at(*version as i64),
            });
            let event = event("unicorn-contracts", "ContractStatusChanged", detail);
            return on_contract_ended::handle(event, at(1_000), world).await.is_ok();
        }
    };
    let now = at(index as i64);
    let message = message(&command_id(index), method, resource, &body.to_string(), now);
    let batch = batch(&[received(message, receive)]);
    let deadline = Deadline::after(Duration::from_secs(10));
    let answer = ingest::handle(batch, now, deadline, world, world, &Redeliveries::default()).await;
    failed(answer.unwrap()).is_empty()
}

proptest! {
    #[test]
    fn any_life_of_a_listing_is_the_models(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let world = World::default();
        let mut model = Model::default();
        for (index, (step, fault)) in steps.iter().enumerate() {
            if let Some((call, fault)) = fault {
                world.calls.fail(Call::Next(call), *fault);
            }
            let before = model.clone();
            // A command that comes too early waits for seven receives; one more receive fails with the fault.
            let mut receive = 1;
            while !runtime.block_on(deliver(&world, index, step, &before, receive)) {
                receive += 1;
                prop_assert!(receive < 10, "it never succeeds");
            }
            world.calls.forget_plans();
            model.apply(index, step);
            prop_assert!(runtime.block_on(deliver(&world, index, step, &before, receive)), "a second copy");

            prop_assert_eq!(world.status(), model.status, "step {} {:?}", index, step);
            if let Some(listing) = world.listing() {
                let by_end = listing.evaluation_reasons.contains(&EvaluationReason::ContractEnded);
                prop_assert_eq!(by_end, model.contract_ended);
            }
            let asked: std::collections::BTreeSet<_> = world
                .published
                .borrow()
                .iter()
                .filter_map(|event| event.approval_request_id.as_ref().map(ToString::to_string))
                .collect();
            prop_assert_eq!(asked.len(), model.requests.len(), "every request is published");
        }
    }
}
