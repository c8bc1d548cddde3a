//! Measures the speed and memory of the local cloud, as an agent and an operator see it: by the answer of the API
//! and by the `ContractStatusChanged` in the log group of the bus.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use local_cloud::up::Addresses;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{memory_mib, quantile};
use crate::client::{Client, until};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Commands per second of the steady load.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Duration of the steady load, in seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u32,
    /// Number of commands to send as fast as the API accepts them.
    #[arg(long, default_value_t = 6_000)]
    pub commands: u32,
    /// Seconds for which the idle process is measured, before and after the load.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_seconds: u64,
}

/// Concurrent requests of the load without a rate.
const AT_ONCE: usize = 32;
/// The time limit for the last event.
const PATIENCE: Duration = Duration::from_secs(120);
/// Commands before the measurement, which start functions and open connections.
const WARM_UP: u32 = 200;

/// Measures the local cloud of the program `unicorn`, and returns the figures as a Markdown table.
pub async fn measure(unicorn: &Path, options: &Options) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut table = Table::default();
    let idle = Duration::from_secs(options.idle_seconds);

    let asked = Instant::now();
    let cloud = Cloud::start(unicorn, folder.path()).await?;
    table.row("start, until both ports answer", format!("{} ms", asked.elapsed().as_millis()));
    eprintln!("Idle for {} s.", idle.as_secs());
    cloud.idle(idle, &mut table, "idle, after the start").await?;

    let mut load = Load::new(&cloud.client);
    load.burst(WARM_UP).await?;
    load.events().await?;

    eprintln!("{} commands a second for {} s.", options.rate, options.seconds);
    let accepted = load.steady(options.rate, options.seconds).await?;
    let latencies = load.events().await?;
    table.latencies(&format!("contract commands at {} a second", options.rate), &accepted, &latencies);

    eprintln!("{} commands, as fast as the API accepts them.", options.commands);
    let cpu = cloud.cpu_ticks()?;
    let began = Instant::now();
    let accepted = load.burst(options.commands).await?;
    let answered = began.elapsed();
    let latencies = load.events().await?;
    let whole = latencies.last_ms - latencies.first_ms;
    table.row(
        "commands accepted, as fast as they come",
        per_second(accepted.len(), answered.as_millis() as i64),
    );
    table.row(
        "the same, until the last `ContractStatusChanged` is in the log group",
        per_second(latencies.all.len(), whole),
    );
    let used = (cloud.cpu_ticks()? - cpu) as f64 / ticks_per_second() * 1_000.0;
    table.row(
        "CPU of the local cloud itself for a command",
        format!("{:.2} ms", used / f64::from(options.commands)),
    );

    // Each property has one contract, whose creation must be published exactly once.
    let (published, again) = (load.published, load.published_again);
    table.row(
        "contracts created; published by an event; published again",
        format!("{}; {published}; {again}", load.sent),
    );
    until("the end of the work", PATIENCE, async || cloud.is_quiet().await).await?;
    eprintln!("Idle for {} s.", idle.as_secs());
    cloud.idle(idle, &mut table, "idle, after the load").await?;
    cloud.stop().await?;
    Ok(table.0)
}

/// The local cloud in a separate process.
struct Cloud {
    process: Child,
    client: Client,
}

impl Cloud {
    async fn start(unicorn: &Path, state: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(unicorn);
        command.args(["up", "--port", "0", "--aws-port", "0", "--log", "quiet", "--no-seed-data"]);
        command.args(["--no-throttle", "--state-dir"]).arg(state);
        let mut process = command.stdout(Stdio::null()).kill_on_drop(true).spawn()?;
        let file = state.join("local.json");
        let client = until("the local cloud", PATIENCE, async || {
            if let Some(status) = process.try_wait()? {
                bail!("the local cloud did not start: {status}");
            }
            let written = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            Ok(written.map(|addresses: Addresses| Client::new(addresses)))
        })
        .await?;
        Ok(Self { process, client })
    }

    fn pid(&self) -> u32 {
        self.client.addresses.pid
    }

    /// User and system time so far, in ticks (proc_pid_stat(5), fields 14 and 15).
    fn cpu_ticks(&self) -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        ensure!(ticks.len() == 2, "/proc/{}/stat has no times", self.pid());
        Ok(ticks.iter().sum())
    }

    async fn idle(&self, watched: Duration, table: &mut Table, when: &str) -> anyhow::Result<()> {
        let before = self.cpu_ticks()?;
        tokio::time::sleep(watched).await;
        let used = (self.cpu_ticks()? - before) as f64 / ticks_per_second() / watched.as_secs_f64();
        let memory = memory_mib(self.pid(), "VmRSS")?;
        table.row(when, format!("{:.1} % of a core, {memory:.0} MiB", used * 100.0));
        Ok(())
    }

    /// Waits a second, and returns whether the process was idle.
    async fn is_quiet(&self) -> anyhow::Result<Option<()>> {
        let before = self.cpu_ticks()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((self.cpu_ticks()? - before <= 1).then_some(()))
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no process")?, rustix::process::Signal::TERM)?;
        ensure!(self.process.wait().await?.success(), "the local cloud ended with an error");
        Ok(())
    }
}

/// Sends contracts, each for a new property, and counts their events.
struct Load {
    client: Client,
    sent: u32,
    /// When each contract of this phase was due (milliseconds since the epoch), by property id.
    due: HashMap<String, i64>,
    phase_ms: i64,
    /// Contracts with an event.
    published: usize,
    /// Events beyond the first of each contract.
    published_again: usize,
}

/// The times of the events of a phase in the log group.
struct Latencies {
    /// Milliseconds since the command was due, sorted.
    all: Vec<i64>,
    first_ms: i64,
    last_ms: i64,
}

impl Load {
    fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            sent: 0,
            due: HashMap::new(),
            phase_ms: now_ms(),
            published: 0,
            published_again: 0,
        }
    }

    /// The next contract; its latency counts from `due_ms`.
    fn next(&mut self, due_ms: i64) -> Value {
        self.sent += 1;
        let number = self.sent;
        let property = format!("usa/benchville/main-street/{number}");
        let body = json!({"property_id": property, "seller_name": "Ann Other",
            "address": {"country": "USA", "city": "Benchville", "street": "Main Street", "number": number}});
        self.due.insert(property, due_ms);
        body
    }

    /// Sends at a fixed rate without waiting for answers. Returns the sorted times of the answers in milliseconds.
    async fn steady(&mut self, rate: u32, seconds: u32) -> anyhow::Result<Vec<i64>> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
        let mut answers = JoinSet::new();
        let begun_ms = now_ms();
        for number in 0..rate * seconds {
            ticks.tick().await;
            // Not the time now, so that a delay of this program counts too.
            let due_ms = begun_ms + i64::from(number) * 1_000 / i64::from(rate.max(1));
            let (client, body) = (self.client.clone(), self.next(due_ms));
            answers.spawn(async move { create(&client, &body, due_ms).await });
        }
        collect(answers).await
    }

    /// Sends as fast as the answers come. Returns the sorted times of the answers in milliseconds.
    async fn burst(&mut self, commands: u32) -> anyhow::Result<Vec<i64>> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut answers = JoinSet::new();
        for _ in 0..commands {
            let place = places.clone().acquire_owned().await?;
            let due_ms = now_ms();
            let (client, body) = (self.client.clone(), self.next(due_ms));
            answers.spawn(async move {
                let _place = place;
                create(&client, &body, due_ms).await
            });
        }
        collect(answers).await
    }

    /// Waits for the event of each contract since the last call. The log group records the time of each event, so
    /// that rare and late looks measure exactly and cost little.
    async fn events(&mut self) -> anyhow::Result<Latencies> {
        let queue = json!({"QueueUrl": self.client.output("ContractsIngestQueueUrl")?,
            "AttributeNames": ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]});
        until("the end of the queue", PATIENCE, async || {
            let answer = self.client.aws("AmazonSQS.GetQueueAttributes", &queue).await?;
            let mut counts = answer["Attributes"].as_object().into_iter().flat_map(|counts| counts.values());
            Ok(counts.all(|count| count == "0").then_some(()))
        })
        .await?;
        let group = self.client.log_group("ContractsCatchAllLogGroupArn")?;
        let (came, events) = until("the last event", PATIENCE, async || {
            let (came, events) = self.logged(&group).await?;
            Ok(self.due.keys().all(|property| came.contains_key(property)).then_some((came, events)))
        })
        .await?;
        self.published += came.len();
        self.published_again += events - came.len();
        let mut all: Vec<i64> = self.due.iter().filter_map(|(id, due)| Some(came.get(id)? - due)).collect();
        all.sort_unstable();
        let first_ms = self.due.values().copied().min().unwrap_or_default();
        let last_ms = came.values().copied().max().unwrap_or_default();
        self.due.clear();
        self.phase_ms = now_ms();
        Ok(Latencies { all, first_ms, last_ms })
    }

    /// The time of the first event of each property in this phase, and the number of all events.
    async fn logged(&self, group: &str) -> anyhow::Result<(HashMap<String, i64>, usize)> {
        let (mut came, mut count) = (HashMap::new(), 0);
        let mut input = json!({"logGroupName": group, "startTime": self.phase_ms});
        loop {
            let page = self.client.aws("Logs_20140328.FilterLogEvents", &input).await?;
            for event in page["events"].as_array().into_iter().flatten() {
                let message: Value = serde_json::from_str(event["message"].as_str().unwrap_or_default())?;
                let property = message["detail"]["property_id"].as_str().unwrap_or_default();
                let ingested_ms = event["ingestionTime"].as_i64().context("no ingestionTime")?;
                let first = came.entry(property.to_owned()).or_insert(ingested_ms);
                *first = ingested_ms.min(*first);
                count += 1;
            }
            match &page["nextToken"] {
                Value::Null => return Ok((came, count)),
                token => input["nextToken"] = token.clone(),
            }
        }
    }
}

/// Sends one contract, and returns the milliseconds from `due_ms` to the answer.
async fn create(client: &Client, body: &Value, due_ms: i64) -> anyhow::Result<i64> {
    client.write(Method::POST, "/contracts", Some(body)).await?;
    Ok(now_ms() - due_ms)
}

async fn collect(mut answers: JoinSet<anyhow::Result<i64>>) -> anyhow::Result<Vec<i64>> {
    let mut times = Vec::new();
    while let Some(answer) = answers.join_next().await {
        times.push(answer??);
    }
    times.sort_unstable();
    Ok(times)
}

/// The rows of a Markdown table.
struct Table(String);

impl Default for Table {
    fn default() -> Self {
        Self("| figure | measured |\n|---|---|\n".to_owned())
    }
}

impl Table {
    fn row(&mut self, figure: &str, value: String) {
        eprintln!("  {figure}: {value}");
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "| {figure} | {value} |");
    }

    fn latencies(&mut self, load: &str, accepted: &[i64], events: &Latencies) {
        self.row(&format!("{load}: answered"), quantiles(accepted));
        self.row(&format!("{load}: `ContractStatusChanged` in the log group"), quantiles(&events.all));
    }
}

/// `sorted` in milliseconds.
fn quantiles(sorted: &[i64]) -> String {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(sorted, share));
    format!("p50 {p50} ms, p99 {p99} ms, max {max} ms")
}

fn per_second(count: usize, ms: i64) -> String {
    format!("{:.0} a second", count as f64 * 1_000.0 / ms.max(1) as f64)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let times: Vec<i64> = (1..=100).collect();
        assert_eq!(quantiles(&times), "p50 51 ms, p99 100 ms, max 100 ms");
        assert_eq!(quantiles(&[7]), "p50 7 ms, p99 7 ms, max 7 ms");
    }

    #[test]
    fn commands_a_second_count_from_milliseconds() {
        assert_eq!(per_second(600, 2_000), "300 a second");
    }
}
