use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use serde_json::{Value, json};

use super::pool::PROCESSES;
use super::*;

pub(super) const NOW: i64 = 1_750_000_000_000;

/// The folder of the example `test-function`, built first: `cargo test` with a filter does
/// not build examples.
pub(crate) fn examples() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "cloud-services", "--example", "test-function"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the test function does not build");
        let test = std::env::current_exe().unwrap();
        test.parent().and_then(std::path::Path::parent).unwrap().join("examples")
    };
    BUILT.get_or_init(build).clone()
}

pub(crate) fn cloud(clock: Clock) -> Arc<Cloud> {
    let cloud = crate::testing::open(cloud_core::Settings::for_tests(), clock, Random::seeded(1)).unwrap();
    cloud.state::<State>().binaries.set(examples()).unwrap();
    cloud
}

pub(super) fn resource(kind: &str, properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "Function".into(),
        kind: kind.into(),
        physical_id: "f".into(),
        arn: String::new(),
        properties,
        metadata: json!({ "Binary": "test-function" }),
        file: "template.yaml".into(),
    }
}

/// Deploys the function `f` with the given properties beyond the usual ones.
pub(crate) async fn function(cloud: &Arc<Cloud>, properties: Value) {
    let mut given = json!({ "FunctionName": "f", "Runtime": "provided.al2023", "Handler": "bootstrap",
        "Code": { "S3Bucket": "b", "S3Key": "k" }, "Role": "arn:aws:iam::123456789012:role/r" });
    given.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    cloud.deploy(&resource("AWS::Lambda::Function", given)).await.unwrap();
}

async fn ask(cloud: &Arc<Cloud>, event: Value) -> Invocation {
    invoke(cloud, "f", event.to_string().into()).await.unwrap()
}

fn json_of(invocation: &Invocation) -> Value {
    serde_json::from_slice(&invocation.payload).unwrap()
}

/// Returns once the function `f` has been invoked and no invocation is under way.
pub(crate) async fn settled(cloud: &Arc<Cloud>) {
    while cloud.state::<State>().pool.turns.available_permits() < PROCESSES {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) async fn queue(cloud: &Arc<Cloud>, name: &str) {
    cloud.call("sqs", "CreateQueue", json!({ "QueueName": name })).await.unwrap();
}

/// Receives the next message of a queue, waiting for it; time is moved with `step` meanwhile.
pub(super) async fn message(cloud: &Arc<Cloud>, name: &str, step: Duration) -> Value {
    loop {
        let input = json!({ "QueueUrl": format!("/123456789012/{name}"), "MessageAttributeNames": ["All"] });
        let mut answer = cloud.call("sqs", "ReceiveMessage", input).await.unwrap();
        if let Some(message) = answer["Messages"].as_array_mut().and_then(|messages| messages.pop()) {
            return message;
        }
        // Real processes work meanwhile; the held clock only skips the pauses.
        cloud.clock.advance(step);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn gone(process: &Value) -> bool {
    // A killed process may stay as a zombie until it is reaped.
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.is_empty() || status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

pub(super) async fn until(done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .expect("it did not happen within ten seconds");
}

#[tokio::test]
async fn a_process_is_kept_warm_and_used_again() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let first = json_of(&ask(&cloud, json!({ "do": "count" })).await);
    let second = json_of(&ask(&cloud, json!({ "do": "count" })).await);
    assert_eq!((&first["invocations"], &second["invocations"]), (&json!(1), &json!(2)));
    assert_eq!(first["process"], second["process"]);
}

#[tokio::test]
async fn concurrent_invocations_have_a_process_each() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let both = futures::future::join(
        ask(&cloud, json!({ "do": "sleep", "ms": 300 })),
        ask(&cloud, json!({ "do": "count" })),
    );
    let (slept, counted) = both.await;
    assert_eq!((json_of(&slept), &json_of(&counted)["invocations"]), (json!("slept"), &json!(1)));
    assert_eq!(cloud.state::<State>().pool.idle_of("f"), 2);
}

#[tokio::test]
async fn a_function_sees_lambdas_environment_and_nothing_of_the_hosts() {
    let cloud = cloud(Clock::system());
    cloud.endpoint_url.set("http://127.0.0.1:4566".into()).unwrap();
    function(&cloud, json!({ "MemorySize": 256, "Environment": { "Variables": { "TABLE": "t", "N": 5 } } }))
        .await;
    let seen = json_of(&ask(&cloud, json!({ "do": "environment" })).await);
    for (name, value) in [
        ("_HANDLER", "bootstrap"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
        ("TZ", ":UTC"),
        ("TABLE", "t"),
        ("N", "5"),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
    let stream = seen["AWS_LAMBDA_LOG_STREAM_NAME"].as_str().unwrap();
    assert!(stream.contains("/[$LATEST]") && stream.len() == "2026/11/23/[$LATEST]".len() + 32, "{stream}");
    for absent in ["HOME", "USER", "CARGO_TARGET_DIR", "AWS_EXECUTION_ENV"] {
        assert!(seen.get(absent).is_none(), "{absent}");
    }
}

#[tokio::test]
async fn the_context_names_request_arn_and_deadline() {
    let cloud = cloud(Clock::manual(NOW));
    function(&cloud, json!({ "Timeout": 7 })).await;
    let done = ask(&cloud, json!({ "do": "context" })).await;
    let context = json_of(&done);
    assert_eq!(context["request_id"], done.request_id);
    assert_eq!(context["arn"], "arn:aws:lambda:us-east-1:123456789012:function:f");
    assert_eq!(context["deadline"], NOW + 7_000);
    assert!(context["trace"].as_str().unwrap().starts_with("Root=1-"));
}

#[tokio::test]
async fn an_error_of_the_function_is_its_error_document_and_the_process_lives_on() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let failed = ask(&cloud, json!({ "do": "fail", "text": "no table" })).await;
    assert_eq!(failed.function_error.as_deref(), Some("Unhandled"));
    assert_eq!(json_of(&failed)["errorMessage"], "no table");
    assert_eq!(json_of(&ask(&cloud, json!({ "do": "count" })).await)["invocations"], 2);
}

#[tokio::test]
async fn a_process_that_exits_fails_its_invocation_and_is_replaced() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let failed = ask(&cloud, json!({ "do": "exit", "code": 7 })).await;
    assert_eq!(
        json_of(&failed),
        json!({ "errorType": "Runtime.ExitError",
            "errorMessage": format!("RequestId: {} Error: Runtime exited with error: exit status 7", failed.request_id) })
    );
    let clean = json_of(&ask(&cloud, json!({ "do": "exit", "code": 0 })).await);
    assert!(clean["errorMessage"].as_str().unwrap().ends_with("Runtime exited without providing a reason"));
    assert_eq!(json_of(&ask(&cloud, json!({ "do": "count" })).await)["invocations"], 1);
}

#[tokio::test]
async fn a_process_that_is_ended_by_a_signal_fails_its_invocation_with_the_signals_name() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let failed = ask(&cloud, json!({ "do": "abort" })).await;
    assert_eq!(failed.function_error.as_deref(), Some("Unhandled"));
    assert_eq!(
        json_of(&failed),
        json!({ "errorType": "Runtime.ExitError",
            "errorMessage": format!("RequestId: {} Error: Runtime exited with error: signal: aborted", failed.request_id) })
    );
    assert!(failed.log_tail.contains("signal: aborted\nRuntime.ExitError\n"), "{}", failed.log_tail);
    assert!(
        failed.log_tail.contains("\tStatus: error\tError Type: Runtime.ExitError"),
        "{}",
        failed.log_tail
    );
}

#[tokio::test]
async fn a_function_that_needs_more_than_its_memory_size_is_ended_as_on_aws() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "MemorySize": 128, "Timeout": 60 })).await;
    let fits = ask(&cloud, json!({ "do": "allocate", "bytes": 64 << 20 })).await;
    assert_eq!(json_of(&fits), json!(64 << 20));
    let failed = ask(&cloud, json!({ "do": "allocate", "bytes": 128 << 20 })).await;
    assert_eq!(
        json_of(&failed),
        json!({ "errorType": "Runtime.ExitError",
            "errorMessage": format!("RequestId: {} Error: Runtime exited with error: signal: killed", failed.request_id) })
    );
    let report = "\tMax Memory Used: 128 MB\t";
    assert!(failed.log_tail.contains(report), "{}", failed.log_tail);
    assert!(failed.log_tail.contains("\tError Type: Runtime.OutOfMemory"), "{}", failed.log_tail);
    assert_eq!(json_of(&ask(&cloud, json!({ "do": "count" })).await)["invocations"], 1);
    function(&cloud, json!({ "MemorySize": 256, "Timeout": 60 })).await;
    let fits = ask(&cloud, json!({ "do": "allocate", "bytes": 128 << 20 })).await;
    assert_eq!(json_of(&fits), json!(128 << 20));
}

#[tokio::test]
async fn a_process_that_died_while_idle_costs_no_invocation() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let process = json_of(&ask(&cloud, json!({ "do": "count" })).await)["process"].clone();
    reaper::kill_group(process.as_i64().unwrap() as i32);
    until(|| gone(&process)).await;
    let next = ask(&cloud, json!({ "do": "count" })).await;
    assert!(next.function_error.is_none());
    assert_ne!(json_of(&next)["process"], process);
}

#[tokio::test]
async fn a_timeout_kills_the_process_and_all_that_it_started() {
    let cloud = cloud(Clock::manual(NOW));
    function(&cloud, json!({ "Timeout": 3 })).await;
    let spawned = json_of(&ask(&cloud, json!({ "do": "spawn" })).await);
    let hanging = tokio::spawn({
        let cloud = cloud.clone();
        async move { ask(&cloud, json!({ "do": "hang" })).await }
    });
    while !hanging.is_finished() {
        cloud.clock.advance(Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let failed = hanging.await.unwrap();
    assert_eq!(
        json_of(&failed),
        json!({ "errorType": "Sandbox.Timedout",
            "errorMessage": format!("RequestId: {} Error: Task timed out after 3.00 seconds", failed.request_id) })
    );
    // With the time before it, as in the log of a function on AWS.
    let line = format!("Z {} Task timed out after 3.00 seconds\n", failed.request_id);
    assert!(failed.log_tail.contains(&line), "{}", failed.log_tail);
    assert!(failed.log_tail.contains("\tStatus: timeout"), "{}", failed.log_tail);
    until(|| gone(&spawned["process"]) && gone(&spawned["grandchild"])).await;
}

/// What stands in the log of the function `f`.
async fn log(cloud: &Arc<Cloud>) -> Vec<String> {
    let input = json!({ "logGroupName": "/aws/lambda/f" });
    let found = cloud.call("logs", "FilterLogEvents", input).await.unwrap_or_default();
    let messages = found["events"].as_array().cloned().unwrap_or_default();
    messages.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_failing_initialisation_is_tried_twice_and_reported_with_its_exit_status() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "Environment": { "Variables": { "INIT": "exit" } } })).await;
    let failed = ask(&cloud, json!({})).await;
    assert_eq!(json_of(&failed)["errorType"], "Runtime.ExitError");
    assert!(json_of(&failed)["errorMessage"].as_str().unwrap().ends_with("exit status 1"));
    let log = log(&cloud).await;
    assert_eq!(log.iter().filter(|line| line.contains("TABLE_NAME is missing")).count(), 2, "{log:?}");
    // Both before START, as on AWS.
    let at = |end: &str| log.iter().position(|line| line.starts_with("INIT_REPORT") && line.ends_with(end));
    let [first, second] = ["init", "invoke"]
        .map(|phase| at(&format!("\tPhase: {phase}\tStatus: error\tError Type: Runtime.ExitError")));
    let start = log.iter().position(|line| line.starts_with("START"));
    assert!(first.is_some() && first < second && second < start, "{log:?}");
}

/// Moves the clock until the first initialisation has taken too long.
async fn past_the_initialisation(cloud: &Arc<Cloud>) {
    until(|| cloud.state::<State>().alive.count() > 0).await;
    while !log(cloud).await.iter().any(|line| line.ends_with("\tPhase: init\tStatus: timeout")) {
        cloud.clock.advance(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_initialisation_that_takes_more_than_ten_seconds_begins_again_within_the_time_of_the_invocation() {
    let cloud = cloud(Clock::manual(NOW));
    let slow = |kind: &str| json!({ "Timeout": 900, "Environment": { "Variables": { "INIT": kind } } });
    let asked = || {
        let cloud = cloud.clone();
        tokio::spawn(async move { ask(&cloud, json!({ "do": "count" })).await })
    };
    function(&cloud, slow("slow")).await;
    let invoked = asked();
    past_the_initialisation(&cloud).await;
    assert_eq!(json_of(&invoked.await.unwrap())["invocations"], 1);

    function(&cloud, slow("hang")).await;
    let invoked = asked();
    while !invoked.is_finished() {
        cloud.clock.advance(Duration::from_secs(100));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let failed = json_of(&invoked.await.unwrap());
    assert_eq!(failed["errorType"], "Sandbox.Timedout");
    assert!(
        failed["errorMessage"].as_str().unwrap().ends_with("Task timed out after 900.00 seconds"),
        "{failed}"
    );
}

#[tokio::test]
async fn the_log_has_start_output_end_and_report() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let answer = cloud
        .call(
            "lambda",
            "Invoke",
            json!({ "FunctionName": "f", "LogType": "Tail",
        "Payload": json!({ "do": "print", "text": "hello" }).to_string() }),
        )
        .await
        .unwrap();
    assert_eq!((&answer["StatusCode"], &answer["Payload"]), (&json!(200), &json!("null")));
    let log = String::from_utf8(STANDARD.decode(answer["LogResult"].as_str().unwrap()).unwrap()).unwrap();
    let id = answer["RequestId"].as_str().unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], format!("START RequestId: {id} Version: $LATEST"));
    assert!(lines.contains(&"hello") && lines.contains(&"to stderr"), "{log}");
    assert_eq!(lines[lines.len() - 2], format!("END RequestId: {id}"));
    let report = lines[lines.len() - 1];
    assert!(report.starts_with(&format!("REPORT RequestId: {id}\tDuration: ")), "{report}");
    assert!(
        report.contains("\tMemory Size: 128 MB\tMax Memory Used: ") && report.contains("\tInit Duration: "),
        "{report}"
    );
}

#[tokio::test]
async fn the_json_log_format_has_platform_events() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "LoggingConfig": { "LogFormat": "JSON", "LogGroup": "/own" } })).await;
    let done = ask(&cloud, json!({ "do": "fail" })).await;
    let events: Vec<Value> =
        done.log_tail.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(events[0]["type"], "platform.start");
    let report = events.last().unwrap();
    assert_eq!((&report["type"], &report["record"]["status"]), (&json!("platform.report"), &json!("error")));
    assert_eq!(report["record"]["requestId"], done.request_id);
    let seen = json_of(&ask(&cloud, json!({ "do": "environment" })).await);
    assert_eq!(
        (&seen["AWS_LAMBDA_LOG_FORMAT"], &seen["AWS_LAMBDA_LOG_GROUP_NAME"]),
        (&json!("JSON"), &json!("/own"))
    );
}

#[tokio::test]
async fn an_answer_above_six_megabytes_is_an_error_of_the_function() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "Timeout": 60 })).await;
    let fits = ask(&cloud, json!({ "do": "large", "bytes": 6_000_000 })).await;
    assert!(fits.function_error.is_none());
    let failed = ask(&cloud, json!({ "do": "large", "bytes": 6_291_557 })).await;
    assert_eq!(json_of(&failed)["errorType"], "Function.ResponseSizeTooLarge");
}

#[tokio::test]
async fn payloads_are_limited_and_must_be_json() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let large = Bytes::from(vec![b' '; 6_291_457]);
    let refused = invoke(&cloud, "f", large).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status), ("RequestTooLargeException", 413));
    let large = Bytes::from(vec![b' '; 1_048_577]);
    let refused = invoke_async(&cloud, "f", large).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status), ("RequestTooLargeException", 413));
    let limit = "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)";
    assert_eq!(refused.message, limit);
    let broken = invoke(&cloud, "f", Bytes::from_static(b"{")).await.unwrap_err();
    assert_eq!(broken.code, "InvalidRequestContentException");
    let missing = invoke(&cloud, "g", Bytes::new()).await.unwrap_err();
    assert_eq!((missing.code.as_str(), missing.status), ("ResourceNotFoundException", 404));
}

#[tokio::test]
async fn reserved_concurrency_throttles_what_is_above_it() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "ReservedConcurrentExecutions": 1 })).await;
    let both = futures::future::join(
        invoke(&cloud, "f", json!({ "do": "sleep", "ms": 100 }).to_string().into()),
        invoke(&cloud, "f", Bytes::new()),
    );
    let (slept, throttled) = both.await;
    assert!(slept.is_ok());
    let throttled = throttled.unwrap_err();
    assert_eq!((throttled.code.as_str(), throttled.status), ("TooManyRequestsException", 429));
    assert_eq!(throttled.details["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
    assert!(invoke(&cloud, "f", Bytes::new()).await.is_ok());
}

#[tokio::test]
async fn reserved_concurrency_of_zero_throttles_everything() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "ReservedConcurrentExecutions": 0 })).await;
    let throttled = invoke(&cloud, "f", Bytes::new()).await.unwrap_err();
    assert_eq!((throttled.code.as_str(), throttled.status), ("TooManyRequestsException", 429));
    assert_eq!(throttled.message, "Rate Exceeded.");
    assert_eq!(throttled.details["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
}

#[tokio::test]
async fn only_the_latest_version_can_be_invoked() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let invoke = async |name: &str, qualifier: Option<&str>| {
        let input = json!({ "FunctionName": name, "Payload": "{}" });
        let qualifier = qualifier.map_or(json!({}), |qualifier| json!({ "Qualifier": qualifier }));
        let mut input = input;
        input.as_object_mut().unwrap().extend(qualifier.as_object().unwrap().clone());
        cloud.call("lambda", "Invoke", input).await
    };
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
    for (name, qualifier) in [
        ("f", None),
        ("f:$LATEST", None),
        ("f", Some("$LATEST")),
        (arn, Some("$LATEST")),
        ("123456789012:function:f", None),
        ("f:$LATEST", Some("$LATEST")),
    ] {
        let answer = invoke(name, qualifier).await.unwrap();
        assert_eq!((&answer["StatusCode"], &answer["ExecutedVersion"]), (&json!(200), &json!("$LATEST")));
    }
    for (name, qualifier) in [("f", Some("7")), ("f:7", None), (arn, Some("7"))] {
        let missing = invoke(name, qualifier).await.unwrap_err();
        assert_eq!((missing.status, missing.message), (404, format!("Function not found: {arn}:7")));
    }
    let differs = invoke("f:7", Some("$LATEST")).await.unwrap_err();
    assert_eq!(differs.code, "InvalidParameterValueException");
}

#[tokio::test]
async fn the_client_context_reaches_the_function() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let context = json!({ "client": { "installation_id": "i", "app_title": "t", "app_version_name": "1",
        "app_version_code": "1", "app_package_name": "p" }, "custom": { "agent": "one" }, "env": {} });
    let payload = json!({ "do": "context" }).to_string();
    let given = |context: &str| json!({ "FunctionName": "f", "Payload": payload, "ClientContext": context });
    let answer = cloud.call("lambda", "Invoke", given(&STANDARD.encode(context.to_string()))).await.unwrap();
    let seen: Value = serde_json::from_str(answer["Payload"].as_str().unwrap()).unwrap();
    assert_eq!(seen["client"]["agent"], "one", "{seen}");
    for wrong in ["not base64!", &STANDARD.encode("text"), &"A".repeat(3_584)] {
        assert_eq!(
            cloud.call("lambda", "Invoke", given(wrong)).await.unwrap_err().code,
            "InvalidRequestContentException"
        );
    }
}

#[tokio::test]
async fn unknown_kinds_of_invocations_and_logs_are_refused_and_a_dry_run_checks_only() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    for (member, value) in [("InvocationType", "Later"), ("LogType", "Head")] {
        let refused =
            cloud.call("lambda", "Invoke", json!({ "FunctionName": "f", member: value })).await.unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (400, "ValidationException"));
        assert!(refused.message.contains("Member must satisfy enum value set: ["), "{refused}");
    }
    let dry = |payload: &str| json!({ "FunctionName": "f", "InvocationType": "DryRun", "Payload": payload });
    assert_eq!(cloud.call("lambda", "Invoke", dry("{}")).await.unwrap()["StatusCode"], 204);
    assert_eq!(
        cloud.call("lambda", "Invoke", dry("{")).await.unwrap_err().code,
        "InvalidRequestContentException"
    );
    assert_eq!(cloud.state::<State>().alive.count(), 0, "nothing was run");
}

#[tokio::test]
async fn all_that_was_printed_before_the_answer_is_in_the_log_before_its_end() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    for n in 0..50 {
        let printed = ask(&cloud, json!({ "do": "print", "text": format!("line {n}") })).await;
        let lines: Vec<&str> = printed.log_tail.lines().collect();
        let at = |wanted: &str| lines.iter().position(|line| line.starts_with(wanted));
        assert!(at(&format!("line {n}")).is_some_and(|line| Some(line) < at("END")), "{lines:?}");
        assert!(at("to stderr").is_some_and(|line| Some(line) < at("END")), "{lines:?}");
    }
}

#[tokio::test]
async fn an_invocation_goes_on_when_its_caller_goes_away() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let call = invoke(&cloud, "f", json!({ "do": "sleep", "ms": 50 }).to_string().into());
    assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err());
    until(|| cloud.state::<State>().pool.idle_of("f") == 1).await;
}

#[tokio::test]
async fn replaced_binaries_run_from_the_next_invocation_on() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let old = json_of(&ask(&cloud, json!({ "do": "count" })).await)["process"].clone();
    replaced(&cloud, &["another".into()]);
    assert_eq!(json_of(&ask(&cloud, json!({ "do": "count" })).await)["process"], old);
    replaced(&cloud, &["test-function".into()]);
    until(|| gone(&old)).await;
    assert_eq!(json_of(&ask(&cloud, json!({ "do": "count" })).await)["invocations"], 1);
}

#[tokio::test]
async fn a_function_that_does_not_start_is_noticed_before_it_is_invoked() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    start_all(&cloud).await.unwrap();
    assert_eq!(cloud.state::<State>().pool.idle_of("f"), 1);
    assert_eq!(json_of(&ask(&cloud, json!({ "do": "count" })).await)["invocations"], 1);
    function(&cloud, json!({ "Environment": { "Variables": { "INIT": "exit" } } })).await;
    let said = start_all(&cloud).await.unwrap_err();
    assert!(said.starts_with("the function f does not start: Runtime exited with error"), "{said}");
    assert!(said.contains("TABLE_NAME is missing"), "{said}");
}

#[tokio::test]
async fn stopping_ends_every_process() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    start(&cloud);
    let process = json_of(&ask(&cloud, json!({ "do": "spawn" })).await);
    cloud.stopping.cancel();
    until(|| gone(&process["process"]) && gone(&process["grandchild"])).await;
}

#[test]
fn a_function_ends_by_itself_when_the_runtime_api_goes_away() {
    // As after a `kill -9` of the local cloud: nobody is left to kill the function.
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let own = runtime();
    let cloud = cloud(Clock::system());
    let process = own.block_on(async {
        function(&cloud, json!({})).await;
        json_of(&ask(&cloud, json!({ "do": "count" })).await)["process"].clone()
    });
    assert!(!gone(&process));
    own.shutdown_background();
    runtime().block_on(until(|| gone(&process)));
    assert_eq!(cloud.state::<State>().alive.count(), 1, "it was not killed");
}

#[tokio::test]
async fn templates_are_refused_by_property() {
    let cloud = cloud(Clock::system());
    let base = json!({ "FunctionName": "f", "Runtime": "provided.al2023", "Handler": "bootstrap" });
    for (name, value, part) in [
        ("Layers", json!(["arn"]), "Layers"),
        ("VpcConfig", json!({}), "VpcConfig"),
        ("PackageType", json!("Image"), "PackageType"),
        ("Runtime", json!("python3.13"), "python3.13"),
        ("Timeout", json!(901), "901 is not a whole number from 1 to 900"),
        ("MemorySize", json!(64), "from 128"),
        ("ReservedConcurrentExecutions", json!(901), "from 0 to 900"),
        ("Environment", json!({ "Variables": { "AWS_REGION": "x" } }), "AWS_REGION is reserved"),
        ("Environment", json!({ "Variables": { "X": "x".repeat(4_096) } }), "4 KB"),
    ] {
        let mut properties = base.clone();
        properties[name] = value;
        let refusal =
            cloud.deploy(&resource("AWS::Lambda::Function", properties)).await.unwrap_err().to_string();
        assert!(refusal.contains(part), "{refusal}");
    }
    let mut missing = resource("AWS::Lambda::Function", base);
    missing.metadata = json!({ "Binary": "not-built" });
    let refusal = cloud.deploy(&missing).await.unwrap_err().to_string();
    assert!(refusal.contains("there is no binary"), "{refusal}");
}

#[tokio::test]
async fn functions_are_listed_described_and_dry_run() {
    let cloud = cloud(Clock::system());
    for n in 0..3 {
        function(&cloud, json!({ "FunctionName": format!("f{n}"), "ReservedConcurrentExecutions": 5 })).await;
    }
    let first = cloud.call("lambda", "ListFunctions", json!({ "MaxItems": 2 })).await.unwrap();
    assert_eq!(first["Functions"][1]["FunctionName"], "f1");
    let second = cloud
        .call("lambda", "ListFunctions", json!({ "MaxItems": 2, "Marker": first["NextMarker"] }))
        .await
        .unwrap();
    assert_eq!((second["Functions"].as_array().unwrap().len(), second.get("NextMarker")), (1, None));
    let none = cloud.call("lambda", "ListFunctions", json!({ "MaxItems": 0 })).await.unwrap_err();
    assert_eq!(none.code, "ValidationException");
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f1";
    let one = cloud.call("lambda", "GetFunction", json!({ "FunctionName": arn })).await.unwrap();
    assert_eq!(
        (&one["Configuration"]["FunctionArn"], &one["Configuration"]["State"]),
        (&json!(arn), &json!("Active"))
    );
    assert_eq!(one["Concurrency"]["ReservedConcurrentExecutions"], 5);
    let dry = cloud
        .call("lambda", "Invoke", json!({ "FunctionName": "f1:$LATEST", "InvocationType": "DryRun" }))
        .await
        .unwrap();
    assert_eq!(dry["StatusCode"], 204);
    let policy = cloud.call("lambda", "GetPolicy", json!({ "FunctionName": "f1" })).await.unwrap_err();
    assert_eq!(policy.code, "NotImplemented");
}

#[tokio::test]
async fn a_function_that_is_not_there_is_named_by_its_arn() {
    let cloud = crate::testing::cloud();
    // https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html (ResourceNotFoundException)
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:nobodys";
    for asked in ["nobodys", "123456789012:function:nobodys", arn] {
        let error = cloud.call("lambda", "GetFunction", json!({ "FunctionName": asked })).await.unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (404, "ResourceNotFoundException"));
        assert_eq!(error.message, format!("Function not found: {arn}"));
    }
}

#[tokio::test]
async fn a_process_of_other_binaries_is_not_used_though_it_was_kept() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let first = json_of(&ask(&cloud, json!({ "do": "count" })).await);
    let function = super::function(&cloud, "f").unwrap();
    // As if it had been on its way back while the binaries were replaced.
    let late = cloud.state::<State>().pool.take("f").unwrap();
    function.retire(&cloud.state::<State>().pool);
    cloud.state::<State>().pool.keep(late, cloud.clock.now_ms(), |_| true);
    let second = json_of(&ask(&cloud, json!({ "do": "count" })).await);
    assert_eq!(second["invocations"], 1);
    assert_ne!(first["process"], second["process"]);
}

/// Invokes the function `f` so often at once.
async fn at_once(cloud: &Arc<Cloud>, count: usize) {
    let event = json!({ "do": "sleep", "ms": 300 });
    let answers = futures::future::join_all((0..count).map(|_| ask(cloud, event.clone()))).await;
    assert!(answers.iter().all(|answer| answer.function_error.is_none()), "{answers:?}");
}

#[tokio::test]
async fn processes_that_are_idle_for_a_minute_end_but_for_the_one_that_was_used_last() {
    let cloud = cloud(Clock::manual(NOW));
    function(&cloud, json!({ "Timeout": 60 })).await;
    cloud_core::housekeeping::start(&cloud);
    at_once(&cloud, 5).await;
    assert_eq!((cloud.state::<State>().alive.count(), cloud.state::<State>().pool.idle_of("f")), (5, 5));
    cloud.clock.advance(Duration::from_secs(30));
    let used = json_of(&ask(&cloud, json!({ "do": "count" })).await);
    cloud.clock.advance(Duration::from_secs(45));
    until(|| cloud.state::<State>().alive.count() == 1).await;
    let again = json_of(&ask(&cloud, json!({ "do": "count" })).await);
    assert_eq!((&again["process"], &again["invocations"]), (&used["process"], &json!(3)));
    cloud.clock.advance(Duration::from_secs(3_600));
    at_once(&cloud, 5).await;
}

#[tokio::test]
async fn there_are_no_more_processes_than_places_and_every_invocation_gets_one() {
    let cloud = cloud(Clock::system());
    for name in ["f", "g"] {
        function(&cloud, json!({ "FunctionName": name, "Timeout": 60 })).await;
    }
    let pool = &cloud.state::<State>().pool;
    pool.turns.forget_permits(PROCESSES - 2);
    pool.places.forget_permits(PROCESSES - 2);
    at_once(&cloud, 2).await;
    assert_eq!(pool.idle_of("f"), 2);
    let count = json!({ "do": "count" }).to_string();
    let calls = ["g", "f", "g", "g", "f", "f", "g", "f", "g", "f"]
        .map(|name| invoke(&cloud, name, count.clone().into()));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap().function_error, None);
        assert!(
            cloud.state::<State>().alive.count() <= 2,
            "{} processes",
            cloud.state::<State>().alive.count()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_that_comes_while_idle_processes_end_is_not_lost() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({ "Timeout": 60 })).await;
    let ending = tokio::spawn({
        let cloud = cloud.clone();
        async move {
            loop {
                cloud.state::<State>().pool.end("f");
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..20 {
        let answer = ask(&cloud, json!({ "do": "count" })).await;
        assert_eq!(answer.function_error, None, "{}", answer.log_tail);
    }
    ending.abort();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_function_may_have_as_many_files_open_as_on_aws() {
    let cloud = cloud(Clock::system());
    function(&cloud, json!({})).await;
    let limits = json_of(&ask(&cloud, json!({ "do": "limits" })).await);
    let files = limits.as_str().unwrap().lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["1024", "1024"]);
}

#[tokio::test]
async fn a_permission_lacks_nothing_and_has_nothing_that_is_not_emulated() {
    let cloud = crate::testing::cloud();
    let permission =
        json!({"Action": "lambda:InvokeFunction", "FunctionName": "f", "Principal": "events.amazonaws.com"});
    let deploy =
        async |properties: Value| cloud.deploy(&resource("AWS::Lambda::Permission", properties)).await;
    deploy(permission.clone()).await.unwrap();
    for (member, value) in [("Principal", Value::Null), ("PrincipalOrgID", "o-1".into())] {
        let mut changed = permission.clone();
        changed[member] = value;
        let refusal = deploy(changed).await.unwrap_err().to_string();
        assert!(refusal.contains(member), "{refusal}");
    }
}
