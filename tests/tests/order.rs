//! The outcome follows the order of the requests: the table of issue 9, section 2, tested from outside. In
//! each round one client with its own property sends each request right after the 200 of the one before and
//! does not wait for outcomes. Rounds run side by side.
//!
//! ```text
//! cargo test -p end-to-end-tests --test order -- --nocapture
//! ```
//!
//! | variable | what it does |
//! |---|---|
//! | `UNICORN_ROUNDS=40` | rounds of each row; 4 where absent |
//! | `UNICORN_FAULTS=seed=5,crash=0.1` | the fault plan of the local cloud, as for `up --faults` |
//! | `UNICORN_STATE_DIR=.unicorn` | uses the running `cargo unicorn up` with this state folder instead of a local cloud of its own; `UNICORN_FAULTS` then only says that outcomes may take longer |
//! | `UNICORN_ROW=withdrawn` | runs only the rows whose names contain this |

// clippy.toml allows them in tests, but does not recognise the helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::env::var;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use End::{Contract, Listing, NewContract, Published};
use Outcome::{Applied, AppliedOrSuperseded, Superseded};
use RequestTime::{Ago, JustAfter};
use Step::{NewTexts, OtherCommands, Outcomes, Pause, Sees, Sent};
use Write::{Create, Late, Move, Request, Text, Withdraw};
use anyhow::{Context, bail, ensure};
use end_to_end_tests::{binaries, project, runtime, service_of};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::iter;
use local_cloud::up::{Addresses, Options, up};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use unicorn::client::Client;

/// Rounds of each row in a normal run.
const ROUNDS: usize = 4;

/// Rounds of one row that run at the same time, beside those of other rows.
const SIDE_BY_SIDE: usize = 10;

/// The longest time for an outcome without faults. All waits of a command together take two minutes, but no
/// command of the table waits for longer than 14 s.
const HEALTHY: Duration = Duration::from_secs(60);

/// The longest time for an outcome under faults. The messages of a killed function return after their
/// visibility timeout of 60 s, and the function can be killed again.
const FAULTY: Duration = Duration::from_secs(400);

const IMAGE: &str = "order.png";

/// A row of the table.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// The right behaviour.
    name: &'static str,
    /// How the property came to its first state. The outcome of each write is awaited, and the
    /// evaluation of each request.
    start: &'static [Write],
    /// The steps of the client, each right after the one before.
    sequence: &'static [Step],
    /// The state of the property when every command has its outcome.
    end: End,
    /// The longest time for an outcome when nothing goes wrong.
    healthy: Duration,
    /// Run only one round.
    once: bool,
}

const USUAL: Row =
    Row { name: "", start: &[], sequence: &[], end: Contract("DRAFT"), healthy: HEALTHY, once: false };

const ROWS: [Row; 13] = [
    Row {
        name: "an approved listing gets a new text that is requested at once, and is published again",
        start: &[Create, Move("APPROVED"), Text(1), Request],
        sequence: &[Sent(Text(2), Applied), Sent(Request, Applied)],
        end: Published(2),
        ..USUAL
    },
    Row {
        name: "after an ended contract, a new one is created and approved at once",
        start: &[Create, Move("CANCELLED")],
        sequence: &[Sent(Create, Applied), Sent(Move("APPROVED"), Applied)],
        end: NewContract("APPROVED"),
        ..USUAL
    },
    Row {
        name: "a draft is approved and closed at once",
        start: &[Create],
        sequence: &[Sent(Move("APPROVED"), Applied), Sent(Move("CLOSED"), Applied)],
        end: Contract("CLOSED"),
        ..USUAL
    },
    Row {
        name: "a draft is cancelled, and its successor is created at once",
        start: &[Create],
        sequence: &[Sent(Move("CANCELLED"), Applied), Sent(Create, Applied)],
        end: NewContract("DRAFT"),
        ..USUAL
    },
    Row {
        name: "a withdrawn listing is written anew and requested at once",
        start: &[Text(1), Withdraw],
        sequence: &[Sent(Text(2), Applied), Sent(Request, Applied)],
        end: Listing(&["PENDING", "APPROVED", "DECLINED"], 2),
        ..USUAL
    },
    Row {
        name: "after an ended contract, a listing that is requested at once waits for the new draft",
        start: &[Create, Move("CANCELLED"), Text(1)],
        sequence: &[
            Sent(Create, Applied),
            Sent(Request, Applied),
            Outcomes,
            // The workflow looks an ended contract up three times, 2 s apart.
            Pause(10),
            Sees(Listing(&["PENDING"], 1)),
            Sent(Move("APPROVED"), Applied),
        ],
        end: Published(1),
        ..USUAL
    },
    Row {
        name: "an approval never approves a contract that was created 9 s after it",
        start: &[],
        sequence: &[Sent(Move("APPROVED"), Superseded), Pause(9), Sent(Create, Applied)],
        end: Contract("DRAFT"),
        ..USUAL
    },
    Row {
        name: "an approval that comes after the end of its contract never approves the next one",
        start: &[Create, Move("CANCELLED"), Create],
        sequence: &[Sent(Late { write: &Move("APPROVED"), requested: JustAfter(0), delay: 0 }, Superseded)],
        end: Contract("DRAFT"),
        ..USUAL
    },
    Row {
        name: "of 30 texts that are sent at once, the last one wins",
        sequence: &[NewTexts(30)],
        end: Listing(&["NEW"], 30),
        healthy: Duration::from_secs(20),
        ..USUAL
    },
    Row {
        name: "of 200 texts that are sent at once, the last one wins",
        sequence: &[NewTexts(200)],
        end: Listing(&["NEW"], 200),
        healthy: Duration::from_secs(20),
        once: true,
        ..USUAL
    },
    Row {
        name: "a contract is created and approved at once",
        sequence: &[Sent(Create, Applied), Sent(Move("APPROVED"), Applied)],
        end: Contract("APPROVED"),
        ..USUAL
    },
    Row {
        name: "a contract is created and approved at once, behind the commands of 100 others",
        sequence: &[OtherCommands(100), Sent(Create, Applied), Sent(Move("APPROVED"), Applied)],
        end: Contract("APPROVED"),
        ..USUAL
    },
    Row {
        name: "in a queue that is 45 s behind, an approval that comes before its create waits for it",
        sequence: &[
            Sent(Late { write: &Create, requested: Ago(45), delay: 5 }, Applied),
            Sent(Late { write: &Move("APPROVED"), requested: Ago(44), delay: 0 }, Applied),
        ],
        end: Contract("APPROVED"),
        ..USUAL
    },
];

/// A step of a sequence.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A write and its expected outcome.
    Sent(Write, Outcome),
    /// So many writes of the listing, numbered from 1; each is applied or superseded.
    NewTexts(u32),
    /// So many commands for other properties, put into the queue of the contracts in front of what follows.
    OtherCommands(usize),
    /// Seconds in which nothing is sent.
    Pause(u64),
    /// The outcome of everything sent so far is awaited.
    Outcomes,
    /// The property must be like this now.
    Sees(End),
}

/// A write for the property of the round.
#[derive(Debug, Clone, Copy)]
enum Write {
    /// `POST /contracts`.
    Create,
    /// `PUT /contracts` with this status.
    Move(&'static str),
    /// `POST /listings`; the number stands in text and price.
    Text(u32),
    /// `POST /request_approval`.
    Request,
    /// `DELETE /listings/...`.
    Withdraw,
    /// A write that was on its way for long: put into the queue with an earlier request time, to be
    /// delivered after so many seconds.
    Late { write: &'static Self, requested: RequestTime, delay: u32 },
}

/// The time at which the gateway pretends to have received a write.
#[derive(Debug, Clone, Copy)]
enum RequestTime {
    /// Just after the round's command with this number, counted from 0.
    JustAfter(usize),
    /// So many seconds ago.
    Ago(u64),
}

/// The expected outcome of a command.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Applied,
    Superseded,
    AppliedOrSuperseded,
}

impl Outcome {
    fn is(self, record: &Value) -> bool {
        let applied = record["status"] == "APPLIED";
        let superseded = record["status"] == "REJECTED" && record["reason"] == "superseded";
        match self {
            Applied => applied,
            Superseded => superseded,
            AppliedOrSuperseded => applied || superseded,
        }
    }
}

/// The state of a property.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The contract has this status.
    Contract(&'static str),
    /// The contract has this status, and is another one than before the sequence.
    NewContract(&'static str),
    /// The listing has one of these statuses, and the text with this number.
    Listing(&'static [&'static str], u32),
    /// The listing is approved, and search finds it with the text with this number.
    Published(u32),
}

/// The result of a look at a property.
enum Look {
    Right,
    /// The state now, from which the property can still reach the expected one.
    NotYet(String),
    /// The state, which is final and not the expected one.
    Wrong(String),
}

/// A command that was accepted.
#[derive(Debug)]
struct Command {
    write: String,
    expected: Outcome,
    /// Where its record is.
    path: String,
    /// When the client had its 200.
    accepted: Instant,
    accepted_ms: u64,
    /// Its record; `PENDING` or null until it is decided.
    record: Value,
    /// How long the outcome took, as far as a client that asks again and again can see.
    took: Option<Duration>,
    /// Neither decided nor late.
    is_open: bool,
}

impl Command {
    /// The error of a command that is decided or late.
    fn wrong(&self, patience: Duration) -> Option<String> {
        let Self { write, expected, record, .. } = self;
        if self.took.is_none() {
            return Some(format!("{write} has no outcome within {} s", patience.as_secs()));
        }
        let (status, reason) = (&record["status"], &record["reason"]);
        (!expected.is(record)).then(|| format!("{write} must be {expected:?}, and is {status} {reason}"))
    }
}

/// One client with one property.
#[derive(Debug)]
struct Round<'a> {
    client: &'a Client,
    row: Row,
    city: &'a str,
    street: String,
    patience: Duration,
    commands: Vec<Command>,
    /// How many of them belong to the start.
    started: usize,
    /// The contract before the sequence.
    contract_before: Value,
}

impl Round<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        self.prepare().await.context("the first state did not come")?;
        for step in self.row.sequence {
            match *step {
                Sent(write, expected) => self.send(write, expected).await?,
                NewTexts(count) => {
                    for number in 1..=count {
                        self.send(Text(number), AppliedOrSuperseded).await?;
                    }
                }
                OtherCommands(count) => self.send_for_others(count).await?,
                Pause(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                Outcomes => self.outcomes().await?,
                Sees(end) => self.comes_to(end).await?,
            }
        }
        self.outcomes().await?;
        self.comes_to(self.row.end).await
    }

    async fn prepare(&mut self) -> anyhow::Result<()> {
        let mut text = 0;
        for write in self.row.start {
            self.send(*write, Applied).await?;
            self.outcomes().await?;
            match *write {
                Text(number) => text = number,
                Request => self.comes_to(Published(text)).await?,
                _ => {}
            }
        }
        self.started = self.commands.len();
        let path = format!("/contracts/{}", self.property());
        self.contract_before = self.read(&path).await?["contract_id"].clone();
        Ok(())
    }

    fn property(&self) -> String {
        format!("usa/{}/{}/1", self.city, self.street)
    }

    fn address(&self) -> Value {
        json!({"country": "usa", "city": self.city, "street": self.street, "number": 1})
    }

    fn text(number: u32) -> String {
        format!("A lovely bright house. Text {number}.")
    }

    fn price(number: u32) -> u32 {
        100_000 + number
    }

    fn request(&self, write: Write) -> (Method, String, Option<Value>) {
        let property = self.property();
        let (method, path, body) = match write {
            Create => (
                Method::POST,
                "/contracts",
                json!({"property_id": property, "address": self.address(), "seller_name": "Smith & Sons"}),
            ),
            Move(status) => (Method::PUT, "/contracts", json!({"property_id": property, "status": status})),
            Text(number) => (
                Method::POST,
                "/listings",
                json!({
                    "address": self.address(), "description": Self::text(number), "contract": "sale",
                    "listprice": Self::price(number), "currency": "USD", "images": [IMAGE],
                }),
            ),
            Request => (Method::POST, "/request_approval", json!({"property_id": property})),
            Withdraw => return (Method::DELETE, format!("/listings/{property}"), None),
            Late { write, .. } => return self.request(*write),
        };
        (method, path.to_owned(), Some(body))
    }

    /// Retries a write until the gateway accepts it, as agents should.
    async fn send(&mut self, write: Write, expected: Outcome) -> anyhow::Result<()> {
        let (method, path, body) = self.request(write);
        let service = service_of(&path.replace("/request_approval", "/listings"));
        let id = if let Late { requested, delay, .. } = write {
            let requested_ms = match requested {
                JustAfter(number) => self.commands[number].accepted_ms + 1,
                Ago(seconds) => now_ms() - seconds * 1_000,
            };
            let queue = if service == "/contracts" { "ContractsIngestQueueUrl" } else { "WebIngestQueueUrl" };
            let id = format!("late-{}-{}-{}", self.city, self.street, self.commands.len());
            let mut input = message(&id, &method, &path, requested_ms, &body.unwrap_or_default());
            input["QueueUrl"] = self.client.output(queue)?.into();
            input["DelaySeconds"] = delay.into();
            self.client.aws("AmazonSQS.SendMessage", &input).await?;
            id
        } else {
            let first = Instant::now();
            loop {
                match self.client.write(method.clone(), &path, body.as_ref()).await {
                    Ok(id) => break id,
                    Err(error) if first.elapsed() > self.patience => return Err(error),
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        let (accepted, accepted_ms) = (Instant::now(), now_ms());
        self.commands.push(Command {
            write: format!("{write:?}"),
            expected,
            path: format!("{service}/commands/{id}"),
            accepted,
            accepted_ms,
            record: Value::Null,
            took: None,
            is_open: true,
        });
        // The gateway's times are whole milliseconds: two requests in one have no order.
        while now_ms() <= accepted_ms {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Puts messages into the queue as the gateway would, only faster.
    async fn send_for_others(&self, count: usize) -> anyhow::Result<()> {
        let numbers: Vec<usize> = (1..=count).collect();
        for ten in numbers.chunks(10) {
            let entries: Vec<Value> = ten
                .iter()
                .map(|number| {
                    let street = format!("{}-others", self.street);
                    let address =
                        json!({"country": "usa", "city": self.city, "street": street, "number": number});
                    let property = format!("usa/{}/{street}/{number}", self.city);
                    let body =
                        json!({"property_id": property, "address": address, "seller_name": "Smith & Sons"});
                    let id = format!("other-{}-{}-{number}", self.city, self.street);
                    let mut entry = message(&id, &Method::POST, "/contracts", now_ms(), &body);
                    entry["Id"] = number.to_string().into();
                    entry
                })
                .collect();
            let input =
                json!({"QueueUrl": self.client.output("ContractsIngestQueueUrl")?, "Entries": entries});
            let answer = self.client.aws("AmazonSQS.SendMessageBatch", &input).await?;
            ensure!(
                answer["Failed"].as_array().is_none_or(Vec::is_empty),
                "the queue refused some: {answer}"
            );
        }
        Ok(())
    }

    /// Waits until every command is decided, also after one that was decided wrongly.
    async fn outcomes(&mut self) -> anyhow::Result<()> {
        let patience = self.patience;
        loop {
            let begun = Instant::now();
            for command in self.commands.iter_mut().filter(|command| command.is_open) {
                let is_late = command.accepted.elapsed() > patience;
                // Under faults a read can fail too; a client reads again.
                if let Ok(answer) = self.client.get(&command.path).await
                    && answer.status == StatusCode::OK
                {
                    command.record = answer.body;
                    if command.record["status"] != "PENDING" {
                        command.took = Some(command.accepted.elapsed());
                    }
                }
                command.is_open = command.took.is_none() && !is_late;
            }
            let open = self.commands.iter().filter(|command| command.is_open);
            let Some(waited) = open.map(|command| command.accepted.elapsed()).min() else { break };
            pause_after(waited.max(begun.elapsed() * 10)).await;
        }
        let wrong: Vec<String> = self.commands.iter().filter_map(|command| command.wrong(patience)).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// Waits until the property has reached a final state.
    async fn comes_to(&self, end: End) -> anyhow::Result<()> {
        let asked = Instant::now();
        loop {
            match self.look(end).await? {
                Look::Right => return Ok(()),
                Look::Wrong(is) => bail!("the end must be {end:?}, and is {is}"),
                Look::NotYet(is) if asked.elapsed() > self.patience => {
                    bail!("the end must be {end:?}, and after {} s is {is}", self.patience.as_secs())
                }
                Look::NotYet(_) => pause_after(asked.elapsed()).await,
            }
        }
    }

    async fn look(&self, end: End) -> anyhow::Result<Look> {
        let property = self.property();
        Ok(match end {
            Contract(status) | NewContract(status) => {
                let contract = self.read(&format!("/contracts/{property}")).await?;
                let is_new = contract["contract_id"] != self.contract_before;
                let is_right =
                    contract["contract_status"] == status && (is_new || !matches!(end, NewContract(_)));
                // Every command is decided, so nothing changes a contract any more.
                let is = format!("{}{}", contract["contract_status"], if is_new { "" } else { " as before" });
                if is_right { Look::Right } else { Look::Wrong(is) }
            }
            Listing(statuses, number) => {
                let listing = self.read(&format!("/listings/{property}")).await?;
                let is_right = statuses.iter().any(|status| listing["status"] == *status)
                    && listing["listprice"] == Self::price(number)
                    && listing["description"] == Self::text(number);
                let [status, price, reasons] =
                    ["status", "listprice", "evaluation_reasons"].map(|key| &listing[key]);
                let is = format!("{status} with price {price} and reasons {reasons}");
                match status.as_str() {
                    _ if is_right => Look::Right,
                    // Only an evaluation changes a listing without a command.
                    Some("PENDING") => Look::NotYet(is),
                    _ => Look::Wrong(is),
                }
            }
            Published(number) => match Box::pin(self.look(Listing(&["APPROVED"], number))).await? {
                Look::Right => {
                    let found = self.read(&format!("/search/usa/{}/{}", self.city, self.street)).await?;
                    let is_found = found[0]["listprice"] == Self::price(number);
                    if is_found { Look::Right } else { Look::Wrong(format!("not found by search: {found}")) }
                }
                other => other,
            },
        })
    }

    /// Reads until there is an answer: a read may fail under faults.
    async fn read(&self, path: &str) -> anyhow::Result<Value> {
        let asked = Instant::now();
        loop {
            match self.client.get(path).await {
                Ok(answer) if answer.status == StatusCode::OK => return Ok(answer.body),
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => return Ok(answer.body),
                Ok(answer) if asked.elapsed() > self.patience => bail!("{path}: {}", answer.status),
                Err(error) if asked.elapsed() > self.patience => return Err(error),
                _ => pause_after(asked.elapsed()).await,
            }
        }
    }

    /// The slowest outcome of the sequence.
    fn slowest(&self) -> Duration {
        let sequence = self.commands.get(self.started..).unwrap_or_default();
        sequence.iter().map(|command| command.took.unwrap_or(self.patience)).max().unwrap_or_default()
    }

    /// A wrong case with all its commands.
    async fn story(&self, error: &anyhow::Error) -> String {
        let mut story = format!("\n{}\n  {}: {error:#}\n", self.row.name, self.property());
        for Command { write, record, took, path, .. } in &self.commands {
            let took = took.map_or("undecided".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
            let record = if record.is_null() { &json!(path) } else { record };
            writeln!(story, "    {write:<18} {took:>9}  {record}").unwrap();
        }
        for service in ["contracts", "listings"] {
            if let Ok(answer) = self.client.get(&format!("/{service}/{}", self.property())).await {
                writeln!(story, "    {service} in the end: {}", answer.body).unwrap();
            }
        }
        story
    }
}

/// A message of the gateway.
fn message(id: &str, method: &Method, path: &str, requested_ms: u64, body: &Value) -> Value {
    let text = |value: &str| json!({"DataType": "String", "StringValue": value});
    json!({
        "MessageBody": body.to_string(),
        "MessageAttributes": {
            "CommandId": text(id),
            "HttpMethod": text(method.as_str()),
            "ResourcePath": text(path),
            "RequestTimeEpoch": text(&requested_ms.to_string()),
        },
    })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A client reads less often the longer it has waited: hundreds of clients read and must not slow down the
/// system. The measured time is right to a tenth.
async fn pause_after(waited: Duration) {
    tokio::time::sleep((waited / 10).clamp(Duration::from_millis(100), Duration::from_secs(2))).await;
}

/// The result of a row.
#[derive(Debug)]
struct RowResult {
    name: &'static str,
    rounds: usize,
    slowest: Duration,
    wrong: Vec<String>,
}

async fn run_row(client: &Client, city: &str, number: usize, row: Row, rounds: usize) -> RowResult {
    let healthy = var("UNICORN_FAULTS").unwrap_or_default().is_empty();
    let rounds = if row.once { 1 } else { rounds };
    let stories: Vec<(Duration, Option<String>)> = iter(1..=rounds)
        .map(async |round| {
            let mut round = Round {
                client,
                row,
                city,
                street: format!("row-{number}-round-{round}"),
                patience: if healthy { row.healthy } else { FAULTY },
                commands: Vec::new(),
                started: 0,
                contract_before: Value::Null,
            };
            let wrong = match round.run().await {
                Ok(()) => None,
                Err(error) => Some(round.story(&error).await),
            };
            (round.slowest(), wrong)
        })
        .buffer_unordered(SIDE_BY_SIDE)
        .collect()
        .await;
    RowResult {
        name: row.name,
        rounds,
        slowest: stories.iter().map(|(slowest, _)| *slowest).max().unwrap_or_default(),
        wrong: stories.into_iter().filter_map(|(_, wrong)| wrong).collect(),
    }
}

/// Runs the rows and returns the number of wrong rounds and dead letters. Rows that fill the queues run last,
/// because they would delay the others by seconds.
async fn run_table(client: &Client) -> anyhow::Result<usize> {
    let rounds = var("UNICORN_ROUNDS").map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let only = var("UNICORN_ROW").unwrap_or_default();
    client.put_image(IMAGE, vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10]).await?;
    let dead_before = dead_letters(client).await?;
    // A running local cloud may know the properties of an earlier run.
    let city = format!("orderville-{}", now_ms());
    let fills_queues =
        |row: &Row| row.sequence.iter().any(|step| matches!(step, NewTexts(..) | OtherCommands(..)));
    let mut results = Vec::new();
    for busy in [false, true] {
        let rows = (1..).zip(ROWS).filter(|(_, row)| row.name.contains(&only) && fills_queues(row) == busy);
        results.extend(join_all(rows.map(|(number, row)| run_row(client, &city, number, row, rounds))).await);
    }
    let dead = dead_letters(client).await? - dead_before;
    println!("{}\n{dead} messages in dead-letter queues", table(&results));
    ensure!(!results.is_empty(), "no row is named {only}");
    Ok(results.iter().map(|result| result.wrong.len()).sum::<usize>() + usize::from(dead != 0))
}

fn table(results: &[RowResult]) -> String {
    let mut table = String::from("| row | rounds | wrong | slowest outcome, s |\n|---|---|---|---|\n");
    for RowResult { name, rounds, slowest, wrong } in results {
        let (wrong, slowest) = (wrong.len(), slowest.as_secs_f64());
        writeln!(table, "| {name} | {rounds} | {wrong} | {slowest:.1} |").unwrap();
    }
    table.extend(results.iter().flat_map(|result| &result.wrong).map(String::as_str));
    table
}

async fn dead_letters(client: &Client) -> anyhow::Result<i64> {
    let mut letters = 0;
    for queue in ["ContractsIngestDLQUrl", "WebIngestDLQUrl"] {
        let input =
            json!({"QueueUrl": client.output(queue)?, "AttributeNames": ["ApproximateNumberOfMessages"]});
        let counted = client.aws("AmazonSQS.GetQueueAttributes", &input).await?;
        let count = counted["Attributes"]["ApproximateNumberOfMessages"].as_str();
        letters += count.context("the queue does not say how many messages it holds")?.parse::<i64>()?;
    }
    Ok(letters)
}

/// The number of wrong rounds and dead letters on this test's own local cloud, or on a running one.
async fn wrong() -> anyhow::Result<usize> {
    if let Ok(folder) = var("UNICORN_STATE_DIR") {
        // Cargo runs a test in the folder of its package; the variable means the workspace's.
        let file = project()?.join(Path::new(&folder)).join("local.json");
        let text = std::fs::read(&file)
            .with_context(|| format!("{}: is `cargo unicorn up` running?", file.display()))?;
        return run_table(&Client::new(serde_json::from_slice::<Addresses>(&text)?)).await;
    }
    let faults = var("UNICORN_FAULTS").unwrap_or_default().parse().map_err(anyhow::Error::msg)?;
    let state = tempfile::tempdir()?;
    let options = Options::on_free_ports(&project()?, state.path(), &binaries().await?);
    let running = up(&Options { faults, ..options }).await?;
    let wrong = run_table(&Client::new(running.addresses.clone())).await;
    running.stop().await;
    wrong
}

#[test]
fn the_outcome_follows_the_order_of_the_requests() {
    let wrong = runtime().unwrap().block_on(wrong()).unwrap();
    assert_eq!(wrong, 0, "the table above names every wrong case");
}
