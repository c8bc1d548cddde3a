use super::*;

fn resource(name: &str) -> Resource {
    Resource::parse(&format!("arn:aws:states:::{name}")).unwrap()
}

fn error_name(name: &str, code: &str) -> String {
    resource(name).settle(Err(AwsError::client(code, "no")), "id").unwrap_err().error.unwrap()
}

#[test]
fn sdk_errors_carry_the_service_prefix_and_always_end_in_exception() {
    assert_eq!(
        error_name("aws-sdk:dynamodb:putItem", "ConditionalCheckFailedException"),
        "DynamoDb.ConditionalCheckFailedException"
    );
    assert_eq!(error_name("aws-sdk:s3:getObject", "NoSuchKey"), "S3.NoSuchKeyException");
    assert_eq!(error_name("aws-sdk:s3:headObject", "NotFound"), "S3.NoSuchKeyException");
    assert_eq!(error_name("aws-sdk:s3:headObject", "AccessDenied"), "S3.S3Exception");
    assert_eq!(error_name("aws-sdk:dynamodb:getItem", "ValidationException"), "DynamoDb.DynamoDbException");
    assert_eq!(
        error_name("aws-sdk:rekognition:detectModerationLabels", "InvalidS3ObjectException"),
        "Rekognition.InvalidS3ObjectException"
    );
    assert_eq!(
        error_name("aws-sdk:sfn:startExecution", "ExecutionAlreadyExists"),
        "Sfn.ExecutionAlreadyExistsException"
    );
}

#[test]
fn optimised_integrations_have_their_own_prefixes() {
    assert_eq!(
        error_name("dynamodb:updateItem", "ConditionalCheckFailedException"),
        "DynamoDB.ConditionalCheckFailedException"
    );
    assert_eq!(error_name("lambda:invoke", "TooManyRequestsException"), "Lambda.TooManyRequestsException");
    assert_eq!(error_name("lambda:invoke", "InternalFailure"), "Lambda.ServiceException");
}

#[test]
fn the_cause_of_an_error_of_a_service_is_written_as_the_sdk_behind_the_integration_writes_it() {
    let cause = |name: &str| {
        let error = AwsError::new(404, "ResourceNotFoundException", "Not here");
        resource(name).settle(Err(error), "r-1").unwrap_err().cause.unwrap()
    };
    assert_eq!(
        cause("dynamodb:getItem"),
        "Not here (Service: AmazonDynamoDBv2; Status Code: 404; Error Code: ResourceNotFoundException; Request ID: r-1; Proxy: null)"
    );
    assert_eq!(
        cause("aws-sdk:dynamodb:getItem"),
        "Not here (Service: DynamoDb, Status Code: 404, Request ID: r-1)"
    );
}

#[test]
fn an_optimised_integration_adds_what_the_sdk_knows_of_the_call_and_an_sdk_one_nothing() {
    let answer = || Ok(Reply::Answer(json!({"Item": {}})));
    assert_eq!(
        resource("dynamodb:getItem").settle(answer(), "r-1").unwrap(),
        json!({"Item": {}, "SdkHttpMetadata": {"HttpStatusCode": 200},
            "SdkResponseMetadata": {"RequestId": "r-1"}})
    );
    assert_eq!(resource("aws-sdk:dynamodb:getItem").settle(answer(), "r-1").unwrap(), json!({"Item": {}}));
}

#[test]
fn a_function_error_is_named_by_its_error_type_and_caused_by_its_document() {
    let reply = |payload| Reply::Invoked {
        payload,
        function_error: Some("Unhandled".into()),
        request_id: "r".into(),
    };
    let document = json!({"errorType": "ContractTableDown", "errorMessage": "m"});
    let failure = resource("lambda:invoke").settle(Ok(reply(document.clone())), "id").unwrap_err();
    assert_eq!(failure.error.unwrap(), "ContractTableDown");
    assert_eq!(failure.cause.unwrap(), document.to_string());
    let unknown = resource("lambda:invoke").settle(Ok(reply(Value::Null)), "id").unwrap_err();
    assert_eq!(unknown.error.unwrap(), "Lambda.Unknown");
    assert_eq!(
        unknown.cause.unwrap(),
        "The cause could not be determined because Lambda did not return an error type. Returned payload: null"
    );
}

#[test]
fn lambda_invoke_answers_with_payload_version_and_status() {
    let reply = Reply::Invoked { payload: json!({"ok": 1}), function_error: None, request_id: "r-1".into() };
    let result = resource("lambda:invoke").settle(Ok(reply), "id").unwrap();
    assert_eq!(result["Payload"], json!({"ok": 1}));
    assert_eq!(result["ExecutedVersion"], "$LATEST");
    assert_eq!(result["StatusCode"], 200);
    assert_eq!(result["SdkResponseMetadata"]["RequestId"], "r-1");
}

#[test]
fn put_events_fails_on_a_failed_entry_and_appends_both_arns_to_resources() {
    let put = resource("events:putEvents");
    let arguments = json!({"Entries": [{"Detail": {"a": 1}, "Resources": ["p"]}, {"Detail": "{}"}]});
    let Request::Call { service, action, input } = put.request(arguments, "exec", "machine").unwrap() else {
        panic!("not a call");
    };
    assert_eq!((service, action), ("events", "PutEvents"));
    assert_eq!(input["Entries"][0]["Detail"], r#"{"a":1}"#);
    assert_eq!(input["Entries"][0]["Resources"], json!(["p", "exec", "machine"]));
    assert_eq!(input["Entries"][1]["Resources"], json!(["exec", "machine"]));
    let answer = json!({"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]});
    let failure = put.settle(Ok(Reply::Answer(answer)), "id").unwrap_err();
    assert_eq!(failure.error.unwrap(), "EventBridge.FailedEntry");
    assert!(put.settle(Ok(Reply::Answer(json!({"FailedEntryCount": 0}))), "id").is_ok());
}

#[test]
fn sqs_bodies_become_text_and_sfn_members_change_case() {
    let send = resource("sqs:sendMessage.waitForTaskToken");
    assert!(send.waits_for_token);
    assert_eq!(send.history_names(), ("sqs", "sendMessage.waitForTaskToken"));
    let Request::Call { input, .. } =
        send.request(json!({"QueueUrl": "q", "MessageBody": {"t": 1}}), "", "").unwrap()
    else {
        panic!("not a call");
    };
    assert_eq!(input["MessageBody"], r#"{"t":1}"#);
    let start = resource("aws-sdk:sfn:startExecution");
    assert_eq!(start.history_names(), ("aws-sdk:sfn", "startExecution"));
    let arguments = json!({"StateMachineArn": "m", "Input": {"a": 1}});
    assert_eq!(
        start.request(arguments, "", "").unwrap(),
        Request::Call {
            service: "states",
            action: "StartExecution",
            input: json!({"stateMachineArn": "m", "input": "{\"a\":1}"})
        }
    );
    let answer = json!({"executionArn": "e", "startDate": 1_700_000_000.123});
    let result = start.settle(Ok(Reply::Answer(answer)), "id").unwrap();
    assert_eq!(result, json!({"ExecutionArn": "e", "StartDate": "2023-11-14T22:13:20.123Z"}));
}

#[test]
fn what_is_not_emulated_is_refused_by_name() {
    for name in ["sns:publish", "aws-sdk:ec2:describeInstances", "states:startExecution.sync:2"] {
        let arn = format!("arn:aws:states:::{name}");
        assert_eq!(Resource::parse(&arn).unwrap_err(), format!("{arn} is not emulated"));
    }
    assert!(Resource::parse("arn:aws:states:::dynamodb:getItem.waitForTaskToken").is_err());
    let reason = resource("lambda:invoke").check(&json!({"FunctionName": "f", "Qualifier": "1"}));
    assert!(reason.unwrap_err().contains("Qualifier"));
}
