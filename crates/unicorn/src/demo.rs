//! `cargo unicorn demo`: one story from contract to search on the real functions, printed as a timeline. It runs
//! five listings at the same time and fails unless each one ends as expected.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use local_cloud::up::{Options, up};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{Client, until};
use crate::seed;

/// The longest that any step may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A look at a log begins this long before the last event of the one before.
const OVERLAP_MS: u64 = 1_000;

/// The search for the city of the demo's listings.
const CITY: &str = "/search/usa/anytown";

/// Of each bus, the output with its catch-all log group and its event source.
const BUSES: [(&str, &str); 3] = [
    ("ContractsCatchAllLogGroupArn", "unicorn-contracts"),
    ("WebCatchAllLogGroupArn", "unicorn-web"),
    ("PropertiesCatchAllLogGroupArn", "unicorn-properties"),
];

/// Runs the story on a new local cloud with free ports and a temporary state.
pub async fn run(project: &Path, binaries: &Path) -> anyhow::Result<()> {
    let state = tempfile::tempdir()?;
    let running = up(&Options::on_free_ports(project, state.path(), binaries)).await?;
    let story = Arc::new(Story {
        client: Client::new(running.addresses.clone()),
        started: Instant::now(),
        open: Mutex::new(()),
    });
    let result = tell(project, &story).await;
    running.stop().await;
    result
}

async fn tell(project: &Path, story: &Arc<Story>) -> anyhow::Result<()> {
    println!("   time  property                        what happened");
    let count = seed::images(project, &story.client).await?;
    story.say("", &format!("{count} images put into {}", story.client.output("ImagesBucketName")?));

    let (over, is_over) = watch::channel(false);
    let watcher = tokio::spawn({
        let story = story.clone();
        async move { story.watch_events(is_over).await }
    });
    let (published, unsafe_image, negative, missing, ended) = tokio::join!(
        story.published(),
        story.declined(
            Listing { number: 12, images: &["usa/anytown/unsafe-party.png"], ..GOOD },
            true,
            "unsafe_image"
        ),
        story.declined(
            Listing {
                number: 13,
                description: "A terrible, ugly and dirty ruin; the worst house in town.",
                ..GOOD
            },
            true,
            "negative_description"
        ),
        story.declined(Listing { number: 14, ..GOOD }, false, "contract_not_found"),
        story.ended(),
    );
    over.send_replace(true);
    watcher.await??;
    for result in [published, unsafe_image, negative, missing, ended] {
        result?;
    }

    let found = story.found().await?;
    story.say("", &format!("search finds {found:?} in Anytown, and nothing else"));
    ensure!(found == [11], "search must find number 11 alone, and finds {found:?}");
    println!("\nThe listing with an approved contract is found; the unsafe, the negative, the one without");
    println!("a contract and the one whose contract ended are not.");
    Ok(())
}

#[derive(Clone, Copy)]
struct Listing {
    number: u32,
    description: &'static str,
    images: &'static [&'static str],
}

/// A listing that is approved if it has a contract.
const GOOD: Listing = Listing {
    number: 11,
    description: "A lovely, bright family home with a wonderful garden.",
    images: &["usa/anytown/main-street-111.png"],
};

impl Listing {
    fn property(&self) -> String {
        format!("usa/anytown/main-street/{}", self.number)
    }

    fn address(&self) -> Value {
        json!({"country": "USA", "city": "Anytown", "street": "Main Street", "number": self.number})
    }

    fn body(&self) -> Value {
        json!({
            "address": self.address(), "description": self.description, "contract": "sale",
            "listprice": 350_000, "currency": "USD", "images": self.images,
        })
    }
}

struct Story {
    client: Client,
    started: Instant,
    /// Locked while a line is printed.
    open: Mutex<()>,
}

impl Story {
    fn say(&self, property: &str, line: &str) {
        let _open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{:6.2} s  {property:<30}  {line}", self.started.elapsed().as_secs_f64());
    }

    /// A listing that is published: draft contract, listing, approval request, approved contract, search.
    async fn published(&self) -> anyhow::Result<()> {
        let listing = GOOD;
        self.create_contract(listing).await?;
        self.create_listing(listing).await?;
        self.request_approval(listing).await?;
        self.wait_for_workflow(listing, "WaitForContractApproval").await?;
        self.say(&listing.property(), "workflow  waits for the contract (WaitForContractApproval)");
        ensure!(
            !self.found().await?.contains(&listing.number),
            "a listing was in search before it was approved"
        );
        self.move_contract(listing, "APPROVED").await?;
        self.wait_for_search(listing, true).await?;
        let details = self.client.get(&format!("/properties/{}", listing.property())).await?;
        ensure!(
            details.body["images"] == json!(listing.images),
            "the details lack the images: {}",
            details.body
        );
        self.say(&listing.property(), "search    finds it, with its details");
        Ok(())
    }

    /// A listing that must be declined for one reason and never be found.
    async fn declined(&self, listing: Listing, has_contract: bool, reason: &str) -> anyhow::Result<()> {
        if has_contract {
            self.create_contract(listing).await?;
            self.move_contract(listing, "APPROVED").await?;
        }
        self.create_listing(listing).await?;
        self.request_approval(listing).await?;
        let view = self.wait_for_status(listing, "DECLINED").await?;
        ensure!(view["evaluation_reasons"] == json!([reason]), "declined for other reasons: {view}");
        ensure!(!self.found().await?.contains(&listing.number), "a declined listing is in search");
        self.say(&listing.property(), &format!("listing   DECLINED: {reason}; not in search"));
        Ok(())
    }

    /// A published listing whose contract ends.
    async fn ended(&self) -> anyhow::Result<()> {
        let listing = Listing { number: 15, ..GOOD };
        self.create_contract(listing).await?;
        self.move_contract(listing, "APPROVED").await?;
        self.create_listing(listing).await?;
        self.request_approval(listing).await?;
        self.wait_for_search(listing, true).await?;
        self.say(&listing.property(), "search    finds it");
        self.move_contract(listing, "CANCELLED").await?;
        self.wait_for_search(listing, false).await?;
        let view = self.wait_for_status(listing, "DECLINED").await?;
        ensure!(
            view["evaluation_reasons"] == json!(["contract_ended"]),
            "declined for other reasons: {view}"
        );
        self.say(&listing.property(), "search    no longer finds it: its contract ended");
        Ok(())
    }

    async fn create_contract(&self, listing: Listing) -> anyhow::Result<()> {
        let body = json!({
            "property_id": listing.property(), "address": listing.address(), "seller_name": "Smith & Sons",
        });
        let command = self.client.write(Method::POST, "/contracts", Some(&body)).await?;
        self.wait_for_command("/contracts", &command).await?;
        self.say(&listing.property(), "contract  DRAFT (POST /contracts applied)");
        Ok(())
    }

    async fn move_contract(&self, listing: Listing, status: &str) -> anyhow::Result<()> {
        let body = json!({"property_id": listing.property(), "status": status});
        let command = self.client.write(Method::PUT, "/contracts", Some(&body)).await?;
        self.wait_for_command("/contracts", &command).await?;
        self.say(&listing.property(), &format!("contract  {status} (PUT /contracts applied)"));
        Ok(())
    }

    async fn create_listing(&self, listing: Listing) -> anyhow::Result<()> {
        let command = self.client.write(Method::POST, "/listings", Some(&listing.body())).await?;
        self.wait_for_command("/listings", &command).await?;
        let view = self.wait_for_status(listing, "NEW").await?;
        self.say(
            &listing.property(),
            &format!("listing   {} (POST /listings applied)", view["status"].as_str().unwrap_or("?")),
        );
        Ok(())
    }

    async fn request_approval(&self, listing: Listing) -> anyhow::Result<()> {
        let body = json!({"property_id": listing.property()});
        let command = self.client.write(Method::POST, "/request_approval", Some(&body)).await?;
        self.wait_for_command("/listings", &command).await?;
        self.say(&listing.property(), "request   approval requested (POST /request_approval applied)");
        Ok(())
    }

    async fn wait_for_command(&self, service: &str, id: &str) -> anyhow::Result<()> {
        let path = format!("{service}/commands/{id}");
        let record = until(&format!("the outcome of command {id}"), PATIENCE, async || {
            let answer = self.client.get(&path).await?;
            Ok(answer
                .status
                .is_success()
                .then_some(answer.body)
                .filter(|record| record["status"] != "PENDING"))
        })
        .await?;
        ensure!(record["status"] == "APPLIED", "a command was rejected: {record}");
        Ok(())
    }

    async fn wait_for_status(&self, listing: Listing, status: &str) -> anyhow::Result<Value> {
        let path = format!("/listings/{}", listing.property());
        until(&format!("status {status} of {}", listing.property()), PATIENCE, async || {
            let answer = self.client.get(&path).await?;
            Ok(Some(answer.body).filter(|view| view["status"] == status))
        })
        .await
    }

    async fn wait_for_search(&self, listing: Listing, found: bool) -> anyhow::Result<()> {
        let what = format!("{} {} search", listing.property(), if found { "in" } else { "out of" });
        until(&what, PATIENCE, async || {
            Ok((self.found().await?.contains(&listing.number) == found).then_some(()))
        })
        .await
    }

    /// The house numbers that search finds.
    async fn found(&self) -> anyhow::Result<Vec<u32>> {
        let answer = self.client.get(CITY).await?;
        let results = answer.body.as_array().with_context(|| format!("search answered {}", answer.body))?;
        Ok(results.iter().filter_map(|result| u32::try_from(result["number"].as_u64()?).ok()).collect())
    }

    /// Waits until the property's execution has entered a state.
    async fn wait_for_workflow(&self, listing: Listing, state: &str) -> anyhow::Result<()> {
        let machine = self.client.output("ApprovalStateMachineArn")?;
        until(&format!("state {state} of {}", listing.property()), PATIENCE, async || {
            let list = json!({"stateMachineArn": machine});
            let executions = self.client.aws("AWSStepFunctions.ListExecutions", &list).await?;
            for execution in executions["executions"].as_array().into_iter().flatten() {
                let arn = json!({"executionArn": execution["executionArn"]});
                let described = self.client.aws("AWSStepFunctions.DescribeExecution", &arn).await?;
                let input: Value = serde_json::from_str(described["input"].as_str().unwrap_or("null"))?;
                if input["detail"]["property_id"] != listing.property() {
                    continue;
                }
                let history = self.client.aws("AWSStepFunctions.GetExecutionHistory", &arn).await?;
                let entered = |event: &Value| event["stateEnteredEventDetails"]["name"] == state;
                let waits = |event: &Value| event["type"] == "TaskSubmitted";
                let events = history["events"].as_array().map(Vec::as_slice).unwrap_or_default();
                if let Some(at) = events.iter().position(entered)
                    && events[at..].iter().any(waits)
                {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Prints every event once, as its producer's bus logs it, until the story is over.
    async fn watch_events(&self, mut over: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut seen = HashSet::new();
        // The time of the last event seen in each group.
        let mut last_ms = [0_u64; BUSES.len()];
        loop {
            let last_look = *over.borrow_and_update();
            for ((output, source), last_ms) in BUSES.into_iter().zip(&mut last_ms) {
                let group = self.client.log_group(output)?;
                // Events of about the same time may appear in any order.
                for logged in self.client.log_events(&group, last_ms.saturating_sub(OVERLAP_MS)).await? {
                    *last_ms = logged["timestamp"].as_u64().unwrap_or_default().max(*last_ms);
                    let event: Value = serde_json::from_str(logged["message"].as_str().unwrap_or_default())?;
                    let id = event["id"].as_str().unwrap_or_default().to_owned();
                    if event["source"] == source && seen.insert(id) {
                        self.say_event(&event);
                    }
                }
            }
            if last_look {
                return Ok(());
            }
            // Waits for the end of the story, or for the next look.
            let _ = tokio::time::timeout(Duration::from_millis(50), over.changed()).await;
        }
    }

    fn say_event(&self, event: &Value) {
        let detail = &event["detail"];
        let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        let what = match event["detail-type"].as_str() {
            Some("ContractStatusChanged") => text("contract_status"),
            Some("PublicationEvaluationCompleted") => {
                format!("{} {}", text("evaluation_result"), reasons(detail))
            }
            _ => text("status"),
        };
        let name = event["detail-type"].as_str().unwrap_or_default();
        self.say(&text("property_id"), &format!("event     {name} {what}"));
    }
}

fn reasons(detail: &Value) -> String {
    let reasons = detail["evaluation_reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
