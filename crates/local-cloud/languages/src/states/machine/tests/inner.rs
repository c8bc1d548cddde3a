//! Parallel and Map.

use super::*;

fn one_task_branch(name: &str) -> Value {
    let mut branch = json!({"StartAt": name, "States": {}});
    branch["States"][name] = task(json!({"Output": "{% $states.result %}"}));
    branch
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
fn an_array_of_one_item_is_still_an_array_for_a_map() {
    let run = Run::start(mapped(json!({})), json!({"items": ["only"]}));
    assert_eq!(run.requests[0].2["Payload"], "only");
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
fn a_map_never_runs_more_than_40_items_at_a_time() {
    let items: Vec<u64> = (0..50).collect();
    for concurrency in [0, 1000] {
        let run = Run::start(mapped(json!({"MaxConcurrency": concurrency})), json!({"items": items}));
        assert_eq!(run.requests.len(), 40);
    }
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
