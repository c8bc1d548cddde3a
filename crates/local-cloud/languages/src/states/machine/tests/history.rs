//! The history: which events, in which order, which details, and what each points back to.
//! Orders and ids are those that AWS gives, as far as its order is fixed: what runs side by
//! side is interleaved there, and runs in turn here.

use super::*;

/// `(id, type, previousEventId)` of each event.
fn chain(run: &Run) -> Vec<(u64, &str, u64)> {
    run.events.iter().map(|event| (event.id, event.kind.as_str(), event.previous)).collect()
}

fn details<'a>(run: &'a Run, kind: &str) -> &'a Value {
    &run.events.iter().find(|event| event.kind == kind).unwrap().details
}

#[test]
fn the_first_state_points_back_to_nothing_and_each_later_event_to_the_one_before() {
    let run = Run::start(
        machine(json!({"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Succeed"}})),
        json!({"n": 1}),
    );
    assert_eq!(
        chain(&run),
        [
            (1, "ExecutionStarted", 0),
            (2, "PassStateEntered", 0),
            (3, "PassStateExited", 2),
            (4, "SucceedStateEntered", 3),
            (5, "SucceedStateExited", 4),
            (6, "ExecutionSucceeded", 5),
        ]
    );
    let data = |name: &str| json!({name: r#"{"n":1}"#, format!("{name}Details"): {"truncated": false}});
    let mut started = data("input");
    started["roleArn"] = json!("role");
    assert_eq!(run.events[0].details, started);
    let mut entered = data("input");
    entered["name"] = json!("A");
    assert_eq!(run.events[1].details, entered);
    let mut exited = data("output");
    exited["name"] = json!("A");
    assert_eq!(run.events[2].details, exited);
    assert_eq!(run.events[5].details, data("output"));
}

#[test]
fn a_task_of_an_integration_has_resource_region_parameters_and_time_outs() {
    let mut run = Run::start(
        machine(json!({"A": waiting(json!({"TimeoutSeconds": 600, "HeartbeatSeconds": 5}))})),
        json!({}),
    );
    run.answer(Ok(json!({"StatusCode": 200})));
    run.give(Stimulus::Token(run.tokens[0].clone(), Ok(json!("done"))));
    assert_eq!(
        chain(&run)[2..],
        [
            (3, "TaskScheduled", 2),
            (4, "TaskStarted", 3),
            (5, "TaskSubmitted", 4),
            (6, "TaskSucceeded", 5),
            (7, "TaskStateExited", 6),
            (8, "ExecutionSucceeded", 7),
        ]
    );
    let names = json!({"resourceType": "lambda", "resource": "invoke.waitForTaskToken"});
    let with = |more: Value| {
        let mut all = names.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let parameters = json!({"FunctionName": "f", "Payload": {"token": run.tokens[0]}}).to_string();
    let scheduled = json!({"region": "us-east-1", "parameters": parameters, "timeoutInSeconds": 600,
        "heartbeatInSeconds": 5});
    assert_eq!(details(&run, "TaskScheduled"), &with(scheduled));
    assert_eq!(details(&run, "TaskStarted"), &names);
    let output = |text: &str| with(json!({"output": text, "outputDetails": {"truncated": false}}));
    assert_eq!(details(&run, "TaskSubmitted"), &output(r#"{"StatusCode":200}"#));
    assert_eq!(details(&run, "TaskSucceeded"), &output("\"done\""));
}

#[test]
fn a_task_without_a_time_out_of_its_own_names_none() {
    let run = Run::start(machine(json!({"A": task(json!({}))})), json!({}));
    let scheduled = details(&run, "TaskScheduled").as_object().unwrap();
    assert!(!scheduled.contains_key("timeoutInSeconds") && !scheduled.contains_key("heartbeatInSeconds"));
}

#[test]
fn a_failed_and_a_timed_out_task_carry_the_error_and_the_execution_repeats_it() {
    let mut failed = Run::start(machine(json!({"A": task(json!({}))})), json!({}));
    failed.fail("Broken");
    let expected =
        json!({"resourceType": "lambda", "resource": "invoke", "error": "Broken", "cause": "because"});
    assert_eq!(details(&failed, "TaskFailed"), &expected);
    assert_eq!(details(&failed, "ExecutionFailed"), &json!({"error": "Broken", "cause": "because"}));
    assert_eq!(chain(&failed)[4..], [(5, "TaskFailed", 4), (6, "ExecutionFailed", 5)]);

    let mut late = Run::start(machine(json!({"A": task(json!({"TimeoutSeconds": 5}))})), json!({}));
    late.after(5.0);
    let expected = json!({"resourceType": "lambda", "resource": "invoke", "error": "States.Timeout"});
    assert_eq!(details(&late, "TaskTimedOut"), &expected);
    assert_eq!(details(&late, "ExecutionFailed"), &json!({"error": "States.Timeout"}));
}

#[test]
fn a_function_by_its_arn_is_scheduled_with_its_input_and_times_out_under_its_own_type() {
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
    let state = json!({"A": {"Type": "Task", "Resource": arn, "TimeoutSeconds": 5, "End": true}});
    let mut run = Run::start(machine(state), json!({"x": 1}));
    run.after(5.0);
    let scheduled = json!({"resource": arn, "input": r#"{"x":1}"#, "inputDetails": {"truncated": false},
        "timeoutInSeconds": 5});
    assert_eq!(details(&run, "LambdaFunctionScheduled"), &scheduled);
    assert_eq!(details(&run, "LambdaFunctionStarted"), &Value::Null);
    assert_eq!(details(&run, "LambdaFunctionTimedOut"), &json!({"error": "States.Timeout"}));
    assert_eq!(
        chain(&run)[2..],
        [
            (3, "LambdaFunctionScheduled", 2),
            (4, "LambdaFunctionStarted", 3),
            (5, "LambdaFunctionTimedOut", 4),
            (6, "ExecutionFailed", 5),
        ]
    );
}

#[test]
fn an_end_that_comes_from_outside_points_back_to_nothing() {
    let wait = machine(json!({"A": {"Type": "Wait", "Seconds": 100, "End": true}}));
    let mut stopped = Run::start(wait.clone(), json!({}));
    stopped.give(Stimulus::Abort(Failure { error: None, cause: None }));
    assert_eq!(chain(&stopped)[1..], [(2, "WaitStateEntered", 0), (3, "ExecutionAborted", 0)]);
    assert_eq!(details(&stopped, "ExecutionAborted"), &json!({}));

    let mut limited = wait;
    limited["TimeoutSeconds"] = json!(10);
    let mut late = Run::start(limited, json!({}));
    late.after(10.0);
    assert_eq!(chain(&late)[2..], [(3, "ExecutionTimedOut", 0)]);
    assert_eq!(details(&late, "ExecutionTimedOut"), &json!({}));
}

#[test]
fn an_evaluation_that_fails_names_its_state_its_field_and_what_is_wrong() {
    let run = Run::start(
        machine(json!({"A": {"Type": "Pass", "Output": "{% $states.input.none %}", "End": true}})),
        json!({}),
    );
    assert_eq!(chain(&run)[2..], [(3, "EvaluationFailed", 2), (4, "ExecutionFailed", 3)]);
    let cause = "An error occurred while executing the state 'A' (entered at the event id #2). The JSONata expression '$states.input.none' specified for the field 'Output' returned nothing (undefined).";
    let expected =
        json!({"error": "States.QueryEvaluationError", "cause": cause, "location": "Output", "state": "A"});
    assert_eq!(details(&run, "EvaluationFailed"), &expected);
    let ended = json!({"error": "States.QueryEvaluationError", "cause": cause});
    assert_eq!(details(&run, "ExecutionFailed"), &ended);
}

#[test]
fn a_value_of_another_type_than_the_field_takes_is_told_with_both_types() {
    let cause = |state: Value| {
        let run = Run::start(machine(json!({"A": state, "B": {"Type": "Succeed"}})), json!({"n": {"a": 1}}));
        assert_eq!(run.error(), "States.QueryEvaluationError");
        details(&run, "EvaluationFailed")["cause"].as_str().unwrap().to_owned()
    };
    let map = json!({"Type": "Map", "Items": "{% $states.input.n %}", "Next": "B",
        "ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Succeed"}}}});
    let expected = "The JSONata expression '$states.input.n' specified for the field 'Items' returned an unexpected result type. Expected 'array', but was 'object' for value: {\"a\":1}";
    assert!(cause(map).ends_with(expected));
    for (state, field, kind) in [
        (json!({"Type": "Wait", "Seconds": "{% 'x' %}", "Next": "B"}), "Seconds", "number"),
        (json!({"Type": "Wait", "Timestamp": "{% 1 %}", "Next": "B"}), "Timestamp", "string"),
        (
            json!({"Type": "Choice", "Choices": [{"Condition": "{% 1 %}", "Next": "B"}]}),
            "Choices[0]/Condition",
            "boolean",
        ),
    ] {
        let cause = cause(state);
        assert!(cause.contains(&format!("for the field '{field}' returned an unexpected result type")));
        assert!(cause.contains(&format!("Expected '{kind}', but was ")), "{cause}");
    }
}

fn mapped(concurrency: u64, state: Value) -> Value {
    machine(json!({"A": {"Type": "Map", "Items": "{% $states.input %}", "MaxConcurrency": concurrency,
        "ItemProcessor": {"StartAt": "I", "States": {"I": state}}, "End": true}}))
}

#[test]
fn iterations_one_by_one_point_back_to_the_last_event_of_the_iteration_before() {
    let run = Run::start(mapped(1, json!({"Type": "Pass", "End": true})), json!([1, 2]));
    assert_eq!(
        chain(&run)[1..],
        [
            (2, "MapStateEntered", 0),
            (3, "MapStateStarted", 2),
            (4, "MapIterationStarted", 3),
            (5, "PassStateEntered", 4),
            (6, "PassStateExited", 5),
            (7, "MapIterationSucceeded", 6),
            (8, "MapIterationStarted", 6),
            (9, "PassStateEntered", 8),
            (10, "PassStateExited", 9),
            (11, "MapIterationSucceeded", 10),
            (12, "MapStateSucceeded", 11),
            (13, "MapStateExited", 11),
            (14, "ExecutionSucceeded", 13),
        ]
    );
    assert_eq!(details(&run, "MapStateStarted"), &json!({"length": 2}));
    assert_eq!(details(&run, "MapIterationSucceeded"), &json!({"name": "A", "index": 0}));
}

#[test]
fn iterations_side_by_side_all_start_before_the_first_goes_on() {
    let run = Run::start(mapped(0, task(json!({}))), json!([1, 2]));
    assert_eq!(
        chain(&run)[2..],
        [
            (3, "MapStateStarted", 2),
            (4, "MapIterationStarted", 3),
            (5, "MapIterationStarted", 3),
            (6, "TaskStateEntered", 4),
            (7, "TaskScheduled", 6),
            (8, "TaskStarted", 7),
            (9, "TaskStateEntered", 5),
            (10, "TaskScheduled", 9),
            (11, "TaskStarted", 10),
        ]
    );
}

#[test]
fn all_that_a_failed_iteration_stops_points_back_to_the_failure() {
    let mut run = Run::start(mapped(0, task(json!({}))), json!([1, 2]));
    run.fail("Broken");
    assert_eq!(
        chain(&run)[11..],
        [
            (12, "TaskFailed", 8),
            (13, "MapIterationFailed", 12),
            (14, "TaskStateAborted", 12),
            (15, "MapIterationAborted", 12),
            (16, "MapStateFailed", 12),
            (17, "ExecutionFailed", 16),
        ]
    );
}

#[test]
fn a_parallel_starts_every_branch_from_the_same_event_and_exits_from_the_last_one() {
    let branch = |name: &str| json!({"StartAt": name, "States": {name: {"Type": "Pass", "End": true}}});
    let run = Run::start(
        machine(json!({"A": {"Type": "Parallel", "Branches": [branch("B"), branch("C")], "End": true}})),
        json!({}),
    );
    assert_eq!(
        chain(&run)[1..],
        [
            (2, "ParallelStateEntered", 0),
            (3, "ParallelStateStarted", 2),
            (4, "PassStateEntered", 3),
            (5, "PassStateExited", 4),
            (6, "PassStateEntered", 3),
            (7, "PassStateExited", 6),
            (8, "ParallelStateSucceeded", 7),
            (9, "ParallelStateExited", 7),
            (10, "ExecutionSucceeded", 9),
        ]
    );
}
