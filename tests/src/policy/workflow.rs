//! State machines: no state waits for ever, every retry has jitter, and retries of a class are alike.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::deployment::{LOG_GROUP, MACHINE, list, number, texts};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::PROPERTIES;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "task-timeout",
        holds: "Step Functions: a timeout on every task",
        check: task_timeout,
        notices: &[
            Mutation::drop(APPROVAL, "FindContract", "TimeoutSeconds").naming(MACHINE_ID),
            // Nested in a Parallel and in a Map.
            Mutation::drop(APPROVAL, "JudgeDescription", "TimeoutSeconds").naming(MACHINE_ID),
            Mutation::drop(APPROVAL, "FindImage", "TimeoutSeconds").naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "FindContract", "TimeoutSeconds: 10", "TimeoutSeconds: 99999999")
                .naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "wait-timeout",
        holds: "Step Functions: a heartbeat or timeout on every wait, within that of the workflow",
        check: wait_timeout,
        notices: &[
            Mutation::drop(APPROVAL, "WaitForContractApproval", "TimeoutSeconds").naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "WaitForContractApproval", "${ContractWaitSeconds}", "99999999")
                .naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "WaitForContractEvent", "${ContractLookupDelaySeconds}", "99999999")
                .naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "WaitForContractEvent", "Seconds:", "Timestamp:").naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "workflow-timeout",
        holds: "every workflow times out as a whole, within a year",
        check: workflow_timeout,
        notices: &[
            Mutation::drop(APPROVAL, "", "TimeoutSeconds: 2678400").naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "", "TimeoutSeconds: 2678400", "TimeoutSeconds: 99999999")
                .naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "task-retries",
        holds: "Step Functions: jittered retries of every error of a task",
        check: retries,
        notices: &[
            Mutation::drop(APPROVAL, "PublishAnswer", "Retry").naming(MACHINE_ID),
            Mutation::swap(
                APPROVAL,
                "PublishAnswer",
                "[States.ALL], IntervalSeconds",
                "[States.Timeout], IntervalSeconds",
            )
            .naming(MACHINE_ID),
            Mutation::swap(
                APPROVAL,
                "ClaimRequest",
                "MaxDelaySeconds: 30, JitterStrategy: FULL",
                "MaxDelaySeconds: 30",
            )
            .naming(MACHINE_ID)
            .also(CLASSES),
        ],
    },
    Rule {
        name: CLASSES,
        holds: "Step Functions: every retry names its class, and the retries of a class have the same figures",
        check: retry_classes,
        notices: &[
            Mutation::swap(APPROVAL, "ClaimRequest", "MaxAttempts: 6", "MaxAttempts: 7").naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "PublishAnswer", "BackoffRate: 2", "BackoffRate: 1.5")
                .naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "JudgeImage", "# retry: judge", "# retry: unheard-of")
                .naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "MarkAnswered", "# retry: never", "# no class").naming(MACHINE_ID),
            Mutation::swap(APPROVAL, "", "#   look ", "#   gone ").naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "workflow-logs",
        holds: "Step Functions: logging",
        check: logs,
        notices: &[
            Mutation::drop(PROPERTIES, MACHINE_ID, "Level: ALL"),
            Mutation::swap(PROPERTIES, MACHINE_ID, "Level: ALL", "Level: \"OFF\""),
        ],
    },
];

const APPROVAL: &str = "properties-service/approval.asl.yaml";
const MACHINE_ID: &str = "ApprovalStateMachine";

/// Every state of a definition with its name, those inside Parallel and Map states too.
fn states<'v>(definition: &'v Value, found: &mut Vec<(&'v str, &'v Value)>) {
    for (name, state) in definition["States"].as_object().into_iter().flatten() {
        found.push((name, state));
        for branch in list(&state["Branches"]).chain([&state["ItemProcessor"], &state["Iterator"]]) {
            states(branch, found);
        }
    }
}

/// Step Functions ends an execution after a year:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
const YEAR: u64 = 31_536_000;

/// A fault for each state for which `complaint` returns a text. It gets the state and the seconds after
/// which the whole workflow ends.
fn each_state(
    deployment: &Deployment<'_>,
    kind: &str,
    complaint: impl Fn(&Value, u64) -> Option<&'static str>,
) -> Faults {
    let mut faults = Faults::new();
    for machine in deployment.all(MACHINE) {
        let mut found = Vec::new();
        let definition = &machine.properties["Definition"];
        let end = number(&definition["TimeoutSeconds"]).unwrap_or(YEAR);
        states(definition, &mut found);
        let of_kind = found.into_iter().filter(|(_, state)| state["Type"] == kind);
        let wrong = of_kind.filter_map(|(name, state)| Some((name, complaint(state, end)?)));
        faults.extend(wrong.map(|(name, wrong)| Fault::of(machine, format!("has {name}, which {wrong}"))));
    }
    faults
}

/// Whether something outside ends the task: an answer with a token, or the end of a job.
fn is_wait(task: &Value) -> bool {
    let resource = task["Resource"].as_str().unwrap_or_default();
    resource.ends_with(".waitForTaskToken") || resource.contains(".sync")
}

/// Whether a field holds seconds from one to `most`: a number, or an expression that is one.
fn is_within(state: &Value, field: &str, most: u64) -> bool {
    let given = &state[field];
    let inside = given.as_str().and_then(|text| text.strip_prefix("{%")?.strip_suffix("%}"));
    let seconds = inside.map_or_else(|| number(given), |text| text.trim().parse().ok());
    seconds.is_some_and(|seconds| (1..=most).contains(&seconds))
}

fn task_timeout(deployment: &Deployment<'_>) -> Faults {
    each_state(deployment, "Task", |task, end| {
        (!is_wait(task) && !is_within(task, "TimeoutSeconds", end))
            .then_some("has no timeout within that of the workflow")
    })
}

fn wait_timeout(deployment: &Deployment<'_>) -> Faults {
    let mut faults = each_state(deployment, "Task", |task, end| {
        let ends = ["TimeoutSeconds", "HeartbeatSeconds"].iter().any(|field| is_within(task, field, end));
        (is_wait(task) && !ends)
            .then_some("waits without a heartbeat or a timeout within that of the workflow")
    });
    faults.extend(each_state(deployment, "Wait", |wait, end| {
        (!is_within(wait, "Seconds", end))
            .then_some("has no fixed time of waiting within the timeout of the workflow")
    }));
    faults
}

fn workflow_timeout(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let ends = is_within(&machine.properties["Definition"], "TimeoutSeconds", YEAR);
        unless(ends, "has no timeout as a whole")
    })
}

/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
fn retries(deployment: &Deployment<'_>) -> Faults {
    each_state(deployment, "Task", |task, _| {
        let retried: Vec<&Value> =
            list(&task["Retry"]).filter(|retry| number(&retry["MaxAttempts"]) != Some(0)).collect();
        let of_all = |retry: &&Value| {
            texts(&retry["ErrorEquals"]).any(|error| error == "States.ALL" || error == "States.TaskFailed")
        };
        if !retried.iter().any(of_all) {
            return Some("is not retried for every error");
        }
        retried.iter().any(|retry| retry["JitterStrategy"] != "FULL").then_some("is retried without jitter")
    })
}

/// The rule that compares retries: a change of one of them breaks it too.
const CLASSES: &str = "retry-classes";

/// How a `Retry` entry names its class.
const CLASS: &str = "# retry: ";

/// The fields that must be the same in every retry of a class.
const FIGURES: [&str; 5] =
    ["IntervalSeconds:", "MaxAttempts:", "BackoffRate:", "MaxDelaySeconds:", "JitterStrategy:"];

/// The language has no references, so each retry repeats the figures of its class. The comment at the top
/// of the definition lists the classes: `#   name  reason`.
fn retry_classes(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    let machines = deployment.all(MACHINE);
    let texts = deployment.texts();
    let texts: Vec<_> = texts.filter_map(|text| Some((text.reader.as_deref()?, text))).collect();
    for machine in machines {
        let read = texts
            .iter()
            .find(|(id, text)| *id == machine.logical_id && text.template == machine.file.template());
        let Some((_, text)) = read else { continue };
        let mut found = Vec::new();
        states(&machine.properties["Definition"], &mut found);
        let retries = found.iter().map(|(_, state)| list(&state["Retry"]).count()).sum();
        faults.extend(wrong_class(&text.text, retries).map(|wrong| Fault::of(machine, wrong)));
    }
    faults
}

/// What is wrong with the classes in a definition that has so many retries.
fn wrong_class(text: &str, retries: usize) -> Option<String> {
    let head = text.lines().take_while(|line| line.starts_with('#'));
    let names = head.filter_map(|line| line.strip_prefix("#   ")?.split(' ').next());
    let listed: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    let mut classes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut named = 0;
    for line in text.lines() {
        let (entry, comment) =
            line.split_once(" #").map_or((line, ""), |(entry, _)| (entry, &line[entry.len() + 1..]));
        // `{ ErrorEquals: [A, B], MaxAttempts: 6, ... }`
        let fields = entry.split([',', '{', '}']).map(str::trim);
        let figures: Vec<&str> =
            fields.filter(|field| FIGURES.iter().any(|figure| field.starts_with(figure))).collect();
        if figures.is_empty() {
            continue;
        }
        let Some(class) = comment.strip_prefix(CLASS) else {
            return Some(format!("has a retry without a class: {}", entry.trim()));
        };
        named += 1;
        if !listed.contains(class) {
            return Some(format!(
                "has a retry of the class {class}, which the top of its file does not list"
            ));
        }
        if *classes.entry(class).or_insert_with(|| figures.clone()) != figures {
            return Some(format!("has retries of the class {class} with different figures"));
        }
    }
    if let Some(unused) = listed.iter().find(|class| !classes.contains_key(*class)) {
        return Some(format!("lists the class {unused}, of which it has no retry"));
    }
    (named != retries).then(|| format!("has {retries} retries, and {named} with their figures on one line"))
}

fn logs(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let logging = &machine.properties["LoggingConfiguration"];
        let to = &logging["Destinations"][0]["CloudWatchLogsLogGroup"]["LogGroupArn"];
        // The default is OFF.
        let level = ["ALL", "ERROR", "FATAL"].iter().any(|level| logging["Level"] == *level);
        unless(level && deployment.named(LOG_GROUP, to).is_some(), "does not log its executions")
    })
}
