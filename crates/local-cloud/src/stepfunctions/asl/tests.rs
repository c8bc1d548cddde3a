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
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "a Pass state has no field Colour here"));
    let (path, reason) = refused(json!({"A": {"Type": "Sleep", "End": true}}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "there is no state type \"Sleep\""));
    let (_, reason) =
        refused(json!({"A": {"Type": "Task", "End": true, "Credentials": {}, "Resource": "x"}}));
    assert!(reason.contains("Credentials"), "{reason}");
}

#[test]
fn json_path_is_refused_by_the_name_of_its_field() {
    let (_, reason) = refused(json!({"A": {"Type": "Pass", "End": true, "ResultPath": "$.a"}}));
    assert!(reason.starts_with("ResultPath belongs to JSONPath"), "{reason}");
    let implicit = json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}});
    assert_eq!(Definition::parse(&implicit).unwrap_err().path, "States.A.QueryLanguage");
    let own =
        json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true, "QueryLanguage": "JSONata"}}});
    assert!(Definition::parse(&own).is_ok());
}

#[test]
fn transitions_must_exist_and_every_state_must_be_reachable() {
    let (path, reason) = refused(json!({"A": {"Type": "Pass"}}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "the state needs either Next or End: true"));
    let (path, reason) = refused(json!({"A": {"Type": "Pass", "Next": "B"}}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.A", "it leads to \"B\", which does not exist"));
    let (path, reason) = refused(json!({"A": {"Type": "Succeed"}, "B": {"Type": "Succeed"}}));
    assert_eq!((path.as_str(), reason.as_str()), ("States.B", "no state leads to it"));
    assert_eq!(refused(json!({"B": {"Type": "Succeed"}})).0, "StartAt");
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
    assert!(reason.contains("unique"), "{reason}");
}
