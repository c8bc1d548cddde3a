//! State machines: nothing waits for ever, and what is retried is retried with jitter.

use serde_json::Value;

use super::deployment::{LOG_GROUP, MACHINE, is_true, list, number};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};

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
        ],
    },
    Rule {
        name: "wait-timeout",
        holds: "Step Functions: a heartbeat or timeout on every wait",
        check: wait_timeout,
        notices: &[Mutation::drop(APPROVAL, "WaitForContractApproval", "TimeoutSeconds").naming(MACHINE_ID)],
    },
    Rule {
        name: "workflow-timeout",
        holds: "every workflow times out as a whole",
        check: workflow_timeout,
        notices: &[Mutation::drop(APPROVAL, "", "TimeoutSeconds: 2678400").naming(MACHINE_ID)],
    },
    Rule {
        name: "task-retries",
        holds: "Step Functions: jittered retries",
        check: retries,
        notices: &[
            Mutation::drop(APPROVAL, "PublishAnswer", "Retry").naming(MACHINE_ID),
            Mutation::swap(
                APPROVAL,
                "ClaimRequest",
                "MaxDelaySeconds: 30, JitterStrategy: FULL",
                "MaxDelaySeconds: 30",
            )
            .naming(MACHINE_ID),
        ],
    },
    Rule {
        name: "execution-data",
        holds: "Step Functions: logging, without execution data in prod",
        check: execution_data,
        notices: &[
            Mutation::swap(
                PROPERTIES,
                MACHINE_ID,
                "IncludeExecutionData: false",
                "IncludeExecutionData: true",
            )
            .on_prod(),
            Mutation::swap(PROPERTIES, MACHINE_ID, "Level: ALL", "Level: \"OFF\""),
        ],
    },
];

const APPROVAL: &str = "properties-service/approval.asl.yaml";
const PROPERTIES: &str = "properties-service/template.yaml";
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

/// A fault for each task that `complaint` says something about.
fn each_task(deployment: &Deployment<'_>, complaint: fn(&Value) -> Option<&'static str>) -> Faults {
    let mut faults = Faults::new();
    for machine in deployment.all(MACHINE) {
        let mut found = Vec::new();
        states(&machine.properties["Definition"], &mut found);
        let tasks = found.into_iter().filter(|(_, state)| state["Type"] == "Task");
        let wrong = tasks.filter_map(|(name, task)| Some((name, complaint(task)?)));
        faults.extend(
            wrong.map(|(name, wrong)| Fault::of(machine, format!("has the task {name}, which {wrong}"))),
        );
    }
    faults
}

/// Whether somebody else ends the task: with a token, or by ending a job.
fn is_wait(task: &Value) -> bool {
    let resource = task["Resource"].as_str().unwrap_or_default();
    resource.ends_with(".waitForTaskToken") || resource.contains(".sync")
}

/// A number, or an expression of it.
fn is_set(task: &Value, field: &str) -> bool {
    number(&task[field]).is_some_and(|seconds| seconds > 0)
        || task[field].as_str().is_some_and(|text| text.starts_with("{%"))
}

fn task_timeout(deployment: &Deployment<'_>) -> Faults {
    each_task(deployment, |task| {
        (!is_wait(task) && !is_set(task, "TimeoutSeconds")).then_some("has no timeout")
    })
}

fn wait_timeout(deployment: &Deployment<'_>) -> Faults {
    each_task(deployment, |task| {
        let ends = is_set(task, "TimeoutSeconds") || is_set(task, "HeartbeatSeconds");
        (is_wait(task) && !ends).then_some("waits without a heartbeat or a timeout")
    })
}

fn workflow_timeout(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        unless(is_set(&machine.properties["Definition"], "TimeoutSeconds"), "has no timeout as a whole")
    })
}

fn retries(deployment: &Deployment<'_>) -> Faults {
    each_task(deployment, |task| {
        let mut retried = list(&task["Retry"]).filter(|retry| retry["MaxAttempts"] != 0).peekable();
        if retried.peek().is_none() {
            return Some("is never retried");
        }
        retried.any(|retry| retry["JitterStrategy"] != "FULL").then_some("is retried without jitter")
    })
}

fn execution_data(deployment: &Deployment<'_>) -> Faults {
    deployment.each(MACHINE, |machine| {
        let logging = &machine.properties["LoggingConfiguration"];
        let to = &logging["Destinations"][0]["CloudWatchLogsLogGroup"]["LogGroupArn"];
        if logging["Level"] == "OFF" || deployment.named(LOG_GROUP, to).is_none() {
            return Some("does not log its executions".to_owned());
        }
        unless(
            !deployment.is_prod() || !is_true(&logging["IncludeExecutionData"]),
            "logs what its executions work on",
        )
    })
}
