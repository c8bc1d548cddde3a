//! The step function, run by hand: no store, no clock but the test's, no service.

mod flow;
mod history;
mod inner;
mod tasks;

use serde_json::json;

use super::*;
use crate::states::tree::Meta;

const INVOKE: &str = "arn:aws:states:::lambda:invoke";

const NOW: i64 = 1_700_000_000_000;

/// An execution whose requests the test answers and whose clock the test moves. Between
/// any two steps it is written down and read back, as after a kill.
struct Run {
    definition: Definition,
    execution: Execution,
    random: Random,
    now_ms: i64,
    events: Vec<HistoryEvent>,
    requests: Vec<(u64, String, Value)>,
    tokens: Vec<String>,
}

impl Run {
    fn start(document: Value, input: Value) -> Self {
        let meta = Meta {
            arn: "arn:aws:states:us-east-1:123456789012:execution:M:e".into(),
            name: "e".into(),
            machine_arn: "arn:aws:states:us-east-1:123456789012:stateMachine:M".into(),
            machine_name: "M".into(),
            revision: "r".into(),
            role_arn: "role".into(),
            input: input.to_string(),
            started_ms: NOW,
            ..Meta::default()
        };
        let mut run = Self {
            definition: Definition::parse(&document).unwrap(),
            execution: Execution { meta, root: None },
            random: Random::seeded(1),
            now_ms: NOW,
            events: Vec::new(),
            requests: Vec::new(),
            tokens: Vec::new(),
        };
        run.give(Stimulus::Start);
        run
    }

    fn give(&mut self, stimulus: Stimulus) -> bool {
        let stored = serde_json::to_string(&self.execution).unwrap();
        self.execution = serde_json::from_str(&stored).unwrap();
        let env = Env { now_ms: self.now_ms, random: &self.random, region: "us-east-1" };
        let effects = advance(&self.definition, &mut self.execution, &stimulus, &env);
        self.events.extend(effects.events);
        self.requests.extend(effects.requests);
        self.tokens.extend(effects.tokens);
        effects.taken
    }

    /// Answers the oldest request that is not answered.
    fn answer(&mut self, outcome: Result<Value, Failure>) {
        let (number, ..) = self.requests.remove(0);
        assert!(self.give(Stimulus::Answered(number, outcome)));
    }

    fn fail(&mut self, error: &str) {
        self.answer(Err(Failure::new(error, "because")));
    }

    fn after(&mut self, seconds: f64) {
        self.now_ms += (seconds * 1000.0) as i64;
        self.give(Stimulus::Tick);
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.kind.as_str()).collect()
    }

    fn output(&self) -> Value {
        assert_eq!(self.execution.meta.status, Status::Succeeded, "{:?}", self.execution.meta.failure);
        serde_json::from_str(self.execution.meta.output.as_ref().unwrap()).unwrap()
    }

    fn error(&self) -> &str {
        assert_eq!(self.execution.meta.status, Status::Failed);
        self.execution.meta.failure.as_ref().unwrap().error.as_deref().unwrap()
    }

    fn due_in(&self) -> Option<i64> {
        due(&self.execution).map(|due| due - self.now_ms)
    }
}

fn machine(states: Value) -> Value {
    json!({"QueryLanguage": "JSONata", "StartAt": "A", "States": states})
}

fn task(more: Value) -> Value {
    let mut task =
        json!({"Type": "Task", "Resource": INVOKE, "Arguments": {"FunctionName": "f"}, "End": true});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

fn waiting(more: Value) -> Value {
    let mut task = task(json!({
        "Resource": format!("{INVOKE}.waitForTaskToken"),
        "Arguments": {"FunctionName": "f", "Payload": {"token": "{% $states.context.Task.Token %}"}},
    }));
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}
