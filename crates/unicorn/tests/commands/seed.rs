//! `seed` as an operator runs it, on a running stage.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use rustix::process::Signal;
use serde_json::{Value, json};
use unicorn::client::{Client, until};

use crate::support::{Up, alone, assert_refused, project, run, send, unicorn, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "usa/anytown/main-street-111.png";
/// The function that handles the commands of the web service.
const INGEST: &str = "uni-prop-local-web-ingest";
const LISTINGS: [&str; 3] =
    ["usa/anytown/main-street/111", "usa/anytown/station-road/12", "usa/lakeside/shore-drive/7"];

/// `seed` into the local cloud with this state folder.
fn seed(state: &Path) -> Command {
    let mut command = unicorn(&["seed", "--state-dir"]);
    command.arg(state).env_remove("AWS_ENDPOINT_URL");
    command
}

/// `seed` with only these variables about AWS.
fn seed_with(arguments: &[&str], home: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = unicorn(&["seed"]);
    let inherited = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("AWS_"));
    for name in inherited {
        command.env_remove(name);
    }
    command.args(arguments).env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs(variables.iter().copied());
    command
}

fn succeeds(command: Command) -> String {
    let (succeeded, said, errors) = run(command);
    assert!(succeeded, "{said}{errors}");
    said
}

/// The time and the bytes of an image in the bucket.
async fn image(client: &Client, key: &str) -> (HeaderMap, Vec<u8>) {
    let url =
        format!("{}/{}/{key}", client.addresses.endpoint_url, client.output("ImagesBucketName").unwrap());
    let scope = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/s3/aws4_request";
    let answer = reqwest::Client::new().get(url).header("Authorization", scope).send().await.unwrap();
    (answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
}

async fn status(client: &Client, listing: &str) -> Value {
    client.get(&format!("/listings/{listing}")).await.unwrap().body["status"].clone()
}

/// Sends a write and waits until it is applied.
async fn applied(client: &Client, service: &str, method: Method, path: &str, body: Option<&Value>) {
    let id = client.write(method, path, body).await.unwrap();
    let path = format!("{service}/commands/{id}");
    let ended = until("the outcome", PATIENCE, async || {
        let status = client.get(&path).await?.body["status"].take();
        Ok(Some(status).filter(|status| status == "APPLIED" || status == "REJECTED"))
    });
    assert_eq!(ended.await.unwrap(), "APPLIED");
}

/// The first seed listing, with another price.
fn dearer() -> Value {
    let mut listing = unicorn::seed::listings(&project()).unwrap().remove(0);
    listing["listprice"] = json!(999_999);
    listing
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn the_second_run_puts_nothing_and_sends_nothing() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--no-seed-data", "--log", "json"]);
    let client = running.client();
    let said = succeeds(seed(state.path()));
    assert!(said.contains("7 images and 3 listings loaded\n"), "{said}");
    for listing in LISTINGS {
        assert!(said.contains(&format!("applied     {listing}\n")), "{said}");
        assert_eq!(status(&client, listing).await, "NEW");
    }
    let (first, bytes) = image(&client, IMAGE).await;
    assert_eq!(bytes, std::fs::read(project().join("web-service/data/images").join(IMAGE)).unwrap());

    // Found like a stack on AWS, with credentials from a process of a profile.
    let home = tempfile::tempdir().unwrap();
    let key = r#"{"Version": 1, "AccessKeyId": "local", "SecretAccessKey": "local"}"#;
    let profile = format!("[profile agent]\nregion = us-east-1\ncredential_process = echo '{key}'\n");
    let file = home.path().join("config");
    std::fs::write(&file, profile).unwrap();
    let endpoint = client.addresses.endpoint_url.as_str();
    // Any later upload would have another time.
    until("another second", PATIENCE, async || {
        Ok((image(&client, IMAGE).await.0["date"] != first["last-modified"]).then_some(()))
    })
    .await
    .unwrap();
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_PROFILE", "agent"),
        ("AWS_CONFIG_FILE", file.to_str().unwrap()),
    ];
    let said = succeeds(seed_with(&["--stack-name", "uni-prop-local"], home.path(), &variables));
    let nothing = "0 images and 0 listings loaded; 7 images and 3 listings were there already\n";
    assert!(said.contains(nothing), "{said}");
    assert!(!said.contains("applied"), "{said}");
    assert_eq!(image(&client, IMAGE).await.0["last-modified"], first["last-modified"]);

    let (_, printed) = running.end(Signal::TERM);
    let summary: Value = serde_json::from_str(printed.last().unwrap()).unwrap();
    assert_eq!(summary["commands"], json!({"applied": 3, "rejected": 0}), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn what_was_changed_or_withdrawn_is_loaded_again_and_the_rest_is_left_alone() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--no-seed-data"]);
    let client = running.client();
    succeeds(seed(state.path()));
    client.put_image(IMAGE, b"another image".to_vec()).await.unwrap();
    applied(&client, "/listings", Method::POST, "/listings", Some(&dearer())).await;
    let gone = format!("/listings/{}", LISTINGS[2]);
    applied(&client, "/listings", Method::DELETE, &gone, None).await;

    let said = succeeds(seed(state.path()));
    let changed = "1 images and 2 listings loaded; 6 images and 1 listings were there already\n";
    assert!(said.contains(changed), "{said}");
    let bytes = std::fs::read(project().join("web-service/data/images").join(IMAGE)).unwrap();
    assert_eq!(image(&client, IMAGE).await.1, bytes);
    assert_eq!(status(&client, LISTINGS[2]).await, "NEW");
    let first = client.get(&format!("/listings/{}", LISTINGS[0])).await.unwrap().body;
    assert_eq!(first["listprice"], 285_000);
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn an_interrupted_run_and_the_one_after_it_are_the_same_commands() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--no-seed-data"]);
    let client = running.client();
    // The function is stopped, so that the second run cannot see the listings of the first.
    client.poll(INGEST, false, PATIENCE).await.unwrap();
    let start = || seed(state.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut interrupted = start();
    // Polled without a pause, so that the signal comes between two listings; the checks below hold anywhere.
    let first = async { while queued(&client).await.unwrap() == 0 {} };
    tokio::time::timeout(PATIENCE, first).await.unwrap();
    send(&interrupted, Signal::KILL);
    wait(&mut interrupted, PATIENCE);
    let before = queued(&client).await.unwrap();
    let mut second = start();
    let all = async || Ok((queued(&client).await? == before + LISTINGS.len()).then_some(()));
    until("the listings of the second run", PATIENCE, all).await.unwrap();
    client.poll(INGEST, true, PATIENCE).await.unwrap();
    assert!(wait(&mut second, PATIENCE).success());

    // There are more messages than listings, but each listing was written once.
    let scan = json!({"TableName": client.output("ListingsTableName").unwrap()});
    let items = client.aws("DynamoDB_20120810.Scan", &scan).await.unwrap();
    let versions: Vec<&Value> =
        items["Items"].as_array().unwrap().iter().map(|item| &item["listing_version"]["N"]).collect();
    assert_eq!(versions, ["1", "1", "1"], "{items}");
}

/// The number of messages in the queue of the web service.
async fn queued(client: &Client) -> anyhow::Result<usize> {
    let queue = json!({"QueueUrl": client.output("WebIngestQueueUrl")?,
        "AttributeNames": ["ApproximateNumberOfMessages"]});
    let answer = client.aws("AmazonSQS.GetQueueAttributes", &queue).await?;
    Ok(answer["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock, reason = "one test at a time, on a runtime of its own")]
async fn a_rejected_listing_is_told_and_fails_the_run() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &["--no-seed-data"]);
    let client = running.client();
    succeeds(seed(state.path()));
    // A listing at that address is being evaluated and waits for its contract.
    applied(&client, "/listings", Method::POST, "/listings", Some(&dearer())).await;
    let contract = json!({"property_id": LISTINGS[0], "seller_name": "Ann Other",
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111}});
    applied(&client, "/contracts", Method::POST, "/contracts", Some(&contract)).await;
    let request = json!({"property_id": LISTINGS[0]});
    applied(&client, "/listings", Method::POST, "/request_approval", Some(&request)).await;

    let (succeeded, said, errors) = run(seed(state.path()));
    assert!(!succeeded);
    assert!(said.contains(&format!("rejected    {}: evaluation_in_progress: ", LISTINGS[0])), "{said}");
    assert_eq!(errors, "error: 1 of 1 listings were rejected\n");
}

#[test]
fn what_stands_in_the_way_is_told_in_one_sentence() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let region = ("AWS_REGION", "us-east-1");
    let key = [("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")];
    let nobody = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");

    assert_refused(seed(state.path()), &["no local cloud runs on", "cargo unicorn up", "--state-dir"]);
    let mut elsewhere = seed(state.path());
    elsewhere.args(["--stage", "dev"]);
    assert_refused(elsewhere, &["--state-dir belongs to a local cloud"]);
    assert_refused(seed_with(&["--stage", "dev"], home.path(), &[region]), &["there are no AWS credentials"]);
    assert_refused(seed_with(&["--stage", "dev"], home.path(), &key), &["no AWS region", "AWS_REGION"]);
    let unreachable = [region, key[0], key[1], nobody];
    let words = ["cannot read the stack uni-prop-dev", "AWS cannot be reached"];
    assert_refused(seed_with(&["--stage", "dev"], home.path(), &unreachable), &words);
    let (succeeded, _, errors) = run(unicorn(&["seed", "--stage", "moon"]));
    assert!(!succeeded && errors.contains("local, dev, prod"), "{errors}");

    let running = Up::start(state.path(), &["--no-seed-data"]);
    let endpoint = running.addresses().endpoint_url;
    let here = [region, key[0], key[1], ("AWS_ENDPOINT_URL", &endpoint)];
    let words = ["there is no stack uni-prop-dev", "us-east-1", endpoint.as_str(), "--stack-name"];
    assert_refused(seed_with(&["--stage", "dev"], home.path(), &here), &words);
    let mut other = seed(state.path());
    other.args(["--stack-name", "other"]);
    assert_refused(other, &["there is no stack other"]);
}
