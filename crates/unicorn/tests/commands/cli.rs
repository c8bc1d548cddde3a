//! The command line as its user sees it: start, end, and error messages.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use unicorn::client::{Client, until};

use crate::hello::Hello;
use crate::support::{
    Copy, Up, alone, assert_gone, assert_refused, children, run, script, send, unicorn, wait,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn up(state: &Path) -> Command {
    let mut command = unicorn(&["up", "--port", "0", "--aws-port", "0", "--state-dir"]);
    command.arg(state);
    command
}

#[test]
fn up_is_ready_within_two_seconds_once_everything_is_built() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    Up::start(state.path(), &[]).end(Signal::TERM);
    // Other work on the machine makes it slower, so the best of three counts.
    let start = || {
        let running = Up::start(state.path(), &[]);
        let took = running.ready_after;
        running.end(Signal::TERM);
        took
    };
    let best = (0..3).map(|_| start()).min().unwrap();
    println!("ready after {} ms", best.as_millis());
    assert!(best < Duration::from_secs(2), "ready after {best:?}");
}

#[test]
fn up_prints_its_addresses_and_keeps_them_in_the_state_folder() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &[]);
    let addresses = running.addresses();
    let printed = running.printed.join("\n");
    for address in [&addresses.api_url, &addresses.endpoint_url, &addresses.stack, &addresses.region] {
        assert!(printed.contains(address.as_str()), "{address} is not in: {printed}");
    }
    assert_eq!(addresses.pid, running.child.id());
    assert!(addresses.api_url.starts_with("http://127.0.0.1:"), "{}", addresses.api_url);
    assert!(addresses.outputs.contains_key("WebApiUrl"), "{:?}", addresses.outputs);
    let others = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o077;
    assert_eq!(others(state.path()), 0);
    for file in std::fs::read_dir(state.path()).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(others(&file), 0, "another user may use {}", file.display());
    }
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn a_signal_ends_it_cleanly_and_no_process_stays_behind() {
    let _alone = alone();
    for signal in [Signal::TERM, Signal::INT] {
        let state = tempfile::tempdir().unwrap();
        let running = Up::start(state.path(), &[]);
        let answer = running.client().get("/search/usa/anytown").await.unwrap();
        assert!(answer.status.is_success(), "{answer:?}");
        let functions = children(running.child.id());
        assert!(!functions.is_empty(), "the search did not run in a process of its own");
        let (status, printed) = running.end(signal);
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert_eq!(printed.last().unwrap(), "Stopped. The state is kept.");
        assert!(printed[0].starts_with("Ran for "), "{printed:?}");
        assert!(!state.path().join("local.json").exists(), "local.json was left behind");
        assert_gone(&functions);
    }
}

#[test]
fn a_signal_ends_it_cleanly_while_the_functions_are_built() {
    let folder = tempfile::tempdir().unwrap();
    let building = folder.path().join("building");
    // A build that never ends, with a compiler process; neither may be left.
    let text = format!("sleep 600 & echo $! > '{0}.new'; mv '{0}.new' '{0}'; wait", building.display());
    let cargo = script(folder.path(), "slow-cargo", &text);
    for signal in [Signal::TERM, Signal::INT] {
        let state = tempfile::tempdir().unwrap();
        let mut child = up(state.path()).env("CARGO", &cargo).stdout(Stdio::null()).spawn().unwrap();
        let asked = Instant::now();
        while !building.exists() {
            assert!(asked.elapsed() < PATIENCE, "the build did not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        let compiler = std::fs::read_to_string(&building).unwrap().trim().parse().unwrap();
        std::fs::remove_file(&building).unwrap();
        send(&child, signal);
        assert_eq!(wait(&mut child, PATIENCE).code(), Some(0), "{signal:?}");
        assert_gone(&[compiler].into());
    }
}

#[test]
fn a_build_that_fails_is_one_sentence() {
    for command in ["up", "demo", "lambda-test"] {
        let mut command = unicorn(&[command]);
        command.env("CARGO", "false");
        assert_refused(command, &["could not be built"]);
    }
}

#[test]
fn a_build_shows_how_far_it_is_and_nothing_where_all_is_built() {
    let _alone = alone();
    let hello = Hello::new();
    for compiles in [true, false] {
        let state = tempfile::tempdir().unwrap();
        let running = Up::start_as(hello.up(&["--log", "quiet"]), state.path());
        let (said, printed) = (running.log(), running.printed.join("\n"));
        assert_eq!(said.iter().any(|line| line.contains("Compiling hello")), compiles, "{said:?}");
        assert!(compiles || said.is_empty(), "{said:?}");
        assert!(!said.iter().any(|line| line.contains("Finished")), "{said:?}");
        assert!(!printed.contains("Compiling") && !printed.contains("reason"), "{printed}");
        running.end(Signal::TERM);
    }
    // With `--log json` there is no progress among the lines for programs.
    hello.say("two");
    let state = tempfile::tempdir().unwrap();
    let running = Up::start_as(hello.up(&["--log", "json"]), state.path());
    let lines: Vec<Value> =
        running.log().iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.iter().filter(|line| line["service"] == "build").count(), 1, "{lines:?}");
    running.end(Signal::TERM);
}

#[test]
fn a_source_that_does_not_compile_is_told_once_and_one_sentence_follows() {
    let _alone = alone();
    let hello = Hello::new();
    hello.greeting("pub fn word() -> &'static str { 3 }");
    let state = tempfile::tempdir().unwrap();
    let mut command = hello.up(&["--log", "quiet"]);
    command.arg("--state-dir").arg(state.path());
    let (succeeded, printed, errors) = run(command);
    assert!(!succeeded && printed.is_empty(), "{printed}");
    assert_eq!(errors.matches("error[E0308]").count(), 1, "{errors}");
    assert!(
        errors.ends_with("\nerror: the functions could not be built; cargo's message is above\n"),
        "{errors}"
    );
}

#[test]
fn a_busy_port_is_named_with_the_option_that_chooses_another() {
    let _alone = alone();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (option, other) in [("--port", "--aws-port"), ("--aws-port", "--port")] {
        let state = tempfile::tempdir().unwrap();
        let mut command = unicorn(&["up", option, &port, other, "0", "--state-dir"]);
        command.arg(state.path());
        assert_refused(command, &["port", &port, "in use", option]);
    }
}

#[test]
fn a_state_folder_in_use_is_left_to_the_one_that_has_it() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let first = Up::start(state.path(), &[]);
    for arguments in [&[][..], &["--fresh"]] {
        let mut second = up(state.path());
        second.args(arguments);
        assert_refused(second, &["another local cloud", "--state-dir"]);
    }
    assert_eq!(first.addresses().pid, first.child.id());
    assert_eq!(first.end(Signal::TERM).0.code(), Some(0));
}

#[test]
fn a_property_that_is_not_known_is_named_with_its_file_and_resource() {
    let _alone = alone();
    let copy = Copy::new();
    copy.change(
        "contracts-service/template.yaml",
        "      VisibilityTimeout: 60",
        "      VisibilityTimeuot: 60",
    );
    let state = tempfile::tempdir().unwrap();
    let mut command = copy.unicorn(&["up", "--port", "0", "--aws-port", "0", "--state-dir"]);
    command.arg(state.path());
    assert_refused(command, &["contracts-service/template.yaml", "IngestQueue", "VisibilityTimeuot"]);
}

#[test]
fn a_stage_that_does_not_exist_is_refused_with_those_that_do() {
    let (succeeded, _, errors) = run(unicorn(&["up", "--stage", "moon"]));
    assert!(!succeeded);
    assert!(errors.contains("moon") && errors.contains("local, dev, prod"), "{errors}");
}

#[test]
fn outside_of_a_checkout_it_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = unicorn(&["up"]);
    command.current_dir(folder.path());
    assert_refused(command, &["template.yaml", "Cargo.lock"]);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn one_service_runs_alone() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--template", "contracts-service/template.yaml"]);
    assert_eq!(running.addresses().stack, "uni-prop-local-contracts", "as in its samconfig.toml");
    let client = running.client();
    let command = draft(&client, 21).await;
    applied(&client, "/contracts", &command).await;
    let other = client.get("/search/usa/anytown").await.unwrap();
    assert_eq!(other.status, 403, "the web service runs too: {other:?}");
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn what_was_accepted_survives_kill_9_and_goes_on_after_a_restart() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let killed = Up::start(state.path(), &[]);
    let client = killed.client();
    let command = draft(&client, 111).await;
    applied(&client, "/contracts", &command).await;
    // Main Street 111 is one of the seed listings.
    let request = json!({"property_id": "usa/anytown/main-street/111"});
    let requested = client.write(Method::POST, "/request_approval", Some(&request)).await.unwrap();
    applied(&client, "/listings", &requested).await;
    until("a waiting execution", PATIENCE, async || waiting(&client).await).await.unwrap();
    let functions = children(killed.child.id());
    assert!(!functions.is_empty());
    let unread = draft(&client, 112).await;
    let (status, _) = killed.end(Signal::KILL);
    assert_eq!(status.code(), None, "it was killed");
    assert_gone(&functions);

    let restarted = Up::start(state.path(), &[]);
    let client = restarted.client();
    let contract = client.get("/contracts/usa/anytown/main-street/111").await.unwrap();
    assert_eq!(contract.body["contract_status"], "DRAFT", "{contract:?}");
    applied(&client, "/contracts", &unread).await;
    let approve = json!({"property_id": "usa/anytown/main-street/111"});
    client.write(Method::PUT, "/contracts", Some(&approve)).await.unwrap();
    until("the listing in search", PATIENCE, async || {
        let found = client.get("/search/usa/anytown/main-street").await?;
        Ok((found.body[0]["number"] == 111).then_some(()))
    })
    .await
    .unwrap();
    restarted.end(Signal::TERM);

    let fresh = Up::start(state.path(), &["--fresh"]);
    let gone = fresh.client().get("/contracts/usa/anytown/main-street/111").await.unwrap();
    assert_eq!(gone.status, 404, "--fresh kept a contract");
    let found = fresh.client().get("/search/usa/anytown").await.unwrap();
    assert_eq!(found.body, json!([]), "--fresh kept a listing in search");
}

async fn draft(client: &Client, number: u32) -> String {
    let body = json!({
        "property_id": format!("usa/anytown/main-street/{number}"), "seller_name": "Ann Other",
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": number},
    });
    client.write(Method::POST, "/contracts", Some(&body)).await.unwrap()
}

async fn applied(client: &Client, service: &str, command: &str) {
    let path = format!("{service}/commands/{command}");
    let record = until("the outcome of a command", PATIENCE, async || {
        let answer = client.get(&path).await?;
        Ok(Some(answer.body).filter(|body| body["status"] == "APPLIED" || body["status"] == "REJECTED"))
    });
    assert_eq!(record.await.unwrap()["status"], "APPLIED");
}

/// Whether an execution has handed out its task token.
async fn waiting(client: &Client) -> anyhow::Result<Option<()>> {
    let list =
        json!({"stateMachineArn": client.output("ApprovalStateMachineArn")?, "statusFilter": "RUNNING"});
    let executions = client.aws("AWSStepFunctions.ListExecutions", &list).await?;
    let Some(arn) = executions["executions"][0]["executionArn"].as_str() else { return Ok(None) };
    let input = json!({"executionArn": arn});
    let history = client.aws("AWSStepFunctions.GetExecutionHistory", &input).await?;
    let events = history["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entered = |event: &Value| event["stateEnteredEventDetails"]["name"] == "WaitForContractApproval";
    let after = events.iter().skip_while(|event| !entered(event));
    Ok(after.into_iter().any(|event| event["type"] == "TaskSubmitted").then_some(()))
}

#[test]
fn the_demo_tells_the_whole_story_and_succeeds() {
    let _alone = alone();
    let (succeeded, printed, errors) = run(unicorn(&["demo"]));
    assert!(succeeded, "{printed}{errors}");
    for part in [
        "/11      contract  DRAFT",
        "/11      listing   NEW",
        "/11      request   approval requested",
        "/11      workflow  waits for the contract",
        "/11      contract  APPROVED",
        "/11      event     PublicationEvaluationCompleted APPROVED",
        "/11      search    finds it",
        "/12      listing   DECLINED: unsafe_image",
        "/13      listing   DECLINED: negative_description",
        "/14      listing   DECLINED: contract_not_found",
        "/15      search    no longer finds it",
    ] {
        assert!(printed.contains(part), "{part} is not in: {printed}");
    }
}

#[test]
fn the_demo_fails_where_the_story_does_not_come_to_its_end() {
    let _alone = alone();
    let copy = Copy::new();
    // The approval of a contract never reaches the bus of the web service.
    copy.change(
        "web-service/subscriptions.yaml",
        "detail-type: [PublicationEvaluationCompleted]",
        "detail-type: [SomethingElse]",
    );
    let (succeeded, printed, errors) = run(copy.unicorn(&["demo"]));
    assert!(!succeeded, "{printed}");
    assert!(errors.contains("error: "), "{errors}");
}
