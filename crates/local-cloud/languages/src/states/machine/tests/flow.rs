//! The other states, variables, and the execution as a whole.

use super::*;

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
fn a_pass_and_a_succeed_give_their_input_on_or_what_output_makes_of_it() {
    let plain = machine(json!({"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Succeed"}}));
    assert_eq!(Run::start(plain, json!({"n": 1})).output(), json!({"n": 1}));
    let made = machine(json!({
        "A": {"Type": "Pass", "Assign": {"n": "{% $states.input.n + 1 %}"}, "Output": {"from": "A"}, "Next": "B"},
        "B": {"Type": "Succeed", "Output": "{% [$n, $states.input.from] %}"},
    }));
    assert_eq!(Run::start(made, json!({"n": 1})).output(), json!([2, "A"]));
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
        machine(json!({
            "A": {"Type": "Pass", "Next": "B"},
            "B": {"Type": "Choice", "Choices": [{"Condition": "{% false %}", "Next": "E"}], "Default": "A"},
            "E": {"Type": "Succeed"},
        })),
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
    assert_eq!(
        run.output(),
        json!({
            "Execution": {
                "Id": "arn:aws:states:us-east-1:123456789012:execution:M:e",
                "Input": {"i": 1},
                "Name": "e",
                "RoleArn": "role",
                "StartTime": "2023-11-14T22:13:20.000Z",
                "RedriveCount": 0,
            },
            "State": {"EnteredTime": "2023-11-14T22:13:20.000Z", "Name": "A"},
            "StateMachine": {"Id": "arn:aws:states:us-east-1:123456789012:stateMachine:M", "Name": "M"},
        })
    );
}

#[test]
fn the_context_of_a_task_has_its_retries_and_its_token_and_that_of_an_iteration_its_item() {
    let payload = json!({"FunctionName": "f", "Payload": "{% $states.context %}"});
    let state = waiting(json!({"Arguments": payload}));
    let map = json!({"A": {"Type": "Map", "Items": ["x"], "End": true,
        "ItemProcessor": {"StartAt": "I", "States": {"I": state}}}});
    let run = Run::start(machine(map), json!({}));
    let context = &run.requests[0].2["Payload"];
    assert_eq!(context["State"]["RetryCount"], 0);
    assert_eq!(context["Task"], json!({"Token": run.tokens[0]}));
    assert_eq!(context["Map"], json!({"Item": {"Index": 0, "Value": "x"}}));
}
