//! Tasks: attempts, tokens, time-outs, Retry and Catch.

use super::*;

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
    assert_eq!(chain, [0, 0, 2, 3, 4, 5, 6, 7, 8]);
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
fn the_first_retrier_that_matches_is_taken_and_each_counts_for_itself() {
    let retry = json!([
        {"ErrorEquals": ["Busy"], "IntervalSeconds": 2, "MaxAttempts": 1},
        {"ErrorEquals": ["Never"], "MaxAttempts": 0},
        {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 5, "BackoffRate": 1, "MaxAttempts": 2},
    ]);
    let start = || Run::start(machine(json!({"A": task(json!({"Retry": retry}))})), json!({}));
    let mut run = start();
    for (error, delay) in [("Busy", 2), ("Other", 5), ("Other", 5)] {
        run.fail(error);
        assert_eq!(run.due_in(), Some(delay * 1000), "{error}");
        run.after(delay as f64);
    }
    // The first retrier matches still, and is used up; the last one is not asked.
    run.fail("Busy");
    assert_eq!(run.error(), "Busy");
    let mut never = start();
    never.fail("Never");
    assert_eq!(never.error(), "Never");
}

#[test]
fn a_retrier_without_figures_waits_1_2_and_4_seconds() {
    let retry = json!([{"ErrorEquals": ["States.ALL"]}]);
    let mut run = Run::start(machine(json!({"A": task(json!({"Retry": retry}))})), json!({}));
    for delay in [1, 2, 4] {
        run.fail("Busy");
        assert_eq!(run.due_in(), Some(delay * 1000));
        run.after(delay as f64);
    }
    run.fail("Busy");
    assert_eq!(run.error(), "Busy");
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
        (&named("States.TaskFailed"), "States.HeartbeatTimeout", false),
    ] {
        assert_eq!(matches_error(names, &failure(error), false), matches, "{names:?} {error}");
    }
}

#[test]
fn a_result_over_256_kib_is_data_limit_exceeded() {
    let catch = json!([{"ErrorEquals": ["States.ALL"], "Next": "B"}]);
    let states = |resource: &str| {
        let more = json!({"Catch": catch, "Resource": resource});
        machine(json!({"A": task(more), "B": {"Type": "Succeed"}}))
    };
    // The quotes are two bytes of it.
    let mut whole = Run::start(states(INVOKE), json!({}));
    whole.answer(Ok(json!("x".repeat(PAYLOAD_LIMIT - 2))));
    assert_eq!(whole.execution.meta.status, Status::Succeeded);
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
    for (resource, what) in [(INVOKE, "lambda"), (arn, arn)] {
        let mut run = Run::start(states(resource), json!({}));
        run.answer(Ok(json!("x".repeat(PAYLOAD_LIMIT - 1))));
        assert_eq!(run.error(), "States.DataLimitExceeded");
        let cause = run.execution.meta.failure.as_ref().unwrap().cause.clone().unwrap();
        assert_eq!(
            cause,
            format!(
                "The state/task '{what}' returned a result with a size exceeding the maximum number of bytes service limit."
            )
        );
    }
}

#[test]
fn arguments_and_outputs_over_256_kib_are_data_limit_exceeded() {
    let long = format!("{{% $pad('', {PAYLOAD_LIMIT}, 'x') %}}");
    let argument = task(json!({"Arguments": {"FunctionName": "f", "Payload": long}}));
    let output = json!({"Type": "Pass", "Output": long, "End": true});
    for state in [argument, output] {
        let run = Run::start(machine(json!({"A": state})), json!({}));
        assert_eq!(run.error(), "States.DataLimitExceeded");
        assert!(run.requests.is_empty());
    }
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
fn heartbeats_keep_a_waiting_task_alive_and_a_missed_one_ends_it_as_a_time_out() {
    let mut run = Run::start(
        machine(json!({"A": waiting(json!({"HeartbeatSeconds": 10, "TimeoutSeconds": 100}))})),
        json!({}),
    );
    run.after(9.0);
    assert!(run.give(Stimulus::Heartbeat(run.tokens[0].clone())));
    run.after(9.0);
    assert_eq!(run.execution.meta.status, Status::Running);
    run.after(1.0);
    assert_eq!(run.error(), "States.Timeout");
    assert_eq!(run.events[4].details["error"], "States.Timeout");
}

#[test]
fn a_missed_heartbeat_has_a_name_of_its_own_for_catchers_only() {
    let catching = |name: &str| {
        let catch = json!([{"ErrorEquals": [name], "Next": "B"}]);
        let mut run = Run::start(
            machine(json!({
                "A": waiting(json!({"HeartbeatSeconds": 10, "Catch": catch})),
                "B": {"Type": "Succeed", "Output": "{% $states.input.Error %}"},
            })),
            json!({}),
        );
        run.after(10.0);
        run
    };
    assert_eq!(catching("States.HeartbeatTimeout").output(), json!("States.Timeout"));
    assert_eq!(catching("States.Timeout").output(), json!("States.Timeout"));
    assert_eq!(catching("States.TaskFailed").error(), "States.Timeout");
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
