//! Threads within a thread: the branches of a Parallel and the iterations of a Map.

use serde_json::{Value, json};

use super::{Flow, Machine, Step, Stimulus};
use crate::stepfunctions::asl::{Kind, MapState, State, Workflow};
use crate::stepfunctions::tree::{Branches, Doing, Failure, Slot, Thread};

impl Machine<'_> {
    pub(super) fn start_map(
        &mut self,
        thread: &mut Thread,
        state: &State,
        map: &MapState,
    ) -> Result<Step, Failure> {
        let query = self.query(thread, None, None, None);
        let items = match &map.items {
            Some(template) => self.rendered(thread, query.render(template, "Items"))?,
            None => thread.input.clone(),
        };
        let Value::Array(items) = items else {
            return Err(self.not_a(thread, "Items", "an array", &items));
        };
        let concurrency = self.whole_number(thread, map.max_concurrency.as_ref(), "MaxConcurrency", 0)?;
        let mut slots = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let context = json!({"Item": {"Index": index, "Value": item}});
            let input = match &map.selector {
                Some(template) => {
                    let outer = thread.map_item.replace(context.clone());
                    let query = self.query(thread, None, None, None);
                    thread.map_item = outer;
                    self.rendered(thread, query.render(template, "ItemSelector"))?
                }
                None => item,
            };
            slots.push(Slot::Waiting(input, Some(context)));
        }
        self.event(thread, "MapStateStarted", json!({"length": slots.len()}));
        let limit = match concurrency {
            // An inline Map without a limit of its own runs up to 40 iterations at a time.
            // https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html
            None | Some(0) => 40,
            Some(limit) => limit as usize,
        };
        thread.doing = Doing::Branches(Branches { slots, limit });
        Ok(self.progress(thread, state))
    }

    /// Starts what may start, and ends the state when all is done or one failed.
    pub(super) fn progress(&mut self, thread: &mut Thread, state: &State) -> Step {
        loop {
            let Doing::Branches(branches) = &mut thread.doing else { return Step::Blocked };
            let room = branches.count() < branches.limit;
            let waiting = branches.slots.iter().position(|slot| matches!(slot, Slot::Waiting(..)));
            match waiting {
                Some(index) if room => {
                    if let Some(failure) = self.start_inner(thread, state, index) {
                        return self.inner_failed(thread, state, failure);
                    }
                }
                _ => break,
            }
        }
        let Doing::Branches(branches) = &mut thread.doing else { return Step::Blocked };
        let outputs: Option<Vec<Value>> = branches
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Done(output) => Some(output.clone()),
                _ => None,
            })
            .collect();
        match outputs {
            Some(outputs) => {
                self.event(thread, &format!("{}StateSucceeded", state.type_name()), Value::Null);
                Step::Result(Value::Array(outputs))
            }
            None => Step::Blocked,
        }
    }

    pub(super) fn start_inner(
        &mut self,
        thread: &mut Thread,
        state: &State,
        index: usize,
    ) -> Option<Failure> {
        let workflow = inner_workflow(state, index)?;
        let Doing::Branches(branches) = &mut thread.doing else { return None };
        let slot = branches.slots.get_mut(index)?;
        let Slot::Waiting(input, item) = std::mem::replace(slot, Slot::Done(Value::Null)) else {
            return None;
        };
        let mut inner = Thread::new(thread.variables.clone(), item, thread.last_event);
        if matches!(state.kind, Kind::Map(_)) {
            self.event(&mut inner, "MapIterationStarted", json!({"name": thread.state, "index": index}));
        }
        let flow = self.run(workflow, &mut inner, Step::Enter(workflow.start_at.clone(), input));
        self.settle_inner(thread, state, index, inner, flow)
    }

    /// Puts an inner thread back in its slot, or its output; its failure is the state's.
    pub(super) fn settle_inner(
        &mut self,
        thread: &mut Thread,
        state: &State,
        index: usize,
        mut inner: Thread,
        flow: Flow,
    ) -> Option<Failure> {
        let is_map = matches!(state.kind, Kind::Map(_));
        let iteration = json!({"name": thread.state, "index": index});
        let (slot, failure) = match flow {
            Flow::Running => (Slot::Running(Box::new(inner)), None),
            Flow::Ended(outcome) => {
                if is_map {
                    let kind = if outcome.is_ok() { "MapIterationSucceeded" } else { "MapIterationFailed" };
                    self.event(&mut inner, kind, iteration);
                }
                thread.last_event = inner.last_event;
                match outcome {
                    Ok(output) => (Slot::Done(output), None),
                    Err(failure) => (Slot::Done(Value::Null), Some(failure)),
                }
            }
        };
        if let Doing::Branches(branches) = &mut thread.doing
            && let Some(place) = branches.slots.get_mut(index)
        {
            *place = slot;
        }
        failure
    }

    /// One failed, so the others are stopped and the whole state fails with its error.
    pub(super) fn inner_failed(&mut self, thread: &mut Thread, state: &State, failure: Failure) -> Step {
        self.abort_inner(thread, state);
        let kind = format!("{}StateFailed", state.type_name());
        self.event(thread, &kind, Value::Null);
        Step::Failed(failure)
    }

    pub(super) fn abort_inner(&mut self, thread: &mut Thread, state: &State) {
        let Doing::Branches(branches) = std::mem::replace(&mut thread.doing, Doing::Starting) else { return };
        for (index, slot) in branches.slots.into_iter().enumerate() {
            let (Slot::Running(mut inner), Some(workflow)) = (slot, inner_workflow(state, index)) else {
                continue;
            };
            if let Some(inner_state) = workflow.states.get(&inner.state) {
                self.abort_inner(&mut inner, inner_state);
                self.event(&mut inner, &format!("{}StateAborted", inner_state.type_name()), Value::Null);
            }
            if matches!(state.kind, Kind::Map(_)) {
                let details = json!({"name": thread.state, "index": index});
                self.event(&mut inner, "MapIterationAborted", details);
            }
            thread.last_event = inner.last_event;
        }
    }

    pub(super) fn deliver_inner(&mut self, thread: &mut Thread, state: &State, stimulus: &Stimulus) -> Step {
        let count = match &thread.doing {
            Doing::Branches(branches) => branches.slots.len(),
            _ => 0,
        };
        for index in 0..count {
            let Some(workflow) = inner_workflow(state, index) else { continue };
            let Doing::Branches(branches) = &mut thread.doing else { break };
            let Some(slot @ Slot::Running(_)) = branches.slots.get_mut(index) else { continue };
            let Slot::Running(mut inner) = std::mem::replace(slot, Slot::Done(Value::Null)) else { continue };
            let flow = self.deliver(workflow, &mut inner, stimulus);
            if let Some(failure) = self.settle_inner(thread, state, index, *inner, flow) {
                return self.inner_failed(thread, state, failure);
            }
        }
        self.progress(thread, state)
    }
}

fn inner_workflow(state: &State, index: usize) -> Option<&Workflow> {
    match &state.kind {
        Kind::Parallel { branches, .. } => branches.get(index),
        Kind::Map(map) => Some(&map.processor),
        _ => None,
    }
}
