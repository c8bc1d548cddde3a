use serde_json::json;

use super::*;

fn machine(states: Value) -> Value {
    json!({"QueryLanguage": "JSONata", "StartAt": "A", "States": states})
}

fn refused(states: Value) -> (String, String) {
    let fault = Definition::parse(&machine(states)).unwrap_err();
    (fault.path, fault.reason)
}

#[test]
fn an_unknown_field_or_state_type_is_refused_with_the_path_of_the_state() {
    let (path, reason) = refused(json!({"A": {"Type": "Pass", "End": true, "Colour": 1}}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "Field 'Colour' is not supported"));
    let (path, reason) = refused(json!({"A": {"Type": "Sleep", "End": true}}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "there is no state type \"Sleep\""));
    let (_, reason) =
        refused(json!({"A": {"Type": "Task", "End": true, "Credentials": {}, "Resource": "x"}}));
    assert_eq!(reason, "Credentials is not emulated by the local cloud");
    for field in ["ToleratedFailureCount", "ToleratedFailurePercentage", "ItemReader", "ResultWriter"] {
        let mut map = json!({"Type": "Map", "End": true, "ItemProcessor":
            {"StartAt": "I", "States": {"I": {"Type": "Succeed"}}}});
        map[field] = json!(1);
        assert_eq!(refused(json!({"A": map})).1, format!("{field} is not emulated by the local cloud"));
    }
    let distributed = json!({"Type": "Map", "End": true, "ItemProcessor": {"ProcessorConfig":
        {"Mode": "DISTRIBUTED"}, "StartAt": "I", "States": {"I": {"Type": "Succeed"}}}});
    let (path, reason) = refused(json!({"A": distributed}));
    assert_eq!(path, "States.A.ItemProcessor");
    assert_eq!(reason, "only ProcessorConfig.Mode INLINE is emulated");
}

#[test]
fn json_path_is_refused_by_the_name_of_its_field() {
    let (_, reason) = refused(json!({"A": {"Type": "Pass", "End": true, "ResultPath": "$.a"}}));
    assert!(reason.contains("field 'ResultPath' is only supported for the 'JSONPath'"), "{reason}");
    let implicit = json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}});
    assert_eq!(Definition::parse(&implicit).unwrap_err().path, "States.A.QueryLanguage");
    let own =
        json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true, "QueryLanguage": "JSONata"}}});
    assert!(Definition::parse(&own).is_ok());
}

#[test]
fn transitions_must_exist_and_every_state_must_be_reachable() {
    let end = || json!({"Type": "Succeed"});
    let (path, reason) = refused(json!({"A": {"Type": "Pass"}, "B": end()}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "the state needs either Next or End: true"));
    let (path, reason) = refused(json!({"A": {"Type": "Pass", "Next": "C"}, "B": end()}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A.Next", "Missing 'Next' target: C"));
    let caught = json!({"Type": "Parallel", "End": true, "Branches":
        [{"StartAt": "I", "States": {"I": end()}}], "Catch": [{"ErrorEquals": ["X"], "Next": "C"}]});
    assert_eq!(refused(json!({"A": caught})).0, "States.A.Catch[0].Next");
    let choice = json!({"Type": "Choice", "Choices": [{"Condition": "{% true %}", "Next": "C"}]});
    assert_eq!(refused(json!({"A": choice, "B": end()})).0, "States.A.Choices[0].Next");
    let (path, reason) = refused(json!({"A": end(), "B": end()}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.B", "State \"B\" is not reachable."));
    assert_eq!(refused(json!({"B": end()})).0, "StartAt");
    assert_eq!(refused(json!({"A": {"Type": "Pass", "Next": "A"}})).1, "Workflow has no terminal state");
}

#[test]
fn json_ata_that_does_not_compile_is_refused_where_it_stands() {
    let (path, reason) = refused(json!({"A": {"Type": "Pass", "End": true, "Output": {"x": "{% $a[ %}"}}}));
    assert_eq!(path, "States.A.Output.x");
    assert!(reason.contains("does not compile"), "{reason}");
    let inner = json!({"StartAt": "I", "States": {"I": {"Type": "Wait", "Seconds": "{% ( %}", "End": true}}});
    let (path, _) = refused(json!({"A": {"Type": "Map", "ItemProcessor": inner, "End": true}}));
    assert_eq!(path, "States.A.ItemProcessor.States.I.Seconds");
}

#[test]
fn a_resource_or_an_argument_that_is_not_emulated_is_refused() {
    let (path, reason) =
        refused(json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::sns:publish", "End": true}}));
    assert_eq!(path, "States.A.Resource");
    assert_eq!(reason, "arn:aws:states:::sns:publish is not emulated");
    let (path, _) = refused(json!({"A": {
        "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true, "Arguments": {"Payload": 1},
    }}));
    assert_eq!(path, "States.A.Arguments");
}

#[test]
fn states_all_stands_alone_and_last() {
    let task = |retry: Value| {
        json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
            "Arguments": {"FunctionName": "f"}, "Retry": retry}})
    };
    let all = json!({"ErrorEquals": ["States.ALL"]});
    assert_eq!(refused(task(json!([all, {"ErrorEquals": ["X"]}]))).0, "States.A.Retry[0]");
    assert_eq!(refused(task(json!([{"ErrorEquals": ["States.ALL", "X"]}]))).0, "States.A.Retry[0]");
    assert!(Definition::parse(&machine(task(json!([{"ErrorEquals": ["X"]}, all])))).is_ok());
}

#[test]
fn an_inner_scope_has_variable_names_of_its_own() {
    let branch = json!({"StartAt": "B", "States": {"B": {"Type": "Pass", "Assign": {"x": 1}, "End": true}}});
    let (path, reason) = refused(json!({
        "A": {"Type": "Pass", "Assign": {"x": 1}, "Next": "P"},
        "P": {"Type": "Parallel", "Branches": [branch], "End": true},
    }));
    assert_eq!(path, "States.B.Assign");
    assert!(reason.starts_with("$x is a variable of an outer scope"), "{reason}");
}

#[test]
fn state_names_are_unique_in_the_whole_machine() {
    let branch = json!({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}});
    let (_, reason) = refused(json!({"A": {"Type": "Parallel", "Branches": [branch], "End": true}}));
    assert_eq!(reason, "Duplicate State name: A");
}

#[test]
fn a_heartbeat_is_shorter_than_the_time_out() {
    let task = |timeout: u64, heartbeat: u64| {
        json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "Arguments": {"FunctionName": "f"}, "TimeoutSeconds": timeout, "HeartbeatSeconds": heartbeat,
            "End": true}})
    };
    assert!(Definition::parse(&machine(task(10, 9))).is_ok());
    assert_eq!(refused(task(10, 10)).0, "States.A.HeartbeatSeconds");
    assert_eq!(refused(task(0, 1)).0, "States.A.TimeoutSeconds");
}

#[test]
fn figures_have_the_limits_of_aws() {
    let wait = |seconds: Value| json!({"A": {"Type": "Wait", "Seconds": seconds, "End": true}});
    assert!(Definition::parse(&machine(wait(json!(99_999_999)))).is_ok());
    for seconds in [json!(100_000_000), json!(-1), json!(1.5), json!("1")] {
        assert_eq!(refused(wait(seconds)).0, "States.A.Seconds");
    }
    let retried = |retrier: Value| {
        let mut retrier = retrier;
        retrier["ErrorEquals"] = json!(["X"]);
        json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
            "Arguments": {"FunctionName": "f"}, "Retry": [retrier]}})
    };
    let longest = json!({"IntervalSeconds": 99_999_999, "MaxAttempts": 99_999_999, "BackoffRate": 1.0,
        "MaxDelaySeconds": 31_622_399});
    assert!(Definition::parse(&machine(retried(longest))).is_ok());
    for retrier in [
        json!({"IntervalSeconds": 0}),
        json!({"IntervalSeconds": 100_000_000}),
        json!({"MaxAttempts": 100_000_000}),
        json!({"BackoffRate": 0.9}),
        json!({"MaxDelaySeconds": 31_622_400}),
    ] {
        assert_eq!(refused(retried(retrier)).0, "States.A.Retry[0]");
    }
    let mut limited = machine(wait(json!(1)));
    limited["TimeoutSeconds"] = json!(100_000_000);
    assert_eq!(Definition::parse(&limited).unwrap_err().path, "TimeoutSeconds");
}
