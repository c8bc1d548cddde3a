//! Durability: the test kills `unicorn up` with `kill -9` at random moments under load, and starts it again on
//! the same state. In the end it moves the dead letters back that the kills caused, and then checks:
//!
//! - every command that was answered 200 has its outcome;
//! - every change of a contract is in the log of its bus;
//! - every approval request is answered, and its listing is no longer `PENDING`;
//! - every event, message and log event that the AWS endpoint accepted is where it belongs, events also in the
//!   archive of their bus;
//! - no process is left.
//!
//! `UNICORN_KILLS` is the number of kills under load (default 50; kills during a start are extra), `UNICORN_SEED`
//! repeats a run.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use local_cloud::up::Addresses;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use unicorn::build;
use unicorn::client::{Client, until};

const IMAGE: &str = "kill.png";

/// The number of stories that run at the same time.
const AT_ONCE: u32 = 4;

/// The time limit for everything after the last start: a command whose predecessor was never accepted waits two
/// minutes, and a command in progress at the last kill is received again first.
const PATIENCE: Duration = Duration::from_secs(240);

/// An accepted command.
#[derive(Debug, Clone)]
struct Accepted {
    service: &'static str,
    id: String,
    property: String,
    /// The new status of the contract, or `request`, or empty.
    change: &'static str,
}

type Ledger = Arc<Mutex<Vec<Accepted>>>;

/// The numbers of the events, messages and log events that the AWS endpoint accepted.
#[derive(Debug, Default)]
struct Direct {
    tried: u32,
    events: BTreeSet<u32>,
    messages: BTreeSet<u32>,
    lines: BTreeSet<u32>,
}

/// The name of the queue and of the log group of this test.
const OWN: &str = "kill-test";

/// The name of a rule, of its queue, and of the replay that fills it.
const REPLAYED: &str = "kill-test-replayed";

/// After so many kills under load, the test kills once during a start.
const STARTS: u64 = 3;

impl Direct {
    /// Creates the queue and the log group.
    async fn prepare(client: &Client) {
        client.aws("AmazonSQS.CreateQueue", &json!({"QueueName": OWN})).await.unwrap();
        client.aws("Logs_20140328.CreateLogGroup", &json!({"logGroupName": OWN})).await.unwrap();
        let stream = json!({"logGroupName": OWN, "logStreamName": OWN});
        client.aws("Logs_20140328.CreateLogStream", &stream).await.unwrap();
    }

    /// Puts an event, sends a message and writes a log event, again and again, and records what is accepted.
    async fn go_on(&mut self, client: &Client) {
        let bus = client.output("WebEventBusName").unwrap().to_owned();
        loop {
            self.tried += 1;
            let number = self.tried;
            let text = number.to_string();
            let entry = json!({"EventBusName": bus, "Source": OWN, "DetailType": OWN,
                "Detail": json!({"number": number}).to_string()});
            if let Ok(answer) = client.aws("AWSEvents.PutEvents", &json!({"Entries": [entry]})).await {
                assert_eq!(answer["FailedEntryCount"], 0);
                self.events.insert(number);
            }
            let message = json!({"QueueUrl": queue_url(client, OWN), "MessageBody": text});
            if client.aws("AmazonSQS.SendMessage", &message).await.is_ok() {
                self.messages.insert(number);
            }
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
            let line = json!({"logGroupName": OWN, "logStreamName": OWN,
                "logEvents": [{"timestamp": now_ms, "message": text}]});
            if client.aws("Logs_20140328.PutLogEvents", &line).await.is_ok() {
                self.lines.insert(number);
            }
        }
    }

    /// Checks that everything accepted is there.
    async fn assert_kept(&self, client: &Client) {
        let group = client.log_group("WebCatchAllLogGroupArn").unwrap();
        until("every event that was put", PATIENCE, async || {
            let events = client.logged(&group).await?;
            let came: BTreeSet<u32> =
                events.iter().filter_map(|event| number(&event["detail"]["number"])).collect();
            Ok(self.events.is_subset(&came).then_some(()))
        })
        .await
        .unwrap();
        let lines: BTreeSet<u32> = client.logged(OWN).await.unwrap().iter().filter_map(number).collect();
        assert!(self.lines.is_subset(&lines), "log events are gone: {:?}", self.lines.difference(&lines));
        let mut messages = BTreeSet::new();
        receive_all(client, OWN, &mut messages, |body| body.parse().ok()).await.unwrap();
        assert!(
            self.messages.is_subset(&messages),
            "messages are gone: {:?}",
            self.messages.difference(&messages)
        );
        println!(
            "{} events, {} messages, {} log events taken and kept",
            self.events.len(),
            self.messages.len(),
            self.lines.len()
        );
    }

    /// Checks that the archive of the bus replays every event.
    async fn assert_archived(&self, client: &Client, begun: SystemTime) {
        let bus = client.output("WebEventBusName").unwrap();
        let bus_arn =
            client.aws("AWSEvents.DescribeEventBus", &json!({"Name": bus})).await.unwrap()["Arn"].take();
        let archives =
            client.aws("AWSEvents.ListArchives", &json!({"EventSourceArn": bus_arn})).await.unwrap();
        let name = &archives["Archives"][0]["ArchiveName"];
        let archive = client.aws("AWSEvents.DescribeArchive", &json!({"ArchiveName": name})).await.unwrap();
        let rule = json!({"Name": REPLAYED, "EventBusName": bus,
            "EventPattern": json!({"source": [OWN], "replay-name": [REPLAYED]}).to_string()});
        let rule_arn = client.aws("AWSEvents.PutRule", &rule).await.unwrap()["RuleArn"].take();
        let queue_arn =
            format!("arn:aws:sqs:{}:{}:{REPLAYED}", client.addresses.region, client.addresses.account);
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": queue_arn, "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}}}]});
        let queue = json!({"QueueName": REPLAYED, "Attributes": {"Policy": policy.to_string()}});
        client.aws("AmazonSQS.CreateQueue", &queue).await.unwrap();
        let targets =
            json!({"Rule": REPLAYED, "EventBusName": bus, "Targets": [{"Id": "queue", "Arn": queue_arn}]});
        client.aws("AWSEvents.PutTargets", &targets).await.unwrap();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let replay = json!({"ReplayName": REPLAYED, "EventSourceArn": archive["ArchiveArn"],
            "EventStartTime": seconds(begun), "EventEndTime": seconds(SystemTime::now()) + 1,
            "Destination": {"Arn": bus_arn, "FilterArns": [rule_arn]}});
        client.aws("AWSEvents.StartReplay", &replay).await.unwrap();
        let mut replayed = BTreeSet::new();
        let of_event = |body: &str| number(&serde_json::from_str::<Value>(body).ok()?["detail"]["number"]);
        let all = until("every event out of the archive", PATIENCE, async || {
            receive_all(client, REPLAYED, &mut replayed, of_event).await?;
            Ok(self.events.is_subset(&replayed).then_some(()))
        });
        let all = all.await;
        let lost: Vec<_> = self.events.difference(&replayed).collect();
        assert!(all.is_ok(), "the archive of {} events replays none of: {lost:?}", archive["EventCount"]);
        println!("{} events in the archive, {} of them replayed", archive["EventCount"], replayed.len());
    }
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn queue_url(client: &Client, queue: &str) -> String {
    format!("{}/{}/{queue}", client.addresses.endpoint_url, client.addresses.account)
}

/// Receives all visible messages, and adds the numbers in their bodies.
async fn receive_all(
    client: &Client,
    queue: &str,
    numbers: &mut BTreeSet<u32>,
    read: impl Fn(&str) -> Option<u32>,
) -> anyhow::Result<()> {
    let receive = json!({"QueueUrl": queue_url(client, queue), "MaxNumberOfMessages": 10});
    loop {
        let answer = client.aws("AmazonSQS.ReceiveMessage", &receive).await?;
        let Some(received) = answer["Messages"].as_array() else { return Ok(()) };
        numbers.extend(received.iter().filter_map(|message| read(message["Body"].as_str()?)));
    }
}

struct Process(Child);

impl Process {
    fn start(state: &Path) -> Self {
        // The file of an earlier start must not be read as that of this one.
        let _ = std::fs::remove_file(state.join("local.json"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_unicorn"));
        command.args([
            "up",
            "--port",
            "0",
            "--aws-port",
            "0",
            "--log",
            "quiet",
            "--no-seed-data",
            "--state-dir",
        ]);
        command.arg(state).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// A client, once both ports answer.
    async fn client(&mut self, state: &Path) -> Client {
        let file = state.join("local.json");
        until("the local cloud", Duration::from_secs(60), async || {
            assert_eq!(self.0.try_wait().unwrap(), None, "the local cloud ended at its start");
            let written = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            Ok(written.map(|addresses: Addresses| Client::new(addresses)))
        })
        .await
        .unwrap()
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn address(number: u32) -> Value {
    json!({"country": "usa", "city": "killville", "street": "long street", "number": number})
}

fn property(number: u32) -> String {
    format!("usa/killville/long-street/{number}")
}

/// Sends one write, and records it if it is accepted. Without an answer, nothing is promised.
async fn send(
    client: &Client,
    ledger: &Ledger,
    number: u32,
    write: (Method, &str, &'static str),
    body: Value,
) -> bool {
    let (method, path, change) = write;
    let Ok(id) = client.write(method, path, Some(&body)).await else { return false };
    let service = if path == "/contracts" { "/contracts" } else { "/listings" };
    ledger.lock().unwrap().push(Accepted { service, id, property: property(number), change });
    true
}

/// Runs the story of one property until the kill. Every second contract is approved at once; for the others an
/// execution waits over all kills until the end.
async fn story(client: &Client, ledger: &Ledger, number: u32) {
    let id = property(number);
    let contract = json!({"property_id": id, "address": address(number), "seller_name": "Smith & Sons"});
    let listing = json!({"address": address(number), "description": "A lovely bright house.",
        "contract": "sale", "listprice": 100, "currency": "USD", "images": [IMAGE]});
    send(client, ledger, number, (Method::POST, "/contracts", "DRAFT"), contract).await;
    if number.is_multiple_of(2) {
        approve(client, ledger, number).await;
    }
    send(client, ledger, number, (Method::POST, "/listings", ""), listing).await;
    let request = json!({"property_id": id});
    send(client, ledger, number, (Method::POST, "/request_approval", "request"), request).await;
}

async fn approve(client: &Client, ledger: &Ledger, number: u32) -> bool {
    let body = json!({"property_id": property(number), "status": "APPROVED"});
    send(client, ledger, number, (Method::PUT, "/contracts", "APPROVED"), body).await
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_kills_at_random_moments() {
    let kills = setting("UNICORN_KILLS").unwrap_or(50);
    let seed = setting("UNICORN_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("UNICORN_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Once, before the first start: a build may take longer than the limit of a start.
    build::functions(&build::project().unwrap(), "template.yaml", "local").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::default();
    let mut direct = Direct::default();
    let mut properties = 0;
    let (begun, mut at_start) = (SystemTime::now(), 0);
    for kill in 0..kills {
        if kill % STARTS == STARTS - 1 {
            let mut process = Process::start(folder.path());
            tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
            process.kill();
            at_start += 1;
        }
        let mut process = Process::start(folder.path());
        let client = process.client(folder.path()).await;
        if kill == 0 {
            client.put_image(IMAGE, vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10]).await.unwrap();
            Direct::prepare(&client).await;
        }
        let stories = async {
            loop {
                let numbers = properties + 1..=properties + AT_ONCE;
                properties += AT_ONCE;
                futures::future::join_all(numbers.map(|number| story(&client, &ledger, number))).await;
            }
        };
        let moment = Duration::from_millis(random.random_range(30..1_500));
        let load = async { tokio::join!(stories, direct.go_on(&client)) };
        let _ = tokio::time::timeout(moment, load).await;
        process.kill();
        assert_alone(&client).await;
    }

    let mut process = Process::start(folder.path());
    let client = process.client(folder.path()).await;
    settle(&client).await;
    // Approves the contracts that executions still wait for.
    for number in 1..=properties {
        assert!(approve(&client, &ledger, number).await);
    }
    let accepted = ledger.lock().unwrap().clone();
    println!(
        "{} commands on {properties} properties, {kills} kills under load and {at_start} during a start",
        accepted.len()
    );
    settle(&client).await;
    let applied = outcomes(&client, &accepted).await;
    let changes = wanted(&applied, |change| ["DRAFT", "APPROVED"].contains(&change));
    wait_for_events(&client, "ContractsCatchAllLogGroupArn", "contract_status", changes).await;
    let requests = wanted(&applied, |change| change == "request");
    let answered = requests.iter().map(|(property, _)| (property.clone(), String::new())).collect();
    wait_for_events(&client, "PropertiesCatchAllLogGroupArn", "", answered).await;
    assert_settled(&client, &applied, requests.into_iter().map(|(property, _)| property).collect()).await;
    direct.assert_kept(&client).await;
    direct.assert_archived(&client, begun).await;
    process.kill();
    assert_alone(&client).await;
}

/// Waits until the ingest queues are empty. Each kill uses up one receive of a command, so that it may become a
/// dead letter before its event or reply is sent. The test moves dead letters back, as an operator does.
async fn settle(client: &Client) {
    let mut redriven = 0;
    until("the end of the ingest queues", 2 * PATIENCE, async || {
        let mut left = 0;
        for queue in ["ContractsIngestQueueUrl", "WebIngestQueueUrl"] {
            left += messages(client, queue).await?.0;
        }
        for queue in ["ContractsIngestDLQUrl", "WebIngestDLQUrl"] {
            let (dead, arn) = messages(client, queue).await?;
            left += dead;
            // Refused only while an earlier move task runs.
            if dead > 0
                && client.aws("AmazonSQS.StartMessageMoveTask", &json!({"SourceArn": arn})).await.is_ok()
            {
                redriven += dead;
            }
        }
        Ok((left == 0).then_some(()))
    })
    .await
    .unwrap();
    println!("{redriven} dead letters moved back");
}

/// The number of messages in a queue of the stack, and its ARN.
async fn messages(client: &Client, output: &str) -> anyhow::Result<(u64, Value)> {
    let all = json!({"QueueUrl": client.output(output)?, "AttributeNames": ["All"]});
    let mut attributes = client.aws("AmazonSQS.GetQueueAttributes", &all).await?["Attributes"].take();
    let count = ["", "NotVisible", "Delayed"].iter().filter_map(|kind| {
        attributes[format!("ApproximateNumberOfMessages{kind}")].as_str()?.parse::<u64>().ok()
    });
    Ok((count.sum(), attributes["QueueArn"].take()))
}

/// Waits until each command is applied or rejected; returns the applied ones.
async fn outcomes(client: &Client, accepted: &[Accepted]) -> Vec<Accepted> {
    let (mut applied, mut open) = (Vec::new(), accepted.to_vec());
    let settled = until("the outcome of every command", PATIENCE, async || {
        let mut pending = Vec::new();
        for command in open.clone() {
            // There are no more kills, so a request without an answer is a failure.
            let answer = client.get(&format!("{}/commands/{}", command.service, command.id)).await.unwrap();
            match answer.body["status"].as_str() {
                Some("APPLIED") => applied.push(command),
                Some("REJECTED") => {}
                _ => pending.push(command),
            }
        }
        open = pending;
        Ok(open.is_empty().then_some(()))
    });
    let settled = settled.await.is_ok();
    assert!(settled, "{} of {} commands have no outcome: {open:?}", open.len(), accepted.len());
    applied
}

fn wanted(applied: &[Accepted], of: impl Fn(&str) -> bool) -> HashSet<(String, String)> {
    let commands = applied.iter().filter(|command| of(command.change));
    commands.map(|command| (command.property.clone(), command.change.to_owned())).collect()
}

/// Checks that every created contract is approved, and that no requested listing still waits.
async fn assert_settled(client: &Client, applied: &[Accepted], mut waiting: HashSet<String>) {
    for (property, _) in wanted(applied, |change| change == "DRAFT") {
        let contract = client.get(&format!("/contracts/{property}")).await.unwrap().body;
        assert_eq!(contract["contract_status"], "APPROVED", "{property}: {contract}");
    }
    until("the end of every evaluation", PATIENCE, async || {
        for property in waiting.clone() {
            let listing = client.get(&format!("/listings/{property}")).await?.body;
            if ["APPROVED", "DECLINED"].iter().any(|status| listing["status"] == *status) {
                waiting.remove(&property);
            }
        }
        Ok(waiting.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

/// Waits until a bus has logged, for each property, an event with this text in `member` of its detail (an empty
/// `member` means the answer to an approval request).
async fn wait_for_events(client: &Client, log: &str, member: &str, mut missing: HashSet<(String, String)>) {
    let all = missing.len();
    let group = client.log_group(log).unwrap();
    let came = until("every event", PATIENCE, async || {
        for event in client.logged(&group).await? {
            let text = |name: &str| event["detail"][name].as_str().unwrap_or_default().to_owned();
            if !member.is_empty() || event["detail-type"] == "PublicationEvaluationCompleted" {
                missing.remove(&(text("property_id"), text(member)));
            }
        }
        Ok(missing.is_empty().then_some(()))
    });
    let came = came.await;
    assert!(came.is_ok(), "{} of {all} events are missing in {group}: {missing:?}", missing.len());
}

/// Waits until the functions of a killed local cloud have ended; they have its address in their environment.
async fn assert_alone(client: &Client) {
    let address = format!("AWS_ENDPOINT_URL={}", client.addresses.endpoint_url).into_bytes();
    let knows = |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|entry| entry == address);
    until("the end of the functions", Duration::from_secs(5), async || {
        let processes = std::fs::read_dir("/proc")?.flatten();
        let left =
            processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok()).any(&knows);
        Ok((!left).then_some(()))
    })
    .await
    .unwrap();
}
