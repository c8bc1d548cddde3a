//! What outlives a kill: each test opens the same store more than once.

use super::*;

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
        let running = test.cloud.store.read(store::running).unwrap();
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
    let settings =
        cloud_core::Settings { state: Some(folder.path().into()), ..cloud_core::Settings::for_tests() };
    let killed = crate::testing::open(settings, Clock::system(), Random::seeded(1)).unwrap();
    let arn = killed.arn("states", "stateMachine:M");
    killed.deploy(&resource(&arn, passing())).await.unwrap();
    // It never starts its background tasks: the kill comes before them.
    killed.call("states", "StartExecution", json!({"stateMachineArn": arn, "name": "e"})).await.unwrap();
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
async fn a_seed_that_repeats_after_a_restart_repeats_no_execution_and_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let settings =
            cloud_core::Settings { state: Some(folder.path().into()), ..cloud_core::Settings::for_tests() };
        let cloud = crate::testing::open(settings, Clock::manual(NOW), Random::seeded(7)).unwrap();
        cloud.state::<Runner>().stub.set(Stub::default()).unwrap();
        let arn = cloud.arn("states", "stateMachine:M");
        cloud.deploy(&resource(&arn, waiting())).await.unwrap();
        let started = cloud.call("states", "StartExecution", json!({"stateMachineArn": arn})).await.unwrap();
        assert!(seen.insert(started["executionArn"].as_str().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn retries_and_variables_survive_a_restart() {
    let states = json!({
        "A": {"Type": "Pass", "Assign": {"kept": "{% $states.input.n %}"}, "Next": "B"},
        "B": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
            "Arguments": {"FunctionName": "f", "Payload": "{% [$kept, $states.context.State.RetryCount] %}"},
            "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 10, "BackoffRate": 1, "MaxAttempts": 2}],
            "Output": "{% $states.result.Payload %}"},
    });
    let folder = tempfile::tempdir().unwrap();
    let fault = || Err(AwsError::client("TooManyRequestsException", "later"));
    let mut execution = String::new();
    for life in 0..3_i64 {
        // Each life begins when the retry of the one before is due.
        let clock = Clock::manual(NOW + life * 10_000);
        let test = Test::prepare(Some(folder.path()), clock, states.clone()).await;
        let reply = if life < 2 { fault() } else { Ok(invoked()) };
        locked(&test.stub().replies).push_back(reply);
        resume(&test.cloud);
        if life == 0 {
            let input = json!({"stateMachineArn": test.arn, "name": "e", "input": "{\"n\": 7}"});
            let started = test.call("StartExecution", input).await.unwrap();
            execution = started["executionArn"].as_str().unwrap().to_owned();
        }
        test.asked(1).await;
        let asked = locked(&test.stub().asked).clone();
        let Request::Invoke { payload, .. } = &asked[0] else { panic!("not a function") };
        assert_eq!(payload, &json!([7, life]));
        let settled = if life < 2 { "TaskFailed" } else { "TaskSucceeded" };
        test.until_history_has(&execution, settled, if life < 2 { life as usize + 1 } else { 1 }).await;
        test.cloud.stopping.cancel();
    }
    let last = Test::open(Some(folder.path()), Clock::manual(NOW + 30_000), states, vec![]).await;
    assert_eq!(last.status(&execution).await, "SUCCEEDED");
}

#[tokio::test]
async fn a_retry_that_became_due_while_nothing_ran_is_made_at_the_start() {
    let states = json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
        "Arguments": {"FunctionName": "f"},
        "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 10}]}});
    let folder = tempfile::tempdir().unwrap();
    let first = Test::prepare(Some(folder.path()), Clock::manual(NOW), states.clone()).await;
    locked(&first.stub().replies).push_back(Err(AwsError::internal("down")));
    resume(&first.cloud);
    let execution = first.start("e").await;
    first.until_history_has(&execution, "TaskFailed", 1).await;
    first.cloud.stopping.cancel();

    let later = Clock::manual(NOW + 3_600_000);
    let second = Test::open(Some(folder.path()), later, states, vec![invoked()]).await;
    second.until_history_has(&execution, "TaskSucceeded", 1).await;
    assert_eq!(second.status(&execution).await, "SUCCEEDED");
}

#[tokio::test]
async fn a_completed_execution_is_never_run_again() {
    let states = json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
        "Arguments": {"FunctionName": "f"}}});
    let folder = tempfile::tempdir().unwrap();
    let first = Test::open(Some(folder.path()), Clock::system(), states.clone(), vec![invoked()]).await;
    let execution = first.start("e").await;
    assert_eq!(first.published(2).await, "SUCCEEDED");
    first.cloud.stopping.cancel();

    let second = Test::open(Some(folder.path()), Clock::system(), states, vec![invoked()]).await;
    let other = second.start("other").await;
    assert_eq!(second.published(2).await, "SUCCEEDED");
    assert_eq!(second.status(&execution).await, "SUCCEEDED");
    let asked = locked(&second.stub().asked).len();
    assert_eq!(asked, 1, "only the new execution asks");
    let published = locked(&second.stub().published).clone();
    assert!(published.iter().all(|change| change["executionArn"] == other.as_str()), "{published:?}");
}

#[tokio::test]
async fn a_waiting_token_is_valid_after_a_restart_and_its_time_out_keeps_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = Test::open(Some(folder.path()), Clock::manual(NOW), waiting(), vec![invoked()]).await;
    let execution = first.start("e").await;
    first.until_history_has(&execution, "TaskSubmitted", 1).await;
    let token = first.token();
    first.cloud.stopping.cancel();

    let second = Test::open(Some(folder.path()), Clock::manual(NOW + 59_000), waiting(), vec![]).await;
    second.call("SendTaskHeartbeat", json!({"taskToken": token})).await.unwrap();
    assert!(locked(&second.stub().asked).is_empty(), "a request that was answered is not sent again");
    second.cloud.stopping.cancel();

    let third = Test::open(Some(folder.path()), Clock::manual(NOW + 60_000), waiting(), vec![]).await;
    assert_eq!(third.published(1).await, "FAILED");
    let late = third.call("SendTaskSuccess", json!({"taskToken": token, "output": "1"})).await.unwrap_err();
    assert_eq!(late.code, "TaskTimedOut");
}

#[tokio::test]
async fn an_execution_leaves_the_disk_90_days_after_its_end() {
    let test = Test::open(None, Clock::manual(NOW), waiting(), vec![invoked(), invoked()]).await;
    let first = test.start("first").await;
    test.asked(1).await;
    let input = json!({"taskToken": test.token(), "output": "{}"});
    test.call("SendTaskSuccess", input).await.unwrap();
    assert_eq!(test.published(2).await, "SUCCEEDED");
    test.cloud.clock.advance(Duration::from_secs(89 * 86_400));
    let second = test.start("second").await;
    test.asked(2).await;
    cloud_core::housekeeping::start(&test.cloud);
    test.cloud.clock.advance(Duration::from_secs(2 * 86_400));
    let count = |table: &str| {
        let query = format!("SELECT count(DISTINCT execution) FROM {table}");
        test.cloud.store.read(|db| db.query_row(&query, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(30), async {
        while count("sfn_events") > 1 || count("sfn_tokens") > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let gone = test.call("DescribeExecution", json!({"executionArn": first})).await.unwrap_err();
    assert_eq!(gone.code, "ExecutionDoesNotExist");
    assert_eq!(test.status(&second).await, "FAILED", "it timed out just now, and is kept");
}

#[tokio::test]
async fn waits_and_timeouts_end_in_time_though_the_clock_is_set_back() {
    let wait = json!({"A": {"Type": "Wait", "Seconds": 60, "End": true}});
    for (states, ended) in [(wait, "SUCCEEDED"), (waiting(), "FAILED")] {
        let test = Test::open(None, Clock::manual(NOW), states, vec![invoked()]).await;
        test.start("e").await;
        test.published(1).await;
        test.cloud.clock.jump(-3_600_000);
        test.cloud.clock.advance(Duration::from_secs(61));
        let ended_in_time = tokio::time::timeout(Duration::from_secs(30), test.published(2)).await;
        assert_eq!(ended_in_time.unwrap(), ended);
    }
}

/// As when a laptop wakes: nobody tells that the clock jumped.
#[tokio::test(start_paused = true)]
async fn waits_and_timeouts_end_within_a_minute_when_the_clock_jumps_past_their_time() {
    let wait = json!({"A": {"Type": "Wait", "Seconds": 600, "End": true}});
    for (states, ended) in [(wait, "SUCCEEDED"), (waiting(), "FAILED")] {
        let test = Test::open(None, Clock::manual(NOW), states, vec![invoked()]).await;
        test.start("e").await;
        test.published(1).await;
        test.cloud.clock.jump(3_600_000);
        let ended_in_time = tokio::time::timeout(Duration::from_secs(60), test.published(2)).await;
        assert_eq!(ended_in_time.unwrap(), ended);
    }
}
