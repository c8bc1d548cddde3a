//! The summary at the end of a run of `cargo unicorn up`. Its figures are counted during the run; waiting and
//! dead messages are counted in the store after the ports have closed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cloud_core::resource::Resource;
use cloud_services::{cloudformation, lambda};
use local_cloud::Cloud;
use serde::Serialize;
use serde_json::{Value, json};

use crate::seed::Loaded;

/// Counts the commands that ended, by the writes of their records (`crates/lambda-kit/src/ledger.rs`): a
/// redelivered command writes none. Commands that load the seed data do not count.
#[derive(Debug, Default)]
pub struct Commands(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    outcomes: Outcomes,
    left_out: LeftOut,
    /// Answers to the requests that loaded the seed data, by the first digit of their status.
    answers: [u64; 10],
}

/// The commands that load the seed data. A command may end before it is known to be one of them.
#[derive(Debug)]
enum LeftOut {
    /// Their ids are not known yet. For each command that has ended, whether it was applied.
    Unknown(HashMap<String, bool>),
    /// The ids of those that have not ended.
    Known(Vec<String>),
}

impl Default for LeftOut {
    fn default() -> Self {
        Self::Unknown(HashMap::new())
    }
}

impl Commands {
    /// Counts from now on, in a cloud that has not started yet.
    pub fn count(cloud: &Cloud) -> Arc<Self> {
        let commands = Arc::new(Self::default());
        let counts = commands.clone();
        cloud.counters.observe_writes(move |body| counts.written(body));
        commands
    }

    /// Leaves out the commands that loaded the seed data, in this run and in earlier ones (`before`), whose
    /// commands may end in this run. Called once, after the seed data is loaded or skipped.
    pub fn leave_out(&self, before: Vec<String>, loaded: Option<&Loaded>) {
        let mut counts = self.lock();
        for status in loaded.iter().flat_map(|loaded| &loaded.answers) {
            if let Some(count) = counts.answers.get_mut(usize::from(status / 100)) {
                *count += 1;
            }
        }
        let sent = loaded.iter().flat_map(|loaded| &loaded.listings);
        let ids: HashSet<String> =
            before.into_iter().chain(sent.map(|sent| sent.command_id.clone())).collect();
        let mut open = Vec::new();
        let ended = std::mem::replace(&mut counts.left_out, LeftOut::Known(Vec::new()));
        for id in ids {
            let applied = match &ended {
                LeftOut::Unknown(ended) => ended.get(&id),
                LeftOut::Known(_) => None,
            };
            match applied {
                Some(applied) => *counts.outcomes.of(*applied) -= 1,
                None => open.push(id),
            }
        }
        counts.left_out = LeftOut::Known(open);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self, body: &[u8]) {
        // Most writes contain no command, and need not be parsed.
        const RECORD: &[u8] = b"COMMAND#";
        if !body.windows(RECORD.len()).any(|part| part == RECORD) {
            return;
        }
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let parts = request["TransactItems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let items = parts.iter().map(|part| &part["Put"]["Item"]).chain([&request["Item"]]);
        for item in items {
            let Some(id) = item["pk"]["S"].as_str().and_then(|pk| pk.strip_prefix("COMMAND#")) else {
                continue;
            };
            match item["status"]["S"].as_str() {
                Some("APPLIED") => self.lock().ended(id, true),
                Some("REJECTED") => self.lock().ended(id, false),
                _ => {}
            }
        }
    }
}

impl Counts {
    fn ended(&mut self, id: &str, applied: bool) {
        match &mut self.left_out {
            LeftOut::Known(ids) => {
                if let Some(at) = ids.iter().position(|left_out| left_out == id) {
                    ids.swap_remove(at);
                    return;
                }
            }
            LeftOut::Unknown(ended) => drop(ended.insert(id.to_owned(), applied)),
        }
        *self.outcomes.of(applied) += 1;
    }
}

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub ran_for_ms: u64,
    pub requests: Requests,
    pub commands: Outcomes,
    /// Events that a bus accepted; one that a rule forwards to another bus counts once.
    pub events_published: u64,
    /// Executions of state machines by status.
    pub executions: BTreeMap<String, u64>,
    /// Messages by queue, without dead-letter queues.
    pub waiting: BTreeMap<String, u64>,
    /// Failed asynchronous invocations that will be retried, by function.
    pub retrying: BTreeMap<String, u64>,
    /// Messages by dead-letter queue, also those of earlier runs.
    pub dead_letters: BTreeMap<String, u64>,
}

/// Requests to the APIs by the status of their answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// 2xx.
    pub accepted: u64,
    /// 4xx.
    pub refused: u64,
    /// 5xx.
    pub failed: u64,
}

/// Ended commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    pub applied: u64,
    pub rejected: u64,
}

impl Outcomes {
    fn of(&mut self, applied: bool) -> &mut u64 {
        if applied { &mut self.applied } else { &mut self.rejected }
    }
}

impl Summary {
    /// The summary of a stopped run that began at `started`.
    pub async fn take(cloud: &Arc<Cloud>, commands: &Commands, started: Instant) -> anyhow::Result<Self> {
        let application = cloudformation::application(cloud);
        let resources: Vec<&Resource> =
            application.iter().flat_map(|it| &it.stacks).flat_map(|stack| &stack.resources).collect();
        let counters = &cloud.counters;
        let (commands, seeded) = {
            let counts = commands.lock();
            (counts.outcomes.clone(), counts.answers)
        };
        let requests = |digit: usize| {
            counters.requests(digit).saturating_sub(seeded.get(digit).copied().unwrap_or_default())
        };
        let mut executions: BTreeMap<String, u64> = counters
            .executions()
            .into_iter()
            .map(|(status, count)| (status.to_ascii_lowercase(), count))
            .collect();
        let running = running(cloud, &resources).await?;
        if running > 0 {
            executions.insert("running".into(), running);
        }
        let dead_letter_queues = dead_letter_queues(&resources);
        let (mut waiting, mut dead_letters) = (BTreeMap::new(), BTreeMap::new());
        for (queue, count) in messages(cloud).await? {
            let queues = if dead_letter_queues.contains(&queue) { &mut dead_letters } else { &mut waiting };
            queues.insert(queue, count);
        }
        Ok(Self {
            ran_for_ms: started.elapsed().as_millis() as u64,
            requests: Requests { accepted: requests(2), refused: requests(4), failed: requests(5) },
            commands,
            events_published: counters.events(),
            executions,
            waiting,
            retrying: lambda::retrying(cloud)?,
            dead_letters,
        })
    }

    /// The summary as a few lines of text.
    pub fn text(&self) -> String {
        let Self { requests, commands, .. } = self;
        let mut text = format!("Ran for {}.\n", duration(Duration::from_millis(self.ran_for_ms)));
        let executions: Vec<String> = self
            .executions
            .iter()
            .map(|(status, count)| match status.as_str() {
                "running" => format!("{count} still running"),
                status => format!("{count} {}", status.replace('_', " ")),
            })
            .collect();
        for (what, figures) in [
            (
                "requests",
                format!(
                    "{} accepted, {} refused, {} failed",
                    requests.accepted, requests.refused, requests.failed
                ),
            ),
            ("commands", format!("{} applied, {} rejected", commands.applied, commands.rejected)),
            ("events", format!("{} published", self.events_published)),
            ("executions", or_none(&executions)),
            ("waiting", by_name(&self.waiting, "in")),
            ("retrying", by_name(&self.retrying, "of")),
            ("dead letters", by_name(&self.dead_letters, "in")),
        ] {
            // Writing to a String does not fail.
            let _ = writeln!(text, "  {what:<13} {figures}");
        }
        text
    }
}

fn or_none(parts: &[String]) -> String {
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}

fn by_name(counts: &BTreeMap<String, u64>, joined: &str) -> String {
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {joined} {name}")).collect();
    or_none(&parts)
}

fn duration(ran: Duration) -> String {
    let seconds = ran.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{:.1} s", ran.as_secs_f64()),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

async fn running(cloud: &Arc<Cloud>, resources: &[&Resource]) -> anyhow::Result<u64> {
    let mut count = 0;
    for machine in resources.iter().filter(|resource| resource.kind == "AWS::StepFunctions::StateMachine") {
        let mut input =
            json!({"stateMachineArn": machine.arn, "statusFilter": "RUNNING", "maxResults": 1000});
        loop {
            let page = cloud.call("states", "ListExecutions", input.clone()).await?;
            count += page["executions"].as_array().map_or(0, Vec::len) as u64;
            match &page["nextToken"] {
                Value::Null => break,
                token => input["nextToken"] = token.clone(),
            }
        }
    }
    Ok(count)
}

/// The number of messages in each queue, visible or not, without empty queues.
async fn messages(cloud: &Arc<Cloud>) -> anyhow::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let queues = cloud.call("sqs", "ListQueues", json!({})).await?;
    for url in queues["QueueUrls"].as_array().into_iter().flatten() {
        let input = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let attributes = cloud.call("sqs", "GetQueueAttributes", input).await?;
        let count: u64 = ["", "NotVisible", "Delayed"]
            .iter()
            .filter_map(|suffix| {
                let name = format!("ApproximateNumberOfMessages{suffix}");
                attributes["Attributes"][name].as_str()?.parse::<u64>().ok()
            })
            .sum();
        if count > 0 {
            let name = url.as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
            found.push((name.to_owned(), count));
        }
    }
    Ok(found)
}

/// The names of the queues that the template uses as dead-letter queues or failure destinations.
fn dead_letter_queues(resources: &[&Resource]) -> Vec<String> {
    let mut found = Vec::new();
    for resource in resources {
        collect(&resource.properties, false, &mut found);
    }
    found
}

fn collect(value: &Value, gives_up: bool, found: &mut Vec<String>) {
    const PLACES: [&str; 4] = ["RedrivePolicy", "DeadLetterConfig", "DeadLetterQueue", "OnFailure"];
    match value {
        Value::String(text) if gives_up && text.contains(":sqs:") => {
            found.extend(text.rsplit(':').next().map(str::to_owned));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, gives_up, found)),
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| collect(member, gives_up || PLACES.contains(&name.as_str()), found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Sent;

    fn record(pk: &str, status: &str) -> Value {
        json!({"Put": {"Item": {"pk": {"S": pk}, "status": {"S": status}}}})
    }

    #[test]
    fn a_command_counts_once_when_its_outcome_is_written() {
        let commands = Commands::default();
        for parts in [
            vec![record("COMMAND#1", "PENDING")],
            vec![record("COMMAND#1", "APPLIED"), record("KEY#anyone#k", "APPLIED")],
            vec![record("COMMAND#2", "REJECTED")],
            vec![json!({"Put": {"Item": {"property_id": {"S": "usa/a/b/1"}}}})],
        ] {
            commands.written(json!({ "TransactItems": parts }).to_string().as_bytes());
        }
        commands.written(b"COMMAND# but no JSON");
        assert_eq!(commands.lock().outcomes, Outcomes { applied: 1, rejected: 1 });
    }

    #[test]
    fn a_command_of_the_seed_data_does_not_count_whenever_it_comes_to_its_end() {
        let commands = Commands::default();
        let ends = |id: &str| {
            let body = json!({ "TransactItems": [record(&format!("COMMAND#{id}"), "APPLIED")] });
            commands.written(body.to_string().as_bytes());
        };
        let sent = |id: &str| Sent { property_id: "usa/a/b/1".into(), command_id: id.into() };
        let loaded = Loaded {
            listings: vec![sent("early"), sent("late")],
            answers: vec![404, 200, 404, 200],
            ..Loaded::default()
        };
        ends("early");
        ends("of an interrupted run");
        ends("a user's, meanwhile");
        let before = ["of an interrupted run", "of another one", "early"].map(String::from);
        commands.leave_out(before.to_vec(), Some(&loaded));
        ends("late");
        ends("of another one");
        ends("a user's, later");
        let counts = commands.lock();
        assert_eq!(counts.outcomes, Outcomes { applied: 2, rejected: 0 });
        assert_eq!((counts.answers[2], counts.answers[4]), (2, 2));
    }

    #[test]
    fn a_duration_is_told_as_people_say_it() {
        for (seconds, said) in [(4, "4.0 s"), (65, "1 min 5 s"), (7_260, "2 h 1 min")] {
            assert_eq!(duration(Duration::from_secs(seconds)), said);
        }
    }
}
