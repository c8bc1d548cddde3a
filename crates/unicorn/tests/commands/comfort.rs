//! The comforts of `up`: `--watch`, the live log, the summary at the end, the seed data.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use unicorn::client::{Client, until};

use crate::hello::Hello;
use crate::support::{Up, alone, run, script, unicorn};

const PATIENCE: Duration = Duration::from_secs(30);

fn contract(number: u32) -> Value {
    json!({
        "property_id": format!("usa/anytown/main-street/{number}"), "seller_name": "Ann Unmentioned",
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": number},
    })
}

/// Waits for the outcome of a command, and counts the requests that did not get it.
async fn outcome(client: &Client, service: &str, command: &str) -> (String, u64) {
    let path = format!("{service}/commands/{command}");
    let mut unknown = 0;
    let status = until("the outcome of a command", PATIENCE, async || {
        let answer = client.get(&path).await?;
        unknown += u64::from(answer.status == StatusCode::NOT_FOUND);
        let status = answer.body["status"].as_str().unwrap_or_default().to_owned();
        Ok(["APPLIED", "REJECTED"].contains(&status.as_str()).then_some(status))
    });
    (status.await.unwrap(), unknown)
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn a_changed_source_is_built_and_the_next_invocation_runs_it() {
    let _alone = alone();
    let hello = Hello::new();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start_as(hello.up(&["--watch"]), state.path());
    assert!(running.printed.iter().any(|line| line.starts_with("Watching      2 packages")));
    let client = running.client();
    assert_eq!(client.invoke("hello", &json!({})).await.unwrap(), "one");

    // A running invocation ends on its old binary.
    let file = state.path().join("go-on");
    let (busy, event) = (client.clone(), json!({"wait": file}));
    let slow = tokio::spawn(async move { busy.invoke("hello", &event).await });
    let begun = state.path().join("go-on.begun");
    until("the invocation", PATIENCE, async || Ok(begun.exists().then_some(()))).await.unwrap();
    hello.say("two");
    running.logged(&["watch", "swapped", "hello"]);
    assert_eq!(client.invoke("hello", &json!({})).await.unwrap(), "two");
    std::fs::write(&file, "").unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), "one");

    // A failed build is reported and changes nothing.
    hello.greeting("pub fn word() -> &'static str { 3 }");
    running.logged(&["error[E0308]"]);
    running.logged(&["!", "watch", "could not be built", "the old functions go on"]);
    assert_eq!(client.invoke("hello", &json!({})).await.unwrap(), "two");
    hello.say("three");
    running.logged(&["swapped"]);
    assert_eq!(client.invoke("hello", &json!({})).await.unwrap(), "three");

    // A changed template takes effect at the next start only.
    let template = std::fs::read_to_string(hello.path().join("template.yaml")).unwrap();
    hello.write("template.yaml", &template.replace("Timeout: 60", "Timeout: 50"));
    running.logged(&["template.yaml", "has changed", "start `up` again"]);
    let target = hello.path().join("target/debug");
    let links = || std::fs::read_dir(&target).unwrap().flatten().map(|entry| entry.file_name());
    let links = || links().filter(|name| name.to_string_lossy().starts_with(".unicorn-up")).count();
    assert_eq!(links(), 1);
    assert_eq!(running.end(Signal::TERM).0.code(), Some(0));
    assert_eq!(links(), 0);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn what_is_edited_during_the_first_build_is_built_after_it() {
    let _alone = alone();
    let hello = Hello::new();
    hello.write("later.rs", "pub fn word() -> &'static str { \"two\" }\npub fn start() {}\n");
    // A stand-in for cargo; during the first build, an editor saves a file that cargo has read already.
    let text = format!(
        "'{}' \"$@\" || exit\nif [ \"$1\" = build ] && [ -e later.rs ]; then mv later.rs greeting/src/lib.rs; touch greeting/src/lib.rs; fi",
        env!("CARGO")
    );
    let mut command = hello.up(&["--watch"]);
    command.env("CARGO", script(hello.path(), "cargo-and-editor", &text));
    let state = tempfile::tempdir().unwrap();
    let running = Up::start_as(command, state.path());
    running.logged(&["watch", "swapped", "hello"]);
    assert_eq!(running.client().invoke("hello", &json!({})).await.unwrap(), "two");
    running.end(Signal::TERM);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn a_package_that_a_function_depends_on_later_is_watched_from_then_on() {
    let _alone = alone();
    let hello = Hello::new();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start_as(hello.up(&["--watch"]), state.path());
    let package = "version = \"0.0.0\"\nedition = \"2024\"\n";
    let say = |word: &str| {
        hello.write("words/src/lib.rs", &format!("pub fn word() -> &'static str {{ \"{word}\" }}\n"));
    };
    hello.write("words/Cargo.toml", &format!("[package]\nname = \"words\"\n{package}"));
    say("two");
    hello.greeting("pub use words::word;\npub fn start() {}\n");
    let greeting = "[package]\nname = \"greeting\"\n";
    hello.write(
        "greeting/Cargo.toml",
        &format!("{greeting}{package}[dependencies]\nwords = {{ path = \"../words\" }}\n"),
    );
    // A half-edited template does not matter until the next start.
    hello.write("template.yaml", "Resources: {");
    running.logged(&["watch", "swapped", "hello"]);
    assert_eq!(running.client().invoke("hello", &json!({})).await.unwrap(), "two");
    say("three");
    running.logged(&["watch", "swapped", "hello"]);
    assert_eq!(running.client().invoke("hello", &json!({})).await.unwrap(), "three");
    running.end(Signal::TERM);
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn the_summary_leaves_out_what_loaded_the_seed_data() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--log", "json"]);
    assert!(running.printed.iter().any(|line| line.contains("3 listings loaded")), "{:?}", running.printed);
    for _ in 0..3 {
        running.logged(&["command settled"]);
    }
    let id = running.client().write(Method::POST, "/contracts", Some(&contract(34))).await.unwrap();
    running.logged(&["command settled", &id]);
    let (_, printed) = running.end(Signal::TERM);
    let summary: Value = serde_json::from_str(printed.last().unwrap()).unwrap();
    assert_eq!(summary["requests"], json!({"accepted": 1, "refused": 0, "failed": 0}));
    assert_eq!(summary["commands"], json!({"applied": 1, "rejected": 0}));
    assert_eq!(summary["executions"], json!({}));
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn the_summary_counts_what_happened_in_this_run() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--no-seed-data", "--log", "json"]);
    let client = running.client();
    let first = client.write(Method::POST, "/contracts", Some(&contract(31))).await.unwrap();
    let (status, mut refused) = outcome(&client, "/contracts", &first).await;
    assert_eq!(status, "APPLIED");
    let second = client.write(Method::POST, "/contracts", Some(&contract(31))).await.unwrap();
    let (status, unknown) = outcome(&client, "/contracts", &second).await;
    assert_eq!(status, "REJECTED");
    refused += unknown + 1;
    let wrong = client.api(Method::POST, "/contracts", Some(&json!({"property_id": 1}))).await.unwrap();
    assert_eq!(wrong.status, 400);
    let bus = client.log_group("ContractsCatchAllLogGroupArn").unwrap();
    until("the event", PATIENCE, async || Ok((client.logged(&bus).await?.len() == 1).then_some(())))
        .await
        .unwrap();
    // One message that nobody reads, and one dead letter.
    client.aws("AmazonSQS.CreateQueue", &json!({"QueueName": "mine"})).await.unwrap();
    let dead = client.output("ContractsIngestDLQUrl").unwrap().to_owned();
    for url in [format!("{}/123456789012/mine", client.addresses.endpoint_url), dead] {
        let message = json!({"QueueUrl": url, "MessageBody": "m"});
        client.aws("AmazonSQS.SendMessage", &message).await.unwrap();
    }
    let log = running.log();
    let (status, printed) = running.end(Signal::INT);
    assert_eq!(status.code(), Some(0));
    let summary: Value = serde_json::from_str(printed.last().unwrap()).unwrap();
    // Two writes and the last request for the outcome of each; an answer 404 counts as refused.
    assert_eq!(summary["requests"]["refused"], refused);
    assert!(summary["requests"]["accepted"].as_u64() >= Some(4), "{summary}");
    assert_eq!(summary["requests"]["failed"], 0);
    assert_eq!(summary["commands"], json!({"applied": 1, "rejected": 1}));
    assert_eq!(summary["events_published"], 1);
    assert_eq!(summary["executions"], json!({}));
    assert_eq!(summary["waiting"], json!({"mine": 1}));
    assert_eq!(summary["dead_letters"].as_object().unwrap().len(), 1, "{summary}");
    assert!(summary["ran_for_ms"].as_u64() > Some(0));

    // Every line of the log is JSON, also those of the functions.
    let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_function = |line: &&Value| line["service"] == "function" && line["message"] == "command settled";
    let settled: Vec<&Value> = lines.iter().filter(of_function).collect();
    assert_eq!(settled.len(), 2, "{log:#?}");
    assert_eq!(settled[1]["status"], "Rejected");
    assert_eq!(settled[1]["level"], "WARN");

    // The next run counts from zero, but waiting messages still wait.
    let again = Up::start(state.path(), &["--no-seed-data", "--log", "json"]);
    let (_, printed) = again.end(Signal::INT);
    let summary: Value = serde_json::from_str(printed.last().unwrap()).unwrap();
    assert_eq!(summary["commands"], json!({"applied": 0, "rejected": 0}));
    assert_eq!(summary["waiting"], json!({"mine": 1}));
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn the_summary_counts_the_invocations_that_are_still_being_retried() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--no-seed-data"]);
    let client = running.client();
    let detail = json!({"property_id": 7, "contract_status": "CANCELLED"}).to_string();
    let event = json!({
        "EventBusName": client.output("WebEventBusName").unwrap(),
        "Source": "unicorn-contracts", "DetailType": "ContractStatusChanged", "Detail": detail,
    });
    client.aws("AWSEvents.PutEvents", &json!({"Entries": [event]})).await.unwrap();
    running.logged(&["on-contract-ended", "will be retried in 60 s"]);
    // The log line comes before the retry is stored.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, printed) = running.end(Signal::INT);
    let retried = printed.iter().find(|line| line.trim_start().starts_with("retrying")).unwrap();
    assert!(retried.ends_with(" 1 of uni-prop-local-on-contract-ended"), "{printed:?}");
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn the_live_log_shows_every_hop_and_never_a_sellers_name() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let start = |colour: (&str, &str)| {
        let mut command = unicorn(&["up", "--port", "0", "--aws-port", "0", "--no-seed-data"]);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env(colour.0, colour.1);
        Up::start_as(command, state.path())
    };
    let running = start(("CLICOLOR_FORCE", "1"));
    let client = running.client();
    let mut log = Vec::new();
    for _ in 0..2 {
        let id = client.write(Method::POST, "/contracts", Some(&contract(32))).await.unwrap();
        outcome(&client, "/contracts", &id).await;
    }
    log.push(running.logged(&["function", "contracts-ingest", "command settled", "status=Rejected"]));
    assert!(log[0].contains("! function"), "a rejected command does not stand out: {}", log[0]);
    assert!(log[0].contains('\u{1b}'), "no colours although forced: {}", log[0]);
    running.end(Signal::TERM);

    let running = start(("NO_COLOR", "1"));
    let client = running.client();
    let id = client.write(Method::POST, "/contracts", Some(&contract(33))).await.unwrap();
    outcome(&client, "/contracts", &id).await;
    let bus = client.log_group("ContractsCatchAllLogGroupArn").unwrap();
    until("the event", PATIENCE, async || Ok((client.logged(&bus).await?.len() == 2).then_some(())))
        .await
        .unwrap();
    let log = running.log();
    for words in [
        ["apigateway", "/contracts", "POST answered 200"],
        ["sqs", "contracts-ingest", "message accepted"],
        ["function", "contracts-ingest", "status=Applied"],
        ["lambda", "contracts-ingest", "finished in"],
        ["dynamodb", "contracts", "written"],
        ["pipes", "", "records moved"],
        ["events", "unicorn-contracts", "ContractStatusChanged"],
    ] {
        let line = log.iter().find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "{words:?} is not in {log:#?}");
    }
    let all = log.join("\n");
    assert!(!all.contains('\u{1b}') && !all.contains("Unmentioned"), "{all}");
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn the_seed_data_is_loaded_once_again_when_asked_and_never_when_not_wanted() {
    let _alone = alone();
    let said = |running: &Up| running.printed.iter().find(|line| line.starts_with("Seed data")).cloned();
    let listing = "/listings/usa/lakeside/shore-drive/7";
    let state = tempfile::tempdir().unwrap();
    let unwanted = Up::start(state.path(), &["--no-seed-data"]);
    assert_eq!(said(&unwanted), None);
    assert_eq!(unwanted.client().get(listing).await.unwrap().status, 404);
    unwanted.end(Signal::TERM);

    let first = Up::start(state.path(), &[]);
    assert!(said(&first).unwrap().ends_with("images and 3 listings loaded"), "{:?}", first.printed);
    let client = first.client();
    until("the seed listings", PATIENCE, async || {
        let mut found = 0;
        for path in
            [listing, "/listings/usa/anytown/main-street/111", "/listings/usa/anytown/station-road/12"]
        {
            found += u32::from(client.get(path).await?.status.is_success());
        }
        Ok((found == 3).then_some(()))
    })
    .await
    .unwrap();
    first.end(Signal::TERM);

    let second = Up::start(state.path(), &[]);
    assert_eq!(said(&second), None);
    let client = second.client();
    let gone = client.write(Method::DELETE, listing, None).await.unwrap();
    assert_eq!(outcome(&client, "/listings", &gone).await.0, "APPLIED");
    second.end(Signal::TERM);

    let third = Up::start(state.path(), &["--seed-data"]);
    let line = said(&third).unwrap();
    assert!(
        line.contains("0 images and 1 listings loaded; 7 images and 2 listings were there already"),
        "{line}"
    );
    let client = third.client();
    until("the listing", PATIENCE, async || {
        Ok((client.get(listing).await?.body["status"] == "NEW").then_some(()))
    })
    .await
    .unwrap();
    third.end(Signal::TERM);

    // The state after a first start that was interrupted while it loaded the seed data.
    std::fs::remove_file(state.path().join("seeded")).unwrap();
    let fourth = Up::start(state.path(), &[]);
    let line = said(&fourth).unwrap();
    assert!(
        line.contains("0 images and 0 listings loaded; 7 images and 3 listings were there already"),
        "{line}"
    );
    fourth.end(Signal::TERM);
}

#[test]
fn seed_data_and_no_seed_data_exclude_each_other() {
    let (succeeded, _, errors) = run(unicorn(&["up", "--seed-data", "--no-seed-data"]));
    assert!(!succeeded);
    assert!(errors.contains("--seed-data") && errors.contains("--no-seed-data"), "{errors}");
}
