//! State machines, deployed and through the API.

use super::*;

#[tokio::test]
async fn machines_are_described_listed_and_tagged_as_deployed() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![]).await;
    let described = test.call("DescribeStateMachine", json!({"stateMachineArn": test.arn})).await.unwrap();
    assert_eq!(described["creationDate"], 1_700_000_000.0);
    assert_eq!((&described["status"], &described["type"]), (&json!("ACTIVE"), &json!("STANDARD")));
    assert_eq!(described["roleArn"], "arn:aws:iam::123456789012:role/r");
    assert_eq!(described["loggingConfiguration"], json!({"level": "OFF", "includeExecutionData": false}));
    assert_eq!(described["tracingConfiguration"], json!({"enabled": false}));
    assert!(described.get("revisionId").is_none(), "only an update makes a revision");
    let definition: Value = serde_json::from_str(described["definition"].as_str().unwrap()).unwrap();
    assert_eq!(definition["States"]["A"]["Arguments"]["FunctionName"], "f");
    let listed = test.call("ListStateMachines", json!({})).await.unwrap();
    assert_eq!(listed["stateMachines"][0]["name"], "M");
    let tags = test.call("ListTagsForResource", json!({"resourceArn": test.arn})).await.unwrap();
    assert_eq!(tags, json!({"tags": [{"key": "Owner", "value": "local"}]}));
}

#[tokio::test]
async fn a_machine_has_a_revision_once_it_was_updated() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![]).await;
    let describe = || test.call("DescribeStateMachine", json!({"stateMachineArn": test.arn}));
    assert!(describe().await.unwrap().get("revisionId").is_none());
    test.cloud.deploy(&resource(&test.arn, passing())).await.unwrap();
    let updated = describe().await.unwrap();
    assert!(updated["revisionId"].is_string());
    assert_eq!(updated["creationDate"], 1_700_000_000.0);
    test.cloud.deploy(&resource(&test.arn, passing())).await.unwrap();
    assert_eq!(describe().await.unwrap()["revisionId"], updated["revisionId"], "nothing has changed");
}

const RIGHT: &str = r#"{ "QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Succeed"}} }"#;

#[tokio::test]
async fn a_definition_is_validated_with_the_code_the_words_and_the_place_of_aws() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let create = async |definition: &str| {
        let input = json!({"name": "N", "definition": definition, "roleArn": "r"});
        let refused = test.call("CreateStateMachine", input).await.unwrap_err();
        assert_eq!(refused.code, "InvalidDefinition");
        refused.message
    };
    let state = |state: &str| {
        format!(r#"{{"QueryLanguage": "JSONata", "StartAt": "A", "States": {{"A": {state}}}}}"#)
    };
    let schema = "SCHEMA_VALIDATION_FAILED";
    for (definition, code, message, location) in [
        (String::new(), schema, "Definition must be a valid JSON object", None),
        ("{}".into(), schema, "These fields are required: [States, StartAt]", Some("/")),
        (r#"{"States": {}}"#.into(), schema, "These fields are required: [StartAt]", Some("/")),
        (
            "not a definition".into(),
            "INVALID_JSON_DESCRIPTION",
            "Unrecognized token 'not': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
            None,
        ),
        (
            state(r#"{"Type": "Pass", "End": true, "Colour": 1}"#),
            schema,
            "Field 'Colour' is not supported",
            Some("/States/A"),
        ),
        (
            state(r#"{"Type": "Pass", "End": true, "ResultPath": "$"}"#),
            schema,
            "The QueryLanguage is set to 'JSONata', but field 'ResultPath' is only supported for the 'JSONPath' QueryLanguage",
            Some("/States/A"),
        ),
        (
            state(r#"{"Type": "Pass", "End": true, "QueryLanguage": "JSONPath"}"#),
            schema,
            "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine",
            Some("/States/A"),
        ),
        (
            state(
                r#"{"Type": "Choice", "Choices": [{"Condition": true, "Next": "E"}], "Default": "B"}, "E": {"Type": "Succeed"}"#,
            ),
            "MISSING_TRANSITION_TARGET",
            "Missing 'Next' target: B",
            Some("/States/A/Default"),
        ),
        (
            state(r#"{"Type": "Succeed"}, "B": {"Type": "Succeed"}"#),
            "MISSING_TRANSITION_TARGET",
            "State \"B\" is not reachable.",
            Some("/States/B"),
        ),
        (
            state(r#"{"Type": "Pass", "Next": "A"}"#),
            "MISSING_END_STATE",
            "Workflow has no terminal state",
            None,
        ),
        (
            state(r#"{"Type": "Pass", "Output": "{% $eval('1') %}", "End": true}"#),
            "UNSUPPORTED_JSONATA_EXPRESSION",
            "$eval does not exist in Step Functions; use $parse",
            Some("/States/A/Output"),
        ),
    ] {
        let at = location.unwrap_or("null");
        let expected = format!("Invalid State Machine Definition: '{code}: {message} at {at}'");
        assert_eq!(create(&definition).await, expected);
    }
    let compile = create(&state(r#"{"Type": "Pass", "Output": "{% $a[ %}", "End": true}"#)).await;
    assert!(compile.contains("INVALID_JSONATA_EXPRESSION"), "{compile}");
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_definition_is_told_at_once() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let wrong = r#"{"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"},
        "C": {"Type": "Succeed"}}}"#;
    let create = json!({"name": "N", "definition": wrong, "roleArn": "r"});
    assert_eq!(
        test.call("CreateStateMachine", create).await.unwrap_err().message,
        "Invalid State Machine Definition: ''MISSING_TRANSITION_TARGET: Missing 'Next' target: B at /States/A/Next', 'MISSING_TRANSITION_TARGET: State \"C\" is not reachable. at /States/C''"
    );
}

#[tokio::test]
async fn a_machine_is_created_once_through_the_api_and_keeps_its_text() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let create = |definition: &str, more: Value| {
        let mut input = json!({"name": "N", "definition": definition, "roleArn": "arn:aws:iam::1:role/r"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        test.call("CreateStateMachine", input)
    };
    let wrong = create(r#"{"StartAt": "A"}"#, json!({})).await.unwrap_err();
    assert_eq!(wrong.code, "InvalidDefinition");
    assert_eq!(
        wrong.message,
        "Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: These fields are required: [States] at /'"
    );
    let arn = create(RIGHT, json!({})).await.unwrap()["stateMachineArn"].clone();
    let again = create(RIGHT, json!({"roleArn": "arn:aws:iam::1:role/other"})).await.unwrap();
    assert_eq!(again["stateMachineArn"], arn, "the same machine again is that machine");
    let described = test.call("DescribeStateMachine", json!({"stateMachineArn": arn})).await.unwrap();
    assert_eq!(described["definition"], RIGHT);
    let other = create(&RIGHT.replace(' ', ""), json!({})).await.unwrap_err();
    assert_eq!(other.code, "StateMachineAlreadyExists");
    let group = crate::logs::group_arn(&test.cloud, "/states/N");
    let logged = json!({"loggingConfiguration": {"level": "ALL",
        "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}]}});
    for more in [logged, json!({"tracingConfiguration": {"enabled": true}})] {
        let another = create(RIGHT, more.clone()).await.unwrap_err();
        assert_eq!(another.code, "StateMachineAlreadyExists", "{more}");
    }
    assert_eq!(other.message, format!("State Machine Already Exists: '{}'", arn.as_str().unwrap()));
    assert!(test.call("StartExecution", json!({"stateMachineArn": arn})).await.is_ok());
    test.call("DeleteStateMachine", json!({"stateMachineArn": arn})).await.unwrap();
    test.call("DeleteStateMachine", json!({"stateMachineArn": arn})).await.unwrap();
    let gone = test.call("DescribeStateMachine", json!({"stateMachineArn": arn})).await.unwrap_err();
    assert_eq!(gone.code, "StateMachineDoesNotExist");
}

#[tokio::test]
async fn a_machine_is_created_with_its_logging_and_refused_without_a_destination() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let create = |logging: Value| {
        let input =
            json!({"name": "N", "definition": RIGHT, "roleArn": "r", "loggingConfiguration": logging});
        test.call("CreateStateMachine", input)
    };
    let refused = create(json!({"level": "ALL"})).await.unwrap_err();
    assert_eq!(refused.code, "InvalidLoggingConfiguration");
    assert_eq!(refused.message, "Invalid Logging Configuration: Must specify exactly one Log Destination.");
    let group = crate::logs::group_arn(&test.cloud, "/states/N");
    let bare = json!({"level": "ALL",
        "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group.trim_end_matches(":*")}}]});
    assert_eq!(create(bare).await.unwrap_err().code, "InvalidLoggingConfiguration");
    let logging = json!({"level": "ALL", "includeExecutionData": true,
        "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}]});
    let arn = create(logging.clone()).await.unwrap()["stateMachineArn"].clone();
    let described = test.call("DescribeStateMachine", json!({"stateMachineArn": arn})).await.unwrap();
    assert_eq!(described["loggingConfiguration"], logging);
    for (member, value) in
        [("type", json!("EXPRESS")), ("publish", json!(true)), ("versionDescription", json!("v"))]
    {
        let mut input = json!({"name": "X", "definition": RIGHT, "roleArn": "r"});
        input[member] = value;
        assert!(test.call("CreateStateMachine", input).await.is_err(), "{member}");
    }
}

#[tokio::test]
async fn a_property_or_a_substitution_that_is_not_known_is_refused_by_name() {
    let cloud = crate::testing::cloud();
    let arn = cloud.arn("states", "stateMachine:M");
    let mut unknown = resource(&arn, passing());
    unknown.properties["EncryptionConfiguration"] = json!({});
    let refusal = cloud.deploy(&unknown).await.unwrap_err().to_string();
    assert!(refusal.contains("EncryptionConfiguration"), "{refusal}");
    let mut express = resource(&arn, passing());
    express.properties["StateMachineType"] = json!("EXPRESS");
    assert_eq!(cloud.deploy(&express).await.unwrap_err().path, "Machine.Properties.StateMachineType");
    let mut logging = resource(&arn, passing());
    logging.properties["LoggingConfiguration"] = json!({"Level": "ALL"});
    assert_eq!(cloud.deploy(&logging).await.unwrap_err().path, "Machine.Properties.LoggingConfiguration");
    let group = json!({"CloudWatchLogsLogGroup": {"LogGroupArn": "arn:aws:logs:us-east-1:1:log-group:/a:*"}});
    logging.properties["LoggingConfiguration"]["Destinations"] = json!([group]);
    assert!(cloud.deploy(&logging).await.is_ok());
    let mut substitution = resource(&arn, waiting());
    substitution.properties["DefinitionSubstitutions"] = json!({});
    let refusal = cloud.deploy(&substitution).await.unwrap_err().to_string();
    assert!(refusal.contains("${Function}"), "{refusal}");
    let dangling = resource(&arn, json!({"A": {"Type": "Pass", "Next": "B"}, "E": {"Type": "Succeed"}}));
    let refusal = cloud.deploy(&dangling).await.unwrap_err();
    assert_eq!(refusal.path, "Machine.Properties.Definition.States.A.Next");
}

#[tokio::test]
async fn an_execution_keeps_the_definition_that_it_began_with() {
    let test = Test::open(None, Clock::system(), waiting(), vec![invoked()]).await;
    let execution = test.start("e").await;
    test.asked(1).await;
    test.cloud.deploy(&resource(&test.arn, passing())).await.unwrap();
    test.call("SendTaskSuccess", json!({"taskToken": test.token(), "output": "1"})).await.unwrap();
    assert_eq!(test.status(&execution).await, "SUCCEEDED");
    let next = test.start("next").await;
    assert_eq!(test.status(&next).await, "SUCCEEDED");
}
