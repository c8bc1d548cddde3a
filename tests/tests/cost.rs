//! Counts everything for which AWS would charge. The table of counts in `docs/cost.md` must be the result of
//! a run on the local cloud: each kind of request, with everything that follows from it.

// clippy.toml allows them in tests, but does not recognise the helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use end_to_end_tests::counts::{Counts, LOGS, differences, read};
use end_to_end_tests::flow::{execution_of, is_waiting};
use end_to_end_tests::{PATIENCE, apply, project, runtime, watched};
use futures::future::try_join_all;
use local_cloud::Cloud;
use reqwest::Method;
use serde_json::{Value, json};
use unicorn::client::{Client, until};

/// Images of the seed data that moderation accepts.
const IMAGES: [&str; 5] = [
    "usa/anytown/main-street-111.png",
    "usa/anytown/main-street-111-living-room.png",
    "usa/anytown/station-road-12.png",
    "usa/anytown/station-road-12-living-room.png",
    "usa/lakeside/shore-drive-7.png",
];

/// 300 characters: the minimum that Comprehend charges.
const DESCRIPTION: &str = "A lovely, bright family home with a wonderful garden, close to the station and to good \
    schools. Four bedrooms, two bathrooms, a sunny terrace and a new kitchen with a view of the trees. The \
    cellar is dry, the roof was renewed in 2021, and the neighbours are friendly. Do come and see it for yourself.";

/// The longest time until the last count of a request arrives.
const SETTLED: Duration = Duration::from_secs(20);

#[test]
fn the_counts_in_the_cost_document_are_what_a_run_makes() -> anyhow::Result<()> {
    assert_eq!(DESCRIPTION.chars().count(), 300, "as the document says");
    let project = project()?;
    let document = std::fs::read_to_string(project.join("docs/cost.md"))?;
    let documented = read(&document)?;
    let mut measured: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut wrong = runtime()?.block_on(watched(&project, async |client, cloud| {
        unicorn::seed::images(&project, client).await?;
        prepare(client).await?;
        let mut meter = Meter::start(client, cloud).await?;
        let mut wrong = Vec::new();
        for name in SCENARIOS {
            scenario(client, name).await?;
            let nothing = Counts::new();
            let expected = documented.get(name).unwrap_or(&nothing);
            let counts = meter.settle(expected).await?;
            wrong.extend(differences(name, expected, &counts));
            measured.insert(name, counts);
        }
        let late = meter.late().await?;
        wrong.extend(differences(
            "after all requests",
            &late.keys().map(|name| (name.clone(), 0.0)).collect(),
            &late,
        ));
        Ok(wrong)
    }))?;
    wrong.extend(
        documented
            .keys()
            .filter(|name| !SCENARIOS.contains(&name.as_str()))
            .map(|name| format!("docs/cost.md counts {name}, which nobody measures")),
    );
    assert!(wrong.is_empty(), "{}\n\nIt would have to be:\n{}", wrong.join("\n"), table(&measured));
    Ok(())
}

/// The columns of the table, in the order in which they are measured.
const SCENARIOS: [&str; 11] = [
    "create",
    "update",
    "ten creates",
    "listing",
    "approval, 1 image",
    "approval, 5 images",
    "approval that waits",
    "search, 25 results",
    "search, 1 result",
    "details",
    "command record",
];

async fn scenario(client: &Client, name: &str) -> anyhow::Result<()> {
    match name {
        "create" => send(client, Method::POST, "/contracts", &contract("oak-road", 1)).await,
        "update" => send(client, Method::PUT, "/contracts", &approved("oak-road", 1)).await,
        "ten creates" => ten_creates(client, 101).await,
        "listing" => send(client, Method::POST, "/listings", &listing("oak-road", 2, 1)).await,
        "approval, 1 image" => request(client, "oak-road", 2).await,
        "approval, 5 images" => request(client, "oak-road", 3).await,
        "approval that waits" => {
            request(client, "oak-road", 4).await?;
            until("an execution that waits", PATIENCE, async || {
                let Some(execution) = execution_of(client, &id("oak-road", 4)).await? else {
                    return Ok(None);
                };
                Ok(is_waiting(client, &execution).await?.then_some(()))
            })
            .await?;
            send(client, Method::PUT, "/contracts", &approved("oak-road", 4)).await
        }
        "search, 25 results" => get(client, "/search/usa/anytown/elm-street").await,
        "search, 1 result" => get(client, "/search/usa/anytown/elm-street?limit=1").await,
        "details" => get(client, &format!("/properties/{}", id("elm-street", 1))).await,
        "command record" => get(client, "/contracts/commands/none").await,
        other => panic!("{other} is no scenario"),
    }
}

/// Creates the contracts and listings that the scenarios need: 26 are published, so that a page of 25 is
/// full. It also starts every function, so that no start is counted.
async fn prepare(client: &Client) -> anyhow::Result<()> {
    try_join_all((1..=26).map(|number| publish(client, number))).await?;
    for (number, images) in [(2, 0), (3, 5), (4, 1)] {
        apply(client, Method::POST, "/contracts", &contract("oak-road", number)).await?;
        if number != 4 {
            apply(client, Method::PUT, "/contracts", &approved("oak-road", number)).await?;
        }
        if images > 0 {
            apply(client, Method::POST, "/listings", &listing("oak-road", number, images)).await?;
        }
    }
    for name in ["search, 25 results", "details", "command record"] {
        scenario(client, name).await?;
    }
    // Ten events at once start ten processes, and each start reads an item, which is not counted.
    ten_creates(client, 201).await
}

/// Creates that come in one batch.
async fn ten_creates(client: &Client, first: usize) -> anyhow::Result<()> {
    client.poll("uni-prop-local-contracts-ingest", false, PATIENCE).await?;
    for number in first..first + 10 {
        send(client, Method::POST, "/contracts", &contract("oak-road", number)).await?;
    }
    client.poll("uni-prop-local-contracts-ingest", true, PATIENCE).await
}

async fn publish(client: &Client, number: usize) -> anyhow::Result<()> {
    let street = "elm-street";
    apply(client, Method::POST, "/contracts", &contract(street, number)).await?;
    apply(client, Method::PUT, "/contracts", &approved(street, number)).await?;
    apply(client, Method::POST, "/listings", &listing(street, number, 1)).await?;
    request(client, street, number).await?;
    until("a published listing", PATIENCE, async || {
        Ok(client
            .get(&format!("/properties/{}", id(street, number)))
            .await?
            .status
            .is_success()
            .then_some(()))
    })
    .await
}

async fn send(client: &Client, method: Method, path: &str, body: &Value) -> anyhow::Result<()> {
    client.write(method, path, Some(body)).await.map(drop)
}

async fn request(client: &Client, street: &str, number: usize) -> anyhow::Result<()> {
    send(client, Method::POST, "/request_approval", &json!({"property_id": id(street, number)})).await
}

async fn get(client: &Client, path: &str) -> anyhow::Result<()> {
    client.get(path).await.map(drop)
}

fn id(street: &str, number: usize) -> String {
    format!("usa/anytown/{street}/{number}")
}

fn address(street: &str, number: usize) -> Value {
    json!({"country": "usa", "city": "anytown", "street": street, "number": number})
}

fn contract(street: &str, number: usize) -> Value {
    json!({"property_id": id(street, number), "address": address(street, number), "seller_name": "Ann Other"})
}

fn approved(street: &str, number: usize) -> Value {
    json!({"property_id": id(street, number), "status": "APPROVED"})
}

fn listing(street: &str, number: usize, images: usize) -> Value {
    json!({
        "address": address(street, number), "description": DESCRIPTION, "contract": "sale",
        "listprice": 350_000, "currency": "USD", "images": IMAGES[..images],
    })
}

/// Counts what happens from one request to the next.
struct Meter<'a> {
    client: &'a Client,
    cloud: &'a Cloud,
    groups: Vec<String>,
    /// The logs from this time on are counted.
    from_ms: u64,
    before: Counts,
}

impl<'a> Meter<'a> {
    /// Begins when the preparations are over.
    async fn start(client: &'a Client, cloud: &'a Cloud) -> anyhow::Result<Self> {
        let groups = client.aws("Logs_20140328.DescribeLogGroups", &json!({"limit": 50})).await?;
        assert!(groups["nextToken"].is_null(), "there are more groups than one answer holds");
        let names = groups["logGroups"].as_array().unwrap().iter();
        let groups = names.map(|group| group["logGroupName"].as_str().unwrap().to_owned()).collect();
        let mut meter = Self { client, cloud, groups, from_ms: now_ms(), before: Counts::new() };
        meter.still().await?;
        meter.from_ms = now_ms();
        meter.before = meter.read().await?;
        Ok(meter)
    }

    /// The counts since the last call, as soon as they are the expected ones, or after the longest time. A later
    /// count belongs to the next request and makes that one differ.
    async fn settle(&mut self, expected: &Counts) -> anyhow::Result<Counts> {
        let asked = Instant::now();
        let (now, since) = until("the counts", PATIENCE, async || {
            let now = self.read().await?;
            let since = self.since(&now);
            let is_settled = differences("", expected, &since).is_empty() || asked.elapsed() > SETTLED;
            Ok(is_settled.then_some((now, since)))
        })
        .await?;
        self.before = now;
        Ok(since)
    }

    /// What came after the last request was counted.
    async fn late(&self) -> anyhow::Result<Counts> {
        Ok(self.since(&self.still().await?))
    }

    fn since(&self, now: &Counts) -> Counts {
        let since = now.iter().map(|(name, value)| {
            let counted = value - self.before.get(name).copied().unwrap_or_default();
            (name.clone(), (counted * 10.0).round() / 10.0)
        });
        since.collect()
    }

    /// All counts so far, as soon as none has changed for two seconds.
    async fn still(&self) -> anyhow::Result<Counts> {
        let (mut last, mut since) = (Counts::new(), Instant::now());
        until("an end of what is counted", PATIENCE, async || {
            let now = self.read().await?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
            Ok((since.elapsed() > Duration::from_secs(2)).then(|| last.clone()))
        })
        .await
    }

    /// All counts so far.
    async fn read(&self) -> anyhow::Result<Counts> {
        let calls = self.cloud.calls.made();
        let count = |of: &dyn Fn(&str, &str, &str) -> bool| {
            let found = calls.iter().filter(|(call, _)| of(&call.principal, &call.action, &call.resource));
            found.map(|(_, times)| *times).sum::<u64>() as f64
        };
        let is_rule = |principal: &str| principal.contains(":rule/");
        let action = |name: &'static str| count(&move |_, action, _| action == name);
        let put = |by_rule: bool| {
            count(&move |principal, action, _| action == "events:PutEvents" && is_rule(principal) == by_rule)
        };
        let pipe =
            count(&|principal, action, _| action == "events:PutEvents" && principal.contains(":pipe/"));
        let others = count(&|principal, action, _| is_rule(principal) && action != "events:PutEvents");
        let units: Vec<_> = self.cloud.calls.units().into_values().collect();
        let images = action("rekognition:DetectModerationLabels");
        // "A unit is 100 characters", and a request is at least 3. https://aws.amazon.com/comprehend/pricing/
        let text_units = DESCRIPTION.chars().count().div_ceil(100).max(3) as f64;
        let (invocations, transitions, log_bytes) = self.logged().await?;
        let counts = [
            (
                "API Gateway requests",
                (1..6).map(|digit| self.cloud.counters.requests(digit)).sum::<u64>() as f64,
            ),
            ("SQS requests to send", action("sqs:SendMessage")),
            // Only polls that returned messages: the number of empty polls depends on the time.
            ("SQS requests to receive", self.cloud.calls.receives() as f64),
            ("SQS requests to delete", action("sqs:DeleteMessage")),
            ("Lambda invocations", invocations),
            ("DynamoDB read units", units.iter().map(|units| units.read).sum()),
            ("DynamoDB write units", units.iter().map(|units| units.write).sum()),
            ("EventBridge Pipes records", pipe),
            ("EventBridge events published", put(false)),
            ("EventBridge events from bus to bus", put(true)),
            ("EventBridge events to other targets", others),
            ("Step Functions transitions", transitions),
            ("Rekognition images", images),
            ("Comprehend units", action("comprehend:DetectSentiment") * text_units),
            ("S3 requests", action("s3:GetObject")),
            (LOGS, log_bytes / 1_000.0),
        ];
        Ok(counts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Invocations, states entered, and bytes of all logs: of each event its text and 26 bytes.
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>
    async fn logged(&self) -> anyhow::Result<(f64, f64, f64)> {
        let (mut invocations, mut transitions, mut bytes) = (0, 0, 0);
        for group in &self.groups {
            for event in self.client.log_events(group, self.from_ms).await? {
                let text = event["message"].as_str().unwrap();
                bytes += text.len() + 26;
                let read: Value = serde_json::from_str(text).unwrap_or_default();
                let kind = read["type"].as_str().unwrap_or_default();
                invocations += usize::from(group.starts_with("/aws/lambda/") && kind == "platform.report");
                transitions += usize::from(group.contains("/states/") && kind.ends_with("StateEntered"));
            }
        }
        Ok((invocations as f64, transitions as f64, bytes as f64))
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The table that the document must have.
fn table(measured: &BTreeMap<&str, Counts>) -> String {
    let mut text = format!("| | {} |\n|---|{}\n", SCENARIOS.join(" | "), "---:|".repeat(SCENARIOS.len()));
    for name in measured[SCENARIOS[0]].keys() {
        let cells: Vec<String> = SCENARIOS.iter().map(|column| measured[column][name].to_string()).collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    text
}
