use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::random::Random;
use crate::resource::Resource as TemplateResource;
use crate::stepfunctions::{call, deploy, start as start_service};

const NOW: i64 = 1_700_000_000_000;

/// Stands in for the rest of the cloud: gives scripted replies, or none, and keeps what was
/// asked and published.
#[derive(Debug, Default)]
pub struct Stub {
    replies: Mutex<VecDeque<Result<Reply, AwsError>>>,
    asked: Mutex<Vec<Request>>,
    published: Mutex<Vec<Value>>,
    changed: Notify,
}

impl Stub {
    pub fn answer(&self, request: Request) -> BoxFuture<'_, Result<Reply, AwsError>> {
        locked(&self.asked).push(request);
        self.changed.notify_waiters();
        let reply = locked(&self.replies).pop_front();
        Box::pin(async move {
            match reply {
                Some(reply) => reply,
                None => std::future::pending().await,
            }
        })
    }

    pub fn published(&self, detail: &Value) {
        locked(&self.published).push(detail.clone());
        self.changed.notify_waiters();
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done(self) {
                return;
            }
            changed.await;
        }
    }
}

struct Test {
    cloud: Arc<Cloud>,
    arn: String,
}

impl Test {
    async fn open(
        folder: Option<&std::path::Path>,
        clock: Clock,
        states: Value,
        replies: Vec<Reply>,
    ) -> Self {
        let settings = crate::Settings { state: folder.map(Into::into), ..crate::Settings::for_tests() };
        let cloud = Cloud::open(settings, clock, Random::from_entropy()).unwrap();
        let stub = Stub { replies: Mutex::new(replies.into_iter().map(Ok).collect()), ..Stub::default() };
        cloud.stepfunctions.runner.stub.set(stub).unwrap();
        let arn = cloud.arn("states", "stateMachine:M");
        let resource = resource(&arn, states);
        deploy(&cloud, &resource).await.unwrap();
        start_service(&cloud);
        Self { cloud, arn }
    }

    fn stub(&self) -> &Stub {
        self.cloud.stepfunctions.runner.stub.get().unwrap()
    }

    async fn call(&self, action: &str, input: Value) -> Result<Value, AwsError> {
        call(&self.cloud, action, input).await
    }

    async fn start(&self, name: &str) -> String {
        let input = json!({"stateMachineArn": self.arn, "name": name, "input": "{}"});
        self.call("StartExecution", input).await.unwrap()["executionArn"].as_str().unwrap().to_owned()
    }

    async fn status(&self, execution: &str) -> String {
        let described = self.call("DescribeExecution", json!({"executionArn": execution})).await.unwrap();
        described["status"].as_str().unwrap().to_owned()
    }

    /// Waits until `count` status changes are published; gives the last one's status.
    async fn published(&self, count: usize) -> String {
        self.stub().until(|stub| locked(&stub.published).len() >= count).await;
        locked(&self.stub().published).last().unwrap()["status"].as_str().unwrap().to_owned()
    }

    fn token(&self) -> String {
        let asked = locked(&self.stub().asked);
        let Some(Request::Invoke { payload, .. }) = asked.last() else { panic!("nothing was asked") };
        payload["token"].as_str().unwrap().to_owned()
    }

    async fn asked(&self, count: usize) {
        self.stub().until(|stub| locked(&stub.asked).len() >= count).await;
    }
}

fn resource(arn: &str, states: Value) -> TemplateResource {
    TemplateResource {
        stack: "s".into(),
        logical_id: "Machine".into(),
        kind: "AWS::StepFunctions::StateMachine".into(),
        physical_id: arn.into(),
        arn: arn.into(),
        properties: json!({
            "StateMachineName": "M",
            "StateMachineType": "STANDARD",
            "Definition": {"QueryLanguage": "JSONata", "StartAt": "A", "States": states},
            "DefinitionSubstitutions": {"Function": "f"},
            "RoleArn": "arn:aws:iam::123456789012:role/r",
            "Tags": [{"Key": "Owner", "Value": "local"}],
        }),
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

fn waiting() -> Value {
    json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken", "End": true,
        "Arguments": {"FunctionName": "${Function}", "Payload": {"token": "{% $states.context.Task.Token %}"}},
        "TimeoutSeconds": 60}})
}

fn passing() -> Value {
    json!({"A": {"Type": "Pass", "End": true}})
}

fn invoked() -> Reply {
    Reply::Invoked { payload: json!({}), function_error: None, request_id: "r".into() }
}

#[tokio::test]
async fn a_request_in_flight_at_the_kill_is_sent_again_with_the_same_token() {
    let folder = tempfile::tempdir().unwrap();
    let first = Test::open(Some(folder.path()), Clock::system(), waiting(), vec![]).await;
    let execution = first.start("e").await;
    first.asked(1).await;
    let token = first.token();
    first.cloud.stopping.cancel();

    let second = Test::open(Some(folder.path()), Clock::system(), waiting(), vec![invoked()]).await;
    second.asked(1).await;
    assert_eq!(second.token(), token);
    second.call("SendTaskSuccess", json!({"taskToken": token, "output": "{\"ok\":true}"})).await.unwrap();
    assert_eq!(second.status(&execution).await, "SUCCEEDED");
}

#[tokio::test]
async fn a_workflow_that_is_killed_after_every_reply_ends_as_if_it_never_was() {
    let call = |token: bool, next: Option<&str>| {
        let resource = if token { "lambda:invoke.waitForTaskToken" } else { "lambda:invoke" };
        let mut task = json!({"Type": "Task", "Resource": format!("arn:aws:states:::{resource}"),
            "Arguments": {"FunctionName": "f", "Payload": "{% $states.context.State.Name %}"}});
        if !token {
            task["Output"] = json!("{% $states.result.Payload %}");
        }
        match next {
            Some(next) => task["Next"] = next.into(),
            None => task["End"] = true.into(),
        }
        task
    };
    let states = json!({
        "A": call(false, Some("W")),
        "W": {"Type": "Wait", "Seconds": 5, "Next": "P"},
        "P": {"Type": "Parallel", "Assign": {"judged": "{% $states.result %}"}, "Next": "T", "Branches": [
            {"StartAt": "B", "States": {"B": call(false, None)}},
            {"StartAt": "M", "States": {"M": {"Type": "Map", "Items": [1, 2], "End": true,
                "ItemProcessor": {"StartAt": "I", "States": {"I": call(false, None)}}}}},
        ]},
        "T": call(true, Some("E")),
        "E": {"Type": "Succeed", "Output": {"judged": "{% $judged %}", "token": "{% $states.input %}"}},
    });
    let folder = tempfile::tempdir().unwrap();
    let mut execution = String::new();
    for life in 0..20 {
        let reply = Reply::Invoked { payload: json!("r"), function_error: None, request_id: "r".into() };
        let clock = Clock::manual(NOW + life * 10_000);
        let test = Test::open(Some(folder.path()), clock, states.clone(), vec![reply]).await;
        if life == 0 {
            execution = test.start("e").await;
        }
        let running = test.cloud.store.read(records::running).unwrap();
        let Some(root) = running.first().and_then(|record| record.execution.root.as_ref()) else {
            assert!(life > 5, "it ended after {life} lives");
            let described = test.call("DescribeExecution", json!({"executionArn": execution})).await.unwrap();
            let output: Value = serde_json::from_str(described["output"].as_str().unwrap()).unwrap();
            assert_eq!(output, json!({"judged": ["r", ["r", "r"]], "token": "back"}));
            return;
        };
        if !root.open_requests().is_empty() {
            test.asked(1).await;
        } else if root.state == "T" {
            let token: String = test
                .cloud
                .store
                .read(|connection| connection.query_row("SELECT token FROM sfn_tokens", [], |row| row.get(0)))
                .unwrap();
            let input = json!({"taskToken": token, "output": "\"back\""});
            test.call("SendTaskSuccess", input).await.unwrap();
        }
        test.cloud.stopping.cancel();
    }
    panic!("it never ended");
}

#[tokio::test]
async fn a_timer_goes_on_after_a_restart() {
    let wait = json!({"A": {"Type": "Wait", "Seconds": 100, "End": true}});
    let folder = tempfile::tempdir().unwrap();
    let first = Test::open(Some(folder.path()), Clock::manual(NOW), wait.clone(), vec![]).await;
    let execution = first.start("e").await;
    first.published(1).await;
    first.cloud.stopping.cancel();

    let second = Test::open(Some(folder.path()), Clock::manual(NOW + 99_000), wait, vec![]).await;
    assert_eq!(second.status(&execution).await, "RUNNING");
    second.cloud.clock.advance(Duration::from_secs(1));
    assert_eq!(second.published(1).await, "SUCCEEDED");
}

#[tokio::test]
async fn a_status_change_that_was_not_published_before_the_kill_is_published_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = crate::Settings { state: Some(folder.path().into()), ..crate::Settings::for_tests() };
    let killed = Cloud::open(settings, Clock::system(), Random::seeded(1)).unwrap();
    let arn = killed.arn("states", "stateMachine:M");
    deploy(&killed, &resource(&arn, passing())).await.unwrap();
    // It never starts its background tasks: the kill comes before them.
    call(&killed, "StartExecution", json!({"stateMachineArn": arn, "name": "e"})).await.unwrap();
    drop(killed);

    let restarted = Test::open(Some(folder.path()), Clock::system(), passing(), vec![]).await;
    assert_eq!(restarted.published(2).await, "SUCCEEDED");
    let published = locked(&restarted.stub().published);
    assert_eq!(published[0]["status"], "RUNNING");
    assert_eq!(published[0]["stopDate"], Value::Null);
    assert_eq!(published[1]["output"], "{}");
    assert!(published[1]["stopDate"].is_i64());
}

#[tokio::test]
async fn input_and_output_leave_the_status_change_when_they_do_not_fit_into_an_event() {
    let with = |input: usize, output: usize| {
        let meta = crate::stepfunctions::tree::Meta {
            input: "x".repeat(input),
            output: Some("y".repeat(output)),
            ..Default::default()
        };
        let detail = records::status_change(&meta);
        let included = |name: &str| detail[name]["included"].as_bool().unwrap();
        (included("inputDetails"), included("outputDetails"))
    };
    assert_eq!(with(100, 100), (true, true));
    assert_eq!(with(200 * 1024, 100 * 1024), (false, true));
    assert_eq!(with(1, 250 * 1024), (false, false));
}

#[tokio::test]
async fn a_seed_that_repeats_after_a_restart_repeats_no_execution_and_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let settings = crate::Settings { state: Some(folder.path().into()), ..crate::Settings::for_tests() };
        let cloud = Cloud::open(settings, Clock::manual(NOW), Random::seeded(7)).unwrap();
        cloud.stepfunctions.runner.stub.set(Stub::default()).unwrap();
        let arn = cloud.arn("states", "stateMachine:M");
        deploy(&cloud, &resource(&arn, waiting())).await.unwrap();
        let started = call(&cloud, "StartExecution", json!({"stateMachineArn": arn})).await.unwrap();
        assert!(seen.insert(started["executionArn"].as_str().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn an_execution_keeps_the_definition_that_it_began_with() {
    let test = Test::open(None, Clock::system(), waiting(), vec![invoked()]).await;
    let execution = test.start("e").await;
    test.asked(1).await;
    deploy(&test.cloud, &resource(&test.arn, passing())).await.unwrap();
    let described =
        test.call("DescribeStateMachineForExecution", json!({"executionArn": execution})).await.unwrap();
    assert!(described["definition"].as_str().unwrap().contains("waitForTaskToken"));
    test.call("SendTaskSuccess", json!({"taskToken": test.token(), "output": "1"})).await.unwrap();
    assert_eq!(test.status(&execution).await, "SUCCEEDED");
    let next = test.start("next").await;
    assert_eq!(test.status(&next).await, "SUCCEEDED");
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
    for (input, code) in [
        (json!({"stateMachineArn": test.arn, "input": "{"}), "InvalidExecutionInput"),
        (json!({"stateMachineArn": test.arn, "name": "a b"}), "InvalidName"),
        (json!({"stateMachineArn": test.arn, "name": "x".repeat(81)}), "InvalidName"),
        (json!({"stateMachineArn": "nonsense"}), "InvalidArn"),
        (json!({"stateMachineArn": format!("{}X", test.arn)}), "StateMachineDoesNotExist"),
        (json!({"stateMachineArn": test.arn, "colour": 1}), "ValidationException"),
    ] {
        assert_eq!(test.call("StartExecution", input).await.unwrap_err().code, code);
    }
    let missing = json!({"executionArn": "arn:aws:states:eu-west-1:1:execution:M:none"});
    assert_eq!(test.call("DescribeExecution", missing).await.unwrap_err().code, "ExecutionDoesNotExist");
    assert_eq!(test.call("RedriveExecution", json!({})).await.unwrap_err().code, "NotImplemented");
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

#[tokio::test]
async fn machines_are_described_listed_and_tagged_as_deployed() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![]).await;
    let described = test.call("DescribeStateMachine", json!({"stateMachineArn": test.arn})).await.unwrap();
    assert_eq!(described["creationDate"], 1_700_000_000.0);
    let definition: Value = serde_json::from_str(described["definition"].as_str().unwrap()).unwrap();
    assert_eq!(definition["States"]["A"]["Arguments"]["FunctionName"], "f");
    let listed = test.call("ListStateMachines", json!({})).await.unwrap();
    assert_eq!(listed["stateMachines"][0]["name"], "M");
    let tags = test.call("ListTagsForResource", json!({"resourceArn": test.arn})).await.unwrap();
    assert_eq!(tags, json!({"tags": [{"key": "Owner", "value": "local"}]}));
}

#[tokio::test]
async fn a_definition_is_validated_and_created_through_the_api_too() {
    let test = Test::open(None, Clock::system(), passing(), vec![]).await;
    let wrong = r#"{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"}}}"#;
    let answer = test.call("ValidateStateMachineDefinition", json!({"definition": wrong})).await.unwrap();
    assert_eq!(answer["result"], "FAIL");
    assert_eq!(answer["diagnostics"][0]["location"], "/States/A");
    let create = |definition: &str| {
        test.call("CreateStateMachine", json!({"name": "N", "definition": definition, "roleArn": "r"}))
    };
    assert_eq!(create(wrong).await.unwrap_err().code, "InvalidDefinition");
    let right = r#"{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Succeed"}}}"#;
    let arn = create(right).await.unwrap()["stateMachineArn"].clone();
    assert_eq!(create(right).await.unwrap()["stateMachineArn"], arn);
    assert!(test.call("StartExecution", json!({"stateMachineArn": arn})).await.is_ok());
}

#[tokio::test]
async fn a_property_or_a_substitution_that_is_not_known_is_refused_by_name() {
    let cloud = Cloud::for_tests().unwrap();
    let arn = cloud.arn("states", "stateMachine:M");
    let mut unknown = resource(&arn, passing());
    unknown.properties["EncryptionConfiguration"] = json!({});
    let refusal = deploy(&cloud, &unknown).await.unwrap_err().to_string();
    assert!(refusal.contains("EncryptionConfiguration"), "{refusal}");
    let mut express = resource(&arn, passing());
    express.properties["StateMachineType"] = json!("EXPRESS");
    assert_eq!(deploy(&cloud, &express).await.unwrap_err().path, "Machine.Properties.StateMachineType");
    let mut logging = resource(&arn, passing());
    logging.properties["LoggingConfiguration"] = json!({"Level": "ALL"});
    assert_eq!(deploy(&cloud, &logging).await.unwrap_err().path, "Machine.Properties.LoggingConfiguration");
    let group = json!({"CloudWatchLogsLogGroup": {"LogGroupArn": "arn:aws:logs:us-east-1:1:log-group:/a:*"}});
    logging.properties["LoggingConfiguration"]["Destinations"] = json!([group]);
    assert!(deploy(&cloud, &logging).await.is_ok());
    let mut substitution = resource(&arn, waiting());
    substitution.properties["DefinitionSubstitutions"] = json!({});
    let refusal = deploy(&cloud, &substitution).await.unwrap_err().to_string();
    assert!(refusal.contains("${Function}"), "{refusal}");
    let dangling = resource(&arn, json!({"A": {"Type": "Pass", "Next": "B"}}));
    assert_eq!(deploy(&cloud, &dangling).await.unwrap_err().path, "Machine.Properties.Definition.States.A");
}
