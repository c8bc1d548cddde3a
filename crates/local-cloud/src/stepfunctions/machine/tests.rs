use serde_json::json;

use super::*;
use crate::stepfunctions::tree::Meta;

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

#[test]
fn a_task_is_scheduled_with_its_arguments_and_its_result_becomes_output_and_variables() {
    let mut run = Run::start(
        machine(json!({
            "A": {"Type": "Task", "Resource": INVOKE, "Next": "B", "TimeoutSeconds": 5,
                "Arguments": {"FunctionName": "f", "Payload": "{% $states.input.id %}"},
                "Assign": {"seen": "{% $states.result.Payload %}"},
                "Output": "{% $states.input %}"},
            "B": {"Type": "Succeed", "Output": {"seen": "{% $seen %}", "input": "{% $states.input %}"}},
        })),
        json!({"id": 7}),
    );
    assert_eq!(run.requests[0].2, json!({"FunctionName": "f", "Payload": 7}));
    assert_eq!(run.due_in(), Some(5_000));
    run.answer(Ok(json!({"Payload": [1, 2]})));
    assert_eq!(run.output(), json!({"seen": [1, 2], "input": {"id": 7}}));
    assert_eq!(
        run.kinds(),
        [
            "ExecutionStarted",
            "TaskStateEntered",
            "TaskScheduled",
            "TaskStarted",
            "TaskSucceeded",
            "TaskStateExited",
            "SucceedStateEntered",
            "SucceedStateExited",
            "ExecutionSucceeded"
        ]
    );
    let scheduled = &run.events[2].details;
    assert_eq!(scheduled["resourceType"], "lambda");
    assert_eq!(scheduled["resource"], "invoke");
    assert_eq!(scheduled["timeoutInSeconds"], 5);
    assert_eq!(run.events[5].details["assignedVariables"], json!({"seen": "[1,2]"}));
    let chain: Vec<u64> = run.events.iter().map(|event| event.previous).collect();
    assert_eq!(chain, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_function_by_its_arn_gets_the_input_and_has_history_events_of_its_own() {
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
    let mut run =
        Run::start(machine(json!({"A": {"Type": "Task", "Resource": arn, "End": true}})), json!({"x": 1}));
    assert_eq!(run.requests[0].2, json!({"x": 1}));
    run.answer(Ok(json!("done")));
    assert_eq!(run.output(), json!("done"));
    assert_eq!(
        run.kinds()[2..5],
        ["LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionSucceeded"]
    );
}

#[test]
fn a_choice_takes_the_first_rule_that_holds_with_its_own_assign_and_output() {
    let choice = machine(json!({
        "A": {"Type": "Choice", "Default": "D", "Output": "default", "Choices": [
            {"Condition": "{% $states.input.n > 10 %}", "Next": "B", "Assign": {"size": "big"}, "Output": "rule"},
            {"Condition": "{% $states.input.n > 5 %}", "Next": "B", "Assign": {"size": "middle"}},
        ]},
        "B": {"Type": "Succeed", "Output": "{% [$size, $states.input] %}"},
        "D": {"Type": "Succeed"},
    }));
    assert_eq!(Run::start(choice.clone(), json!({"n": 11})).output(), json!(["big", "rule"]));
    assert_eq!(Run::start(choice.clone(), json!({"n": 6})).output(), json!(["middle", {"n": 6}]));
    assert_eq!(Run::start(choice, json!({"n": 1})).output(), json!("default"));
}

#[test]
fn a_choice_without_a_match_and_default_fails_the_execution_with_a_runtime_error() {
    let run = Run::start(
        machine(json!({
            "A": {"Type": "Choice", "Choices": [{"Condition": "{% false %}", "Next": "B"}]},
            "B": {"Type": "Succeed"},
        })),
        json!({}),
    );
    assert_eq!(run.error(), "States.Runtime");
}

#[test]
fn a_condition_that_is_no_boolean_is_a_query_evaluation_error_with_its_own_event() {
    let run = Run::start(
        machine(json!({
            "A": {"Type": "Choice", "Choices": [{"Condition": "{% 1 %}", "Next": "B"}]},
            "B": {"Type": "Succeed"},
        })),
        json!({}),
    );
    assert_eq!(run.error(), "States.QueryEvaluationError");
    assert_eq!(run.kinds()[2..], ["EvaluationFailed", "ExecutionFailed"]);
    assert_eq!(run.events[2].details["location"], "Choices[0]/Condition");
    assert_eq!(run.events[2].details["state"], "A");
}

#[test]
fn assign_and_output_both_see_the_variables_as_they_were_on_entry() {
    let run = Run::start(
        machine(json!({
            "A": {"Type": "Pass", "Assign": {"x": 1, "y": 2}, "Next": "B"},
            "B": {"Type": "Pass", "Assign": {"x": "{% $y %}", "y": "{% $x %}"}, "Output": "{% $x %}", "Next": "C"},
            "C": {"Type": "Succeed", "Output": "{% [$states.input, $x, $y] %}"},
        })),
        json!({}),
    );
    assert_eq!(run.output(), json!([1, 2, 1]));
}

#[test]
fn retries_back_off_up_to_the_longest_delay_and_then_the_catcher_has_its_turn() {
    let mut run = Run::start(
        machine(json!({
            "A": task(json!({
                "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 2, "MaxAttempts": 3, "BackoffRate": 2,
                    "MaxDelaySeconds": 5}],
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B", "Assign": {"why": "{% $states.errorOutput.Error %}"}}],
            })),
            "B": {"Type": "Succeed", "Output": "{% [$why, $states.input] %}"},
        })),
        json!({}),
    );
    for delay in [2, 4, 5] {
        run.fail("Busy");
        assert_eq!(run.due_in(), Some(delay * 1000));
        run.after(delay as f64 - 0.001);
        assert!(run.requests.is_empty());
        run.after(0.001);
        assert_eq!(run.requests.len(), 1);
    }
    run.fail("Busy");
    assert_eq!(run.output(), json!(["Busy", {"Error": "Busy", "Cause": "because"}]));
    assert_eq!(run.kinds().iter().filter(|kind| **kind == "TaskScheduled").count(), 4);
}

#[test]
fn full_jitter_draws_the_delay_from_zero_up_to_the_interval() {
    let retry = json!([{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 100, "JitterStrategy": "FULL"}]);
    let mut run = Run::start(machine(json!({"A": task(json!({"Retry": retry}))})), json!({}));
    run.fail("Busy");
    let delay = run.due_in().unwrap();
    assert!((0..100_000).contains(&delay) && delay != 0, "{delay}");
}

#[test]
fn the_retry_count_is_in_the_context_and_arguments_are_evaluated_for_each_attempt() {
    let mut run = Run::start(
        machine(json!({"A": task(json!({
            "Arguments": {"FunctionName": "f", "Payload": "{% $states.context.State.RetryCount %}"},
            "Retry": [{"ErrorEquals": ["States.TaskFailed"], "MaxAttempts": 1}],
        }))})),
        json!({}),
    );
    assert_eq!(run.requests[0].2["Payload"], 0);
    run.fail("X");
    run.after(1.0);
    assert_eq!(run.requests[0].2["Payload"], 1);
    run.fail("X");
    assert_eq!(run.error(), "X");
}

#[test]
fn states_all_catches_neither_a_runtime_error_nor_data_limit_exceeded() {
    let all = vec!["States.ALL".to_owned()];
    let named = |name: &str| vec![name.to_owned()];
    let failure = |name: &str| Failure::new(name, "");
    for (names, error, matches) in [
        (&all, "Anything", true),
        (&all, "States.Timeout", true),
        (&all, "States.QueryEvaluationError", true),
        (&all, "States.Runtime", false),
        (&all, "States.DataLimitExceeded", false),
        (&named("States.Runtime"), "States.Runtime", false),
        (&named("States.DataLimitExceeded"), "States.DataLimitExceeded", true),
        (&named("States.TaskFailed"), "Anything", true),
        (&named("States.TaskFailed"), "States.Timeout", false),
        (&named("States.Timeout"), "States.HeartbeatTimeout", true),
        (&named("States.HeartbeatTimeout"), "States.Timeout", false),
    ] {
        assert_eq!(matches_error(names, &failure(error), false), matches, "{names:?} {error}");
    }
}

#[test]
fn a_result_over_256_kib_is_data_limit_exceeded() {
    let catch = json!([{"ErrorEquals": ["States.ALL"], "Next": "B"}]);
    let mut run =
        Run::start(machine(json!({"A": task(json!({"Catch": catch})), "B": {"Type": "Succeed"}})), json!({}));
    run.answer(Ok(json!("x".repeat(PAYLOAD_LIMIT))));
    assert_eq!(run.error(), "States.DataLimitExceeded");
}

#[test]
fn an_undefined_argument_can_be_caught_as_a_query_evaluation_error() {
    let run = Run::start(
        machine(json!({
            "A": task(json!({
                "Arguments": {"FunctionName": "f", "Payload": "{% $states.input.none %}"},
                "Catch": [{"ErrorEquals": ["States.QueryEvaluationError"], "Next": "B"}],
            })),
            "B": {"Type": "Succeed", "Output": "{% $states.input.Error %}"},
        })),
        json!({}),
    );
    assert_eq!(run.output(), json!("States.QueryEvaluationError"));
    assert!(run.requests.is_empty());
}

#[test]
fn a_task_that_runs_too_long_times_out_and_its_late_reply_is_nothing() {
    let mut run = Run::start(
        machine(json!({
            "A": task(json!({"TimeoutSeconds": "{% $states.input.wait %}",
                "Catch": [{"ErrorEquals": ["States.Timeout"], "Next": "B"}]})),
            "B": {"Type": "Wait", "Seconds": 60, "End": true},
        })),
        json!({"wait": 10}),
    );
    run.after(10.0);
    assert_eq!(run.events[4].kind, "TaskTimedOut");
    assert_eq!(run.events[4].details["error"], "States.Timeout");
    let late = run.requests.remove(0).0;
    assert!(!run.give(Stimulus::Answered(late, Ok(json!({})))));
    run.after(60.0);
    assert_eq!(run.output()["Error"], "States.Timeout");
}

#[test]
fn a_waiting_task_is_submitted_and_ends_when_its_token_comes_back() {
    let mut run = Run::start(machine(json!({"A": waiting(json!({"TimeoutSeconds": 100}))})), json!({}));
    let token = run.tokens[0].clone();
    assert_eq!(run.requests[0].2["Payload"]["token"], json!(token));
    run.answer(Ok(json!({"StatusCode": 200})));
    assert_eq!(run.kinds()[2..], ["TaskScheduled", "TaskStarted", "TaskSubmitted"]);
    assert!(!run.give(Stimulus::Token("another".into(), Ok(json!(1)))));
    assert!(run.give(Stimulus::Token(token.clone(), Ok(json!({"approved": true})))));
    assert_eq!(run.output(), json!({"approved": true}));
    assert!(!run.give(Stimulus::Token(token, Ok(json!(2)))));
}

#[test]
fn a_token_that_comes_back_before_the_function_has_answered_counts() {
    let mut run = Run::start(machine(json!({"A": waiting(json!({}))})), json!({}));
    assert!(run.give(Stimulus::Token(run.tokens[0].clone(), Ok(json!("early")))));
    assert_eq!(run.output(), json!("early"));
}

#[test]
fn an_error_of_the_function_that_stores_the_token_fails_the_task() {
    let mut run = Run::start(machine(json!({"A": waiting(json!({}))})), json!({}));
    run.fail("TableDown");
    assert_eq!(run.error(), "TableDown");
}

#[test]
fn a_failed_token_carries_error_and_cause() {
    let mut run = Run::start(machine(json!({"A": waiting(json!({}))})), json!({}));
    run.give(Stimulus::Token(run.tokens[0].clone(), Err(Failure::new("Ended", "contract"))));
    assert_eq!(run.error(), "Ended");
    assert_eq!(run.kinds()[4..], ["TaskFailed", "ExecutionFailed"]);
}

#[test]
fn heartbeats_keep_a_waiting_task_alive_and_a_missed_one_ends_it() {
    let mut run = Run::start(
        machine(json!({"A": waiting(json!({"HeartbeatSeconds": 10, "TimeoutSeconds": 100}))})),
        json!({}),
    );
    run.after(9.0);
    assert!(run.give(Stimulus::Heartbeat(run.tokens[0].clone())));
    run.after(9.0);
    assert_eq!(run.execution.meta.status, Status::Running);
    run.after(1.0);
    assert_eq!(run.error(), "States.HeartbeatTimeout");
}

#[test]
fn a_token_that_comes_back_after_the_timeout_is_late_even_before_a_timer_ran() {
    let mut run = Run::start(
        machine(json!({
            "A": waiting(json!({"TimeoutSeconds": 10, "Catch": [{"ErrorEquals": ["States.Timeout"], "Next": "B"}]})),
            "B": {"Type": "Wait", "Seconds": 5, "End": true},
        })),
        json!({}),
    );
    run.now_ms += 10_000;
    assert!(!run.give(Stimulus::Token(run.tokens[0].clone(), Ok(json!("late")))));
    assert!(run.kinds().contains(&"TaskTimedOut"));
    assert_eq!(run.due_in(), Some(5_000));
}

#[test]
fn a_timeout_of_zero_seconds_from_an_expression_is_a_query_evaluation_error() {
    let run = Run::start(machine(json!({"A": task(json!({"TimeoutSeconds": "{% 0 %}"}))})), json!({}));
    assert_eq!(run.error(), "States.QueryEvaluationError");
    assert!(run.requests.is_empty());
}

#[test]
fn an_array_of_one_item_is_still_an_array_for_a_map() {
    let run = Run::start(mapped(json!({})), json!({"items": ["only"]}));
    assert_eq!(run.requests[0].2["Payload"], "only");
}

#[test]
fn a_wait_ends_at_its_time_and_one_in_the_past_at_once() {
    let mut run = Run::start(
        machine(json!({
            "A": {"Type": "Wait", "Timestamp": "{% $states.input.at %}", "Next": "B"},
            "B": {"Type": "Wait", "Seconds": "{% $states.input.s %}", "End": true},
        })),
        json!({"at": "2001-01-01T00:00:00Z", "s": 3}),
    );
    assert_eq!(run.due_in(), Some(3_000));
    run.after(3.0);
    assert_eq!(
        run.kinds()[1..5],
        ["WaitStateEntered", "WaitStateExited", "WaitStateEntered", "WaitStateExited"]
    );
    assert_eq!(run.output()["s"], 3);
}

fn one_task_branch(name: &str) -> Value {
    let mut branch = json!({"StartAt": name, "States": {}});
    branch["States"][name] = task(json!({"Output": "{% $states.result %}"}));
    branch
}

#[test]
fn a_parallel_gives_the_outputs_of_its_branches_in_their_order() {
    let mut run = Run::start(
        machine(json!({"A": {"Type": "Parallel", "End": true, "Arguments": {"x": 1},
            "Branches": [one_task_branch("B1"), one_task_branch("B2")]}})),
        json!({}),
    );
    run.requests.reverse();
    run.answer(Ok(json!("second")));
    run.answer(Ok(json!("first")));
    assert_eq!(run.output(), json!(["first", "second"]));
    let kinds = run.kinds();
    assert_eq!(kinds[1..3], ["ParallelStateEntered", "ParallelStateStarted"]);
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["ParallelStateSucceeded", "ParallelStateExited", "ExecutionSucceeded"]
    );
    let entered: Vec<&HistoryEvent> =
        run.events.iter().filter(|event| event.kind == "TaskStateEntered").collect();
    assert_eq!(entered.iter().map(|event| event.previous).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(entered[1].details["input"], r#"{"x":1}"#);
}

#[test]
fn a_failed_branch_stops_the_others_and_fails_the_parallel_with_its_own_error() {
    let mut run = Run::start(
        machine(json!({
            "A": {"Type": "Parallel", "End": true, "Branches": [one_task_branch("B1"), one_task_branch("B2")],
                "Catch": [{"ErrorEquals": ["Broken"], "Next": "C"}]},
            "C": {"Type": "Succeed", "Output": "{% $states.input.Error %}"},
        })),
        json!({}),
    );
    let other = run.requests[1].0;
    run.fail("Broken");
    assert_eq!(run.output(), json!("Broken"));
    assert!(run.kinds().contains(&"TaskStateAborted"));
    assert!(run.kinds().contains(&"ParallelStateFailed"));
    assert!(!run.give(Stimulus::Answered(other, Ok(json!(1)))));
}

#[test]
fn a_parallel_can_be_retried_as_a_whole() {
    let mut run = Run::start(
        machine(json!({"A": {"Type": "Parallel", "End": true, "Branches": [one_task_branch("B")],
            "Retry": [{"ErrorEquals": ["States.BranchFailed"], "MaxAttempts": 1}]}})),
        json!({}),
    );
    run.fail("Broken");
    run.after(1.0);
    run.answer(Ok(json!(1)));
    assert_eq!(run.output(), json!([1]));
}

fn mapped(more: Value) -> Value {
    let mut map = json!({"Type": "Map", "End": true, "Items": "{% $states.input.items %}",
        "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "I", "States": {
            "I": task(json!({"Arguments": {"FunctionName": "f", "Payload": "{% $states.input %}"},
                "Output": "{% $states.result %}"}))}}});
    map.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    machine(json!({"A": map}))
}

#[test]
fn a_map_runs_its_items_with_at_most_max_concurrency_at_a_time() {
    let selector =
        json!({"i": "{% $states.context.Map.Item.Index %}", "v": "{% $states.context.Map.Item.Value %}"});
    let mut run = Run::start(
        mapped(json!({"ItemSelector": selector, "MaxConcurrency": 2})),
        json!({"items": ["a", "b", "c"]}),
    );
    assert_eq!(run.requests.len(), 2);
    assert_eq!(run.requests[1].2["Payload"], json!({"i": 1, "v": "b"}));
    run.answer(Ok(json!("A")));
    assert_eq!(run.requests.len(), 2);
    run.answer(Ok(json!("B")));
    run.answer(Ok(json!("C")));
    assert_eq!(run.output(), json!(["A", "B", "C"]));
    let started = run.events.iter().find(|event| event.kind == "MapStateStarted").unwrap();
    assert_eq!(started.details, json!({"length": 3}));
    let iterations = run.kinds().iter().filter(|kind| kind.starts_with("MapIteration")).count();
    assert_eq!(iterations, 6);
}

#[test]
fn a_map_without_items_succeeds_with_an_empty_array() {
    assert_eq!(Run::start(mapped(json!({})), json!({"items": []})).output(), json!([]));
    let run = Run::start(mapped(json!({})), json!({"items": 3}));
    assert_eq!(run.error(), "States.QueryEvaluationError");
}

#[test]
fn a_failed_iteration_fails_the_map_and_aborts_the_others() {
    let mut run = Run::start(mapped(json!({})), json!({"items": [1, 2]}));
    run.fail("Broken");
    assert_eq!(run.error(), "Broken");
    let kinds = run.kinds();
    for kind in ["MapIterationFailed", "MapIterationAborted", "MapStateFailed"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

#[test]
fn inner_states_read_outer_variables_and_their_own_end_with_them() {
    let branch = json!({"StartAt": "B", "States": {
        "B": {"Type": "Pass", "Assign": {"inner": "{% $outer + 1 %}"}, "Next": "B2"},
        "B2": {"Type": "Pass", "Output": "{% $inner %}", "End": true}}});
    let run = Run::start(
        machine(json!({
            "A": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "P"},
            "P": {"Type": "Parallel", "Branches": [branch], "Next": "E"},
            "E": {"Type": "Succeed", "Output": {"got": "{% $states.input %}", "inner": "{% $exists($inner) %}"}},
        })),
        json!({}),
    );
    assert_eq!(run.output(), json!({"got": [2], "inner": false}));
}

#[test]
fn a_fail_state_ends_the_execution_with_error_and_cause_from_json_ata() {
    let run = Run::start(
        machine(
            json!({"A": {"Type": "Fail", "Error": "{% 'Not' & 'Found' %}", "Cause": "{% $states.input.id %}"}}),
        ),
        json!({"id": "usa/1"}),
    );
    assert_eq!(run.error(), "NotFound");
    assert_eq!(run.execution.meta.failure.as_ref().unwrap().cause.as_deref(), Some("usa/1"));
    assert_eq!(run.kinds(), ["ExecutionStarted", "FailStateEntered", "ExecutionFailed"]);
}

#[test]
fn an_execution_over_its_own_timeout_is_timed_out_whatever_it_waits_for() {
    let mut document = machine(json!({"A": {"Type": "Wait", "Seconds": 100, "End": true}}));
    document["TimeoutSeconds"] = json!(30);
    let mut run = Run::start(document, json!({}));
    assert_eq!(run.due_in(), Some(30_000));
    run.after(30.0);
    assert_eq!(run.execution.meta.status, Status::TimedOut);
    assert_eq!(run.kinds().last(), Some(&"ExecutionTimedOut"));
    assert_eq!(run.due_in(), None);
}

#[test]
fn a_stopped_execution_is_aborted_and_takes_nothing_more() {
    let mut run = Run::start(machine(json!({"A": waiting(json!({}))})), json!({}));
    assert!(run.give(Stimulus::Abort(Failure::new("Stop", "operator"))));
    assert_eq!(run.execution.meta.status, Status::Aborted);
    assert!(!run.give(Stimulus::Token(run.tokens[0].clone(), Ok(json!(1)))));
    assert!(!run.give(Stimulus::Abort(Failure::new("Stop", "again"))));
}

#[test]
fn a_loop_without_end_is_stopped_at_25000_events() {
    let run = Run::start(
        machine(json!({"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"}})),
        json!({}),
    );
    assert_eq!(run.error(), "States.Runtime");
    assert!(run.events.len() <= 25_000);
}

#[test]
fn the_context_object_names_execution_state_and_machine() {
    let run = Run::start(
        machine(json!({"A": {"Type": "Succeed", "Output": "{% $states.context %}"}})),
        json!({"i": 1}),
    );
    let context = run.output();
    assert_eq!(context["Execution"]["Input"], json!({"i": 1}));
    assert_eq!(context["Execution"]["StartTime"], "2023-11-14T22:13:20.000Z");
    assert_eq!(context["Execution"]["Name"], "e");
    assert_eq!(context["State"]["Name"], "A");
    assert_eq!(context["StateMachine"]["Name"], "M");
    assert!(context.get("Task").is_none());
}
