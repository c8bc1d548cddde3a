//! The API of executions and task tokens.

use super::*;

#[tokio::test]
async fn input_and_output_leave_the_status_change_when_they_do_not_fit_into_an_event() {
    let with = |input: usize, output: usize| {
        let meta = cloud_languages::states::tree::Meta {
            input: "x".repeat(input),
            output: Some("y".repeat(output)),
            ..Default::default()
        };
        let detail = shown::status_change(&meta);
        let included = |name: &str| detail[name]["included"].as_bool().unwrap();
        (included("inputDetails"), included("outputDetails"))
    };
    assert_eq!(with(100, 100), (true, true));
    assert_eq!(with(200 * 1024, 100 * 1024), (false, true));
    assert_eq!(with(1, 250 * 1024), (false, false));
}

#[tokio::test]
async fn starting_again_under_the_same_name_is_idempotent_only_while_it_runs_with_the_same_input() {
    let clock = Clock::manual(NOW);
    let test = Test::open(None, clock, waiting(), vec![]).await;
    let first = test.start("e").await;
    assert_eq!(test.start("e").await, first);
    let other = json!({"stateMachineArn": test.arn, "name": "e", "input": "{\"a\":1}"});
    assert_eq!(test.call("StartExecution", other).await.unwrap_err().code, "ExecutionAlreadyExists");
    test.call("StopExecution", json!({"executionArn": first, "error": "E", "cause": "c"})).await.unwrap();
    let same = json!({"stateMachineArn": test.arn, "name": "e", "input": "{}"});
    let refused = test.call("StartExecution", same.clone()).await.unwrap_err();
    assert_eq!(refused.code, "ExecutionAlreadyExists");
    test.cloud.clock.advance(Duration::from_secs(91 * 24 * 60 * 60));
    assert!(test.call("StartExecution", same).await.is_ok());
}

#[tokio::test]
async fn bad_input_names_and_arns_get_the_errors_of_aws() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let long = "x".repeat(81);
    let limit = "1 validation error detected: Value";
    for (input, code, message) in [
        (
            json!({"stateMachineArn": test.arn, "input": "not json"}),
            "InvalidExecutionInput",
            "Invalid State Machine Execution Input: 'Unrecognized token 'not': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')'".to_owned(),
        ),
        (
            json!({"stateMachineArn": test.arn, "input": ""}),
            "InvalidExecutionInput",
            "Invalid State Machine Execution Input: 'Invalid execution input.'".to_owned(),
        ),
        (
            json!({"stateMachineArn": test.arn, "input": "\"".repeat(PAYLOAD + 1)}),
            "ValidationException",
            format!("{limit} at 'input' failed to satisfy constraint: Member must have length less than or equal to 262144"),
        ),
        (json!({"stateMachineArn": test.arn, "name": "a b"}), "InvalidName", "Invalid Name: 'a b'".to_owned()),
        (
            json!({"stateMachineArn": test.arn, "name": long}),
            "ValidationException",
            format!("{limit} '{long}' at 'name' failed to satisfy constraint: Member must have length less than or equal to 80"),
        ),
        (
            json!({"stateMachineArn": "nonsense"}),
            "InvalidArn",
            "Invalid Arn: 'Invalid ARN prefix: nonsense'".to_owned(),
        ),
        (
            json!({"stateMachineArn": test.cloud.arn("states", "execution:M:e")}),
            "InvalidArn",
            "Invalid Arn: 'Resource type not valid in this context: execution'".to_owned(),
        ),
        (
            json!({"stateMachineArn": format!("{}X", test.arn)}),
            "StateMachineDoesNotExist",
            format!("State Machine Does Not Exist: '{}X'", test.arn),
        ),
        (
            json!({"name": "e"}),
            "ValidationException",
            format!("{limit} null at 'stateMachineArn' failed to satisfy constraint: Member must not be null"),
        ),
    ] {
        let refused = test.call("StartExecution", input).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.message), (code, message));
    }
    for input in ["1", "\"text\"", "null"] {
        let input = json!({"stateMachineArn": test.arn, "input": input});
        assert!(test.call("StartExecution", input).await.is_ok(), "any JSON is an input");
    }
    let missing = json!({"executionArn": "arn:aws:states:eu-west-1:1:execution:M:none"});
    for action in ["DescribeExecution", "GetExecutionHistory", "StopExecution"] {
        let refused = test.call(action, missing.clone()).await.unwrap_err();
        assert_eq!(refused.code, "ExecutionDoesNotExist");
        assert_eq!(
            refused.message,
            "Execution Does Not Exist: 'arn:aws:states:eu-west-1:1:execution:M:none'"
        );
    }
}

const PAYLOAD: usize = cloud_languages::states::machine::PAYLOAD_LIMIT;

#[tokio::test]
async fn what_is_not_emulated_is_refused_by_name() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    for action in [
        "RedriveExecution",
        "StartSyncExecution",
        "UpdateStateMachine",
        "DescribeStateMachineForExecution",
        "ValidateStateMachineDefinition",
        "GetActivityTask",
        "CreateActivity",
        "ListMapRuns",
        "TestState",
        "PublishStateMachineVersion",
        "CreateStateMachineAlias",
    ] {
        let refused = test.call(action, json!({})).await.unwrap_err();
        assert_eq!(refused.code, "NotImplemented");
        assert!(refused.message.contains(action), "{}", refused.message);
    }
    for (action, input, name) in [
        ("StartExecution", json!({"stateMachineArn": test.arn, "colour": 1}), "colour"),
        ("ListExecutions", json!({"stateMachineArn": test.arn, "mapRunArn": "a"}), "mapRunArn"),
        ("ListExecutions", json!({"stateMachineArn": test.arn, "redriveFilter": "a"}), "redriveFilter"),
    ] {
        let refused = test.call(action, input).await.unwrap_err();
        assert_eq!(refused.code, "ValidationException");
        assert!(refused.message.contains(name), "{}", refused.message);
    }
}

#[tokio::test]
async fn an_execution_is_described_with_all_that_applies_to_it_and_nothing_else() {
    let clock = Clock::manual(NOW);
    let test = Test::open(None, clock, waiting(), vec![]).await;
    let start = json!({"stateMachineArn": test.arn, "name": "e", "input": "{}", "traceHeader": "Root=1"});
    let execution = test.call("StartExecution", start).await.unwrap()["executionArn"].clone();
    let describe = || test.call("DescribeExecution", json!({"executionArn": execution}));
    let mut expected = json!({
        "executionArn": execution, "stateMachineArn": test.arn, "name": "e", "status": "RUNNING",
        "startDate": 1_700_000_000.0, "input": "{}", "inputDetails": {"included": true}, "redriveCount": 0,
        "redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": "Execution is RUNNING and cannot be redriven",
        "traceHeader": "Root=1",
    });
    assert_eq!(describe().await.unwrap(), expected);
    let bare = json!({"executionArn": execution, "includedData": "METADATA_ONLY"});
    assert!(test.call("DescribeExecution", bare).await.unwrap().get("input").is_none());

    test.call("StopExecution", json!({"executionArn": execution, "error": "E", "cause": "c"})).await.unwrap();
    let members = expected.as_object_mut().unwrap();
    members.remove("redriveStatusReason");
    let ended = json!({"status": "ABORTED", "stopDate": 1_700_000_000.0, "error": "E", "cause": "c",
        "redriveStatus": "REDRIVABLE"});
    members.extend(ended.as_object().unwrap().clone());
    assert_eq!(describe().await.unwrap(), expected);
    test.cloud.clock.advance(Duration::from_secs(15 * 24 * 60 * 60));
    let old = describe().await.unwrap();
    assert_eq!(old["redriveStatus"], "NOT_REDRIVABLE");
    assert_eq!(old["redriveStatusReason"], "Execution redrivable period exceeded");
}

#[tokio::test]
async fn a_success_is_described_with_its_output_and_cannot_be_redriven() {
    let test = Test::open(None, Clock::manual(NOW), passing(), vec![]).await;
    let execution = test.start("e").await;
    let described = test.call("DescribeExecution", json!({"executionArn": execution})).await.unwrap();
    assert_eq!(described["output"], "{}");
    assert_eq!(described["outputDetails"], json!({"included": true}));
    assert_eq!(described["redriveStatusReason"], "Execution is SUCCEEDED and cannot be redriven");
    assert!(described.get("error").is_none() && described.get("traceHeader").is_none());
}

#[tokio::test]
async fn the_status_change_on_the_default_bus_has_every_member_of_its_detail() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![]).await;
    let execution = test.start("e").await;
    test.call("StopExecution", json!({"executionArn": execution, "error": "E", "cause": "c"})).await.unwrap();
    test.published(2).await;
    let published = locked(&test.stub().published).clone();
    let mut expected = json!({
        "executionArn": execution, "stateMachineArn": test.arn, "name": "e", "status": "RUNNING",
        "startDate": NOW, "stopDate": null, "input": "{}", "output": null, "stateMachineVersionArn": null,
        "stateMachineAliasArn": null, "redriveCount": 0, "redriveDate": null,
        "redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": "Execution is RUNNING and cannot be redriven",
        "inputDetails": {"included": true}, "outputDetails": null, "error": null, "cause": null,
    });
    assert_eq!(published[0], expected);
    let ended = json!({"status": "ABORTED", "stopDate": NOW, "error": "E", "cause": "c",
        "redriveStatus": "REDRIVABLE", "redriveStatusReason": null});
    expected.as_object_mut().unwrap().extend(ended.as_object().unwrap().clone());
    assert_eq!(published[1], expected);
}

#[tokio::test]
async fn a_token_is_invalid_when_unknown_and_timed_out_once_its_task_is_closed() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![invoked()]).await;
    let execution = test.start("e").await;
    test.asked(1).await;
    let token = test.token();
    let unknown = test.call("SendTaskHeartbeat", json!({"taskToken": "x"})).await.unwrap_err();
    assert_eq!(unknown.code, "InvalidToken");
    let bad = test.call("SendTaskSuccess", json!({"taskToken": token, "output": "{"})).await.unwrap_err();
    assert_eq!(bad.code, "InvalidOutput");
    let long = json!({"taskToken": token, "error": "E".repeat(257)});
    assert_eq!(test.call("SendTaskFailure", long).await.unwrap_err().code, "ValidationException");
    test.call("SendTaskHeartbeat", json!({"taskToken": token})).await.unwrap();
    test.call("SendTaskFailure", json!({"taskToken": token, "error": "E", "cause": "c"})).await.unwrap();
    let described = test.call("DescribeExecution", json!({"executionArn": execution})).await.unwrap();
    assert_eq!((&described["status"], &described["error"]), (&json!("FAILED"), &json!("E")));
    let late = test.call("SendTaskSuccess", json!({"taskToken": token, "output": "1"})).await.unwrap_err();
    assert_eq!(late.code, "TaskTimedOut");
    test.call("DeleteStateMachine", json!({"stateMachineArn": test.arn})).await.unwrap();
    let gone = test.call("SendTaskHeartbeat", json!({"taskToken": token})).await.unwrap_err();
    assert_eq!(gone.code, "TaskDoesNotExist");
}

#[tokio::test]
async fn a_task_times_out_by_the_clock_of_the_cloud() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![invoked()]).await;
    let execution = test.start("e").await;
    test.published(1).await;
    test.cloud.clock.advance(Duration::from_secs(60));
    assert_eq!(test.published(2).await, "FAILED");
    let described = test.call("DescribeExecution", json!({"executionArn": execution})).await.unwrap();
    assert_eq!(described["error"], "States.Timeout");
    assert_eq!(described["stopDate"], (NOW + 60_000) as f64 / 1000.0);
}

#[tokio::test]
async fn executions_are_listed_newest_first_by_status_and_in_pages() {
    let test = Test::open(None, Clock::system(), waiting(), vec![]).await;
    for name in ["a", "b", "c"] {
        test.start(name).await;
    }
    let b = test.cloud.arn("states", "execution:M:b");
    test.call("StopExecution", json!({"executionArn": b})).await.unwrap();
    let names = |page: &Value| -> Vec<String> {
        let executions = page["executions"].as_array().unwrap();
        executions.iter().map(|execution| execution["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = |more: Value| {
        let mut input = json!({"stateMachineArn": test.arn});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        test.call("ListExecutions", input)
    };
    let page = list(json!({"maxResults": 2})).await.unwrap();
    assert_eq!(names(&page), ["c", "b"]);
    let page = list(json!({"maxResults": 2, "nextToken": page["nextToken"]})).await.unwrap();
    assert_eq!(names(&page), ["a"]);
    assert!(page.get("nextToken").is_none());
    assert_eq!(names(&list(json!({"statusFilter": "ABORTED"})).await.unwrap()), ["b"]);
    assert_eq!(list(json!({"nextToken": "zzz"})).await.unwrap_err().code, "InvalidToken");
    let first = "1 validation error detected: Value";
    for (input, message) in [
        (
            json!({"maxResults": 1001}),
            format!(
                "{first} '1001' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 1000"
            ),
        ),
        (
            json!({"maxResults": -1}),
            format!(
                "{first} '-1' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 0"
            ),
        ),
        (
            json!({"statusFilter": "succeeded"}),
            format!(
                "{first} 'succeeded' at 'statusFilter' failed to satisfy constraint: Member must satisfy enum value set: [SUCCEEDED, TIMED_OUT, PENDING_REDRIVE, ABORTED, FAILED, RUNNING]"
            ),
        ),
    ] {
        let refused = list(input).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.message), ("ValidationException", message));
    }
}

#[tokio::test]
async fn the_history_is_paged_in_both_orders_and_can_leave_data_out() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let execution = test.start("e").await;
    let history = |more: Value| {
        let mut input = json!({"executionArn": execution});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        test.call("GetExecutionHistory", input)
    };
    let kinds = |page: &Value| -> Vec<String> {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = history(json!({"maxResults": 3})).await.unwrap();
    assert_eq!(kinds(&page), ["ExecutionStarted", "PassStateEntered", "PassStateExited"]);
    let page = history(json!({"maxResults": 3, "nextToken": page["nextToken"]})).await.unwrap();
    assert_eq!(kinds(&page), ["ExecutionSucceeded"]);
    let page = history(json!({"reverseOrder": true, "includeExecutionData": false})).await.unwrap();
    assert_eq!(kinds(&page)[0], "ExecutionSucceeded");
    assert_eq!(page["events"][0]["executionSucceededEventDetails"], json!({}));
}
