//! The whole application under a fault plan: messages and events arrive twice, late and out of order; calls
//! are throttled, or applied and answered with an error; entries of PutEvents are refused; functions are
//! killed while they work. In the end every command has an outcome, every contract is the result of its
//! commands, every answer to a request is the same, and the dead-letter queues are empty.
//!
//! `UNICORN_SEED` repeats a run.

// clippy.toml allows them in tests, but does not recognise the helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use end_to_end_tests::{ROOT, binaries, project, runtime};
use local_cloud::up::{Options, up};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use unicorn::client::{Client, until};

const FAULTS: &str = "duplicate=0.1,reorder=50,delay=200,throttle=0.05,lose=0.02,partial=0.05,crash=0.03";
const PROPERTIES: u32 = 40;
const IMAGE: &str = "chaos.png";

/// Messages of a killed function return only after their visibility timeout, and that can happen repeatedly.
const PATIENCE: Duration = Duration::from_secs(240);

/// The templates, with visibility timeouts as short as the functions' own allow: a minute for
/// every crash would make this test a long one.
fn copy_templates(to: &Path) {
    let from = project().unwrap();
    std::fs::copy(from.join(ROOT), to.join(ROOT)).unwrap();
    for service in ["contracts-service", "properties-service", "web-service"] {
        std::fs::create_dir(to.join(service)).unwrap();
        for entry in std::fs::read_dir(from.join(service)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".yaml") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let text = text.replace("VisibilityTimeout: 60", "VisibilityTimeout: 10");
                let text = text.replace("VisibilityTimeout: 90", "VisibilityTimeout: 15");
                std::fs::write(to.join(service).join(name), text).unwrap();
            }
        }
    }
}

fn property(number: u32) -> String {
    format!("usa/chaosville/main-street/{number}")
}

/// Retries a write until the gateway accepts it, as agents should.
async fn send(client: &Client, method: Method, path: &str, body: Value) -> String {
    until("an accepted write", PATIENCE, async || {
        Ok(client.write(method.clone(), path, Some(&body)).await.ok())
    })
    .await
    .unwrap()
}

/// Sends all writes of one property, the two writes of each service right after each other, and returns the
/// ids of the commands.
async fn story(client: &Client, number: u32) -> Vec<String> {
    let address = json!({"country": "usa", "city": "chaosville", "street": "main street", "number": number});
    let contract =
        json!({"property_id": property(number), "address": address, "seller_name": "Smith & Sons"});
    let approve = json!({"property_id": property(number), "status": "APPROVED"});
    let listing = json!({"address": address, "description": "A lovely bright house.", "contract": "sale",
        "listprice": 100, "currency": "USD", "images": [IMAGE]});
    let request = json!({"property_id": property(number)});
    let of_contract = async {
        let created = send(client, Method::POST, "/contracts", contract).await;
        (created, send(client, Method::PUT, "/contracts", approve).await)
    };
    let of_listing = async {
        let listed = send(client, Method::POST, "/listings", listing).await;
        (listed, send(client, Method::POST, "/request_approval", request).await)
    };
    let ((created, approved), (listed, requested)) = tokio::join!(of_contract, of_listing);
    [("contracts", created), ("contracts", approved), ("listings", listed), ("listings", requested)]
        .map(|(service, id)| format!("/{service}/commands/{id}"))
        .into()
}

async fn check(client: &Client) -> anyhow::Result<()> {
    client.put_image(IMAGE, vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10]).await?;
    let stories = (1..=PROPERTIES).map(|number| story(client, number));
    let commands: Vec<String> = futures::future::join_all(stories).await.into_iter().flatten().collect();

    let mut open: BTreeSet<&String> = commands.iter().collect();
    let mut rejected = BTreeMap::new();
    let settled = until("the outcome of every command", PATIENCE, async || {
        for command in open.clone() {
            let outcome = client.get(command).await?.body;
            match outcome["status"].as_str() {
                Some("APPLIED") => open.remove(command),
                Some("REJECTED") => {
                    rejected.insert(command, outcome["reason"].clone());
                    open.remove(command)
                }
                _ => continue,
            };
        }
        Ok(open.is_empty().then_some(()))
    })
    .await;
    assert!(settled.is_ok(), "{} of {} commands have no outcome: {open:?}", open.len(), commands.len());
    // Every command waits for its predecessor, so none may be rejected.
    assert!(rejected.is_empty(), "{rejected:?}");

    for number in 1..=PROPERTIES {
        // A read can fail too; a client reads again.
        let contract = until("the contract", PATIENCE, async || {
            let answer = client.get(&format!("/contracts/{}", property(number))).await?;
            Ok((answer.status == StatusCode::OK).then_some(answer.body))
        })
        .await?;
        assert_eq!(
            (&contract["contract_status"], &contract["contract_version"]),
            (&json!("APPROVED"), &json!(2))
        );
    }
    // A request that came before its contract's event may have been declined (contract_not_found).
    let mut waiting: BTreeSet<u32> = (1..=PROPERTIES).collect();
    until("the end of every evaluation", PATIENCE, async || {
        for number in waiting.clone() {
            let listing = client.get(&format!("/listings/{}", property(number))).await?.body;
            if ["APPROVED", "DECLINED"].iter().any(|status| listing["status"] == *status) {
                waiting.remove(&number);
            }
        }
        Ok(waiting.is_empty().then_some(()))
    })
    .await?;

    let mut answers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in client.logged(&client.log_group("PropertiesCatchAllLogGroupArn")?).await? {
        if event["detail-type"] == "PublicationEvaluationCompleted" {
            let request = event["detail"]["approval_request_id"].to_string();
            answers.entry(request).or_default().insert(event["detail"].to_string());
        }
    }
    assert_eq!(answers.len(), PROPERTIES as usize, "one answer for each request: {answers:#?}");
    assert!(answers.values().all(|answers| answers.len() == 1), "more than one answer: {answers:#?}");
    for queue in ["ContractsIngestDLQUrl", "WebIngestDLQUrl"] {
        let input =
            json!({"QueueUrl": client.output(queue)?, "AttributeNames": ["ApproximateNumberOfMessages"]});
        let counted = client.aws("AmazonSQS.GetQueueAttributes", &input).await?;
        assert_eq!(counted["Attributes"]["ApproximateNumberOfMessages"], "0", "{queue}");
    }
    Ok(())
}

#[test]
fn under_a_fault_plan_every_command_has_its_outcome_and_every_request_one_answer() {
    let seed = std::env::var("UNICORN_SEED")
        .unwrap_or_else(|_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string());
    println!("UNICORN_SEED={seed}");
    runtime().unwrap().block_on(async {
        let (templates, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        copy_templates(templates.path());
        let faults = format!("seed={seed},{FAULTS}").parse().unwrap();
        let options = Options::on_free_ports(templates.path(), state.path(), &binaries().await.unwrap());
        let running = up(&Options { faults, ..options }).await.unwrap();
        let checked = check(&Client::new(running.addresses.clone())).await;
        running.stop().await;
        checked.unwrap();
    });
}
