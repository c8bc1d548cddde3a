//! Threads within a thread: the branches of a Parallel and the iterations of a Map.

use serde_json::{Value, json};

use super::{Flow, Machine, Step, Stimulus};
use crate::states::asl::{Kind, MapState, State, Workflow};
use crate::states::tree::{Branches, Doing, Failure, Slot, Thread};

impl Machine<'_> {
    pub(super) fn start_map(
        &mut self,
        thread: &mut Thread,
        state: &State,
        map: &MapState,
    ) -> Result<Step, Failure> {
        let items = match &map.items {
            Some(template) => self.value(thread, template, "Items")?,
            None => thread.input.clone(),
        };
        let Value::Array(items) = items else {
            let expected = ("array", "an array");
            return Err(self.not_a(thread, "Items", map.items.as_ref(), expected, &items));
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
            // An inline Map never runs more than 40 iterations at a time.
            // https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html
            None | Some(0) => 40,
            Some(limit) => limit.min(40) as usize,
        };
        thread.doing = Doing::Branches(Branches { slots, limit });
        Ok(self.progress(thread, state))
    }

    /// Starts the threads that may run now, and ends the state when all are done or one failed.
    pub(super) fn progress(&mut self, thread: &mut Thread, state: &State) -> Step {
        loop {
            let started = self.start_inner(thread, state);
            if started.is_empty() {
                break;
            }
            for index in started {
                if let Some(failure) = self.run_inner(thread, state, index, &Stimulus::Start) {
                    return self.inner_failed(thread, state, failure);
                }
            }
        }
        let Doing::Branches(branches) = &mut thread.doing else { return Step::Blocked };
        let output = |slot: &Slot| match slot {
            Slot::Done(output) => Some(output.clone()),
            _ => None,
        };
        let Some(outputs) = branches.slots.iter().map(output).collect::<Option<Vec<Value>>>() else {
            return Step::Blocked;
        };
        // This event and the state's exit both point back to the thread that ended last.
        if !outputs.is_empty() {
            thread.last_event = self.meta.last_event;
        }
        self.aside(thread.last_event, &format!("{}StateSucceeded", state.type_name()), Value::Null);
        Step::Result(Value::Array(outputs))
    }

    /// Makes threads of as many waiting slots as may run now; returns their indices.
    fn start_inner(&mut self, thread: &mut Thread, state: &State) -> Vec<usize> {
        let is_map = matches!(state.kind, Kind::Map(_));
        let Doing::Branches(branches) = &mut thread.doing else { return Vec::new() };
        let room = branches.limit.saturating_sub(branches.running().count());
        let waiting = |(index, slot): (usize, &Slot)| matches!(slot, Slot::Waiting(..)).then_some(index);
        let indices: Vec<usize> = branches.slots.iter().enumerate().filter_map(waiting).take(room).collect();
        for &index in &indices {
            let Some(slot) = branches.slots.get_mut(index) else { continue };
            let Slot::Waiting(input, item) = std::mem::replace(slot, Slot::Done(Value::Null)) else {
                continue;
            };
            let mut inner = Thread::new(thread.variables.clone(), item, thread.last_event);
            inner.input = input;
            if is_map {
                let details = json!({"name": thread.state, "index": index});
                self.event(&mut inner, "MapIterationStarted", details);
            }
            *slot = Slot::Running(Box::new(inner));
        }
        indices
    }

    /// Starts an inner thread, or gives it a stimulus; returns its failure, which fails the state.
    fn run_inner(
        &mut self,
        thread: &mut Thread,
        state: &State,
        index: usize,
        stimulus: &Stimulus,
    ) -> Option<Failure> {
        let workflow = inner_workflow(state, index)?;
        let Doing::Branches(branches) = &mut thread.doing else { return None };
        let slot = branches.slots.get_mut(index).filter(|slot| matches!(slot, Slot::Running(_)))?;
        let Slot::Running(mut inner) = std::mem::replace(slot, Slot::Done(Value::Null)) else { return None };
        let flow = match stimulus {
            Stimulus::Start => {
                let input = std::mem::take(&mut inner.input);
                self.run(workflow, &mut inner, Step::Enter(workflow.start_at.clone(), input))
            }
            stimulus => self.deliver(workflow, &mut inner, stimulus),
        };
        let (slot, failure) = match flow {
            Flow::Running => (Slot::Running(inner), None),
            Flow::Ended(outcome) => {
                // The next event points back to the last event of the thread, not to this one.
                thread.last_event = inner.last_event;
                let ended = if outcome.is_ok() { "Succeeded" } else { "Failed" };
                self.iteration(thread, state, index, inner.last_event, ended);
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

    /// Stops the other inner threads and fails the whole state. All these events point back to the one that
    /// made the thread fail.
    fn inner_failed(&mut self, thread: &mut Thread, state: &State, failure: Failure) -> Step {
        self.abort_inner(thread, state, thread.last_event);
        self.event(thread, &format!("{}StateFailed", state.type_name()), Value::Null);
        Step::Failed(failure)
    }

    fn abort_inner(&mut self, thread: &mut Thread, state: &State, previous: u64) {
        let Doing::Branches(branches) = std::mem::replace(&mut thread.doing, Doing::Starting) else { return };
        for (index, slot) in branches.slots.into_iter().enumerate() {
            let (Slot::Running(mut inner), Some(workflow)) = (slot, inner_workflow(state, index)) else {
                continue;
            };
            if let Some(inner_state) = workflow.states.get(&inner.state) {
                self.abort_inner(&mut inner, inner_state, previous);
                self.aside(previous, &format!("{}StateAborted", inner_state.type_name()), Value::Null);
            }
            self.iteration(thread, state, index, previous, "Aborted");
        }
    }

    /// Adds the event of the end of an iteration; branches of a Parallel have none.
    fn iteration(&mut self, thread: &Thread, state: &State, index: usize, previous: u64, ended: &str) {
        if matches!(state.kind, Kind::Map(_)) {
            let details = json!({"name": thread.state, "index": index});
            self.aside(previous, &format!("MapIteration{ended}"), details);
        }
    }

    pub(super) fn deliver_inner(&mut self, thread: &mut Thread, state: &State, stimulus: &Stimulus) -> Step {
        let count = match &thread.doing {
            Doing::Branches(branches) => branches.slots.len(),
            _ => 0,
        };
        for index in 0..count {
            if let Some(failure) = self.run_inner(thread, state, index, stimulus) {
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
