//! The log of one process: what it prints, and the lines that Lambda itself writes around
//! each invocation, in one stream of its function's group (monitoring-cloudwatchlogs-logformat).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};

use super::config::Config;
use super::lock;
use crate::cloud::Cloud;

/// What `LogType: Tail` returns (API_Invoke).
const TAIL_BYTES: usize = 4_096;

/// Writes to one log stream.
#[derive(Debug)]
pub(super) struct Logger {
    cloud: Weak<Cloud>,
    group: String,
    pub stream: String,
    json: bool,
    level: String,
    /// Lines since the invocation began.
    tail: Mutex<VecDeque<String>>,
}

/// The figures of a REPORT line.
pub(super) struct Report {
    pub duration_ms: i64,
    pub init_ms: Option<i64>,
    pub memory_mb: u64,
    pub used_mb: u64,
    /// `timeout`, `error`, or none where all went well.
    pub status: Option<&'static str>,
    pub error_type: Option<String>,
}

impl Logger {
    /// A new stream: `YYYY/MM/DD/[$LATEST]` and 32 hexadecimal digits.
    pub fn new(cloud: &Arc<Cloud>, config: &Config) -> Self {
        let day = at(cloud).strftime("%Y/%m/%d").to_string();
        Self {
            cloud: Arc::downgrade(cloud),
            group: config.logging.group.clone(),
            stream: format!("{day}/[$LATEST]{}", cloud.random.text("0123456789abcdef", 32)),
            json: config.logging.json,
            level: config.logging.system_level.clone(),
            tail: Mutex::default(),
        }
    }

    pub fn line(&self, text: &str) {
        let Some(cloud) = self.cloud.upgrade() else { return };
        lock(&self.tail).push_back(text.to_owned());
        let appended = crate::logs::append(&cloud, &self.group, &self.stream, cloud.clock.now_ms(), text);
        if let Err(error) = appended {
            tracing::warn!(target: "hop", service = "lambda", "cannot write to {}: {error}", self.group);
        }
    }

    /// An event of the platform in the JSON format.
    fn event(&self, kind: &str, record: Value) {
        let Some(cloud) = self.cloud.upgrade() else { return };
        let time = at(&cloud).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        self.line(&json!({ "time": time, "type": kind, "record": record }).to_string());
    }

    pub fn init(&self, runtime: &str) {
        if !self.json {
            self.line(&format!("INIT_START Runtime Version: {runtime}:local"));
        } else if self.level != "WARN" {
            let record =
                json!({ "initializationType": "on-demand", "phase": "init", "runtimeVersion": runtime });
            self.event("platform.initStart", record);
        }
    }

    /// An initialisation that failed or took too long (lambda-runtime-environment).
    /// The phase is `init`, or `invoke` for the second try.
    pub fn init_failed(&self, phase: &str, duration_ms: i64, kind: String) {
        let timed_out = kind == "Sandbox.Timedout";
        let status = if timed_out { "timeout" } else { "error" };
        if self.json {
            let mut record = json!({ "initializationType": "on-demand", "phase": phase, "status": status,
                "metrics": { "durationMs": duration_ms } });
            if !timed_out {
                record["errorType"] = kind.into();
            }
            return self.event("platform.initReport", record);
        }
        let kind = if timed_out { String::new() } else { format!("\tError Type: {kind}") };
        self.line(&format!(
            "INIT_REPORT Init Duration: {duration_ms}.00 ms\tPhase: {phase}\tStatus: {status}{kind}"
        ));
    }

    pub fn begin(&self, request_id: &str) {
        lock(&self.tail).clear();
        if !self.json {
            self.line(&format!("START RequestId: {request_id} Version: $LATEST"));
        } else if self.level != "WARN" {
            self.event("platform.start", json!({ "requestId": request_id, "version": "$LATEST" }));
        }
    }

    /// Why the platform ended an invocation: time-outs with their time, all else with its type
    /// below (monitoring-cloudwatchlogs-view, troubleshooting-invocation).
    pub fn failure(&self, request_id: &str, kind: &str, message: &str) {
        if kind != "Sandbox.Timedout" {
            let kind = if kind == "Runtime.OutOfMemory" { "Runtime.ExitError" } else { kind };
            return self.line(&format!("RequestId: {request_id} {message}\n{kind}"));
        }
        let Some(cloud) = self.cloud.upgrade() else { return };
        let time = at(&cloud).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        self.line(&format!("{time} {request_id} {}", message.trim_start_matches("Error: ")));
    }

    pub fn end(&self, request_id: &str, report: &Report) {
        // Lambda bills whole milliseconds, and nothing below one.
        let billed = report.duration_ms.max(1);
        if self.json {
            if self.level == "WARN" && report.status.is_none() {
                return;
            }
            let mut metrics = json!({ "durationMs": report.duration_ms, "billedDurationMs": billed,
                "memorySizeMB": report.memory_mb, "maxMemoryUsedMB": report.used_mb });
            if let Some(init) = report.init_ms {
                metrics["initDurationMs"] = init.into();
            }
            let mut record = json!({ "requestId": request_id, "metrics": metrics, "status": report.status.unwrap_or("success") });
            if let Some(kind) = &report.error_type {
                record["errorType"] = kind.clone().into();
            }
            return self.event("platform.report", record);
        }
        self.line(&format!("END RequestId: {request_id}"));
        let init = report.init_ms.map(|ms| format!("\tInit Duration: {ms}.00 ms")).unwrap_or_default();
        let status = report.status.map(|status| format!("\tStatus: {status}")).unwrap_or_default();
        let kind = report.error_type.as_ref().map(|kind| format!("\tError Type: {kind}")).unwrap_or_default();
        self.line(&format!(
            "REPORT RequestId: {request_id}\tDuration: {}.00 ms\tBilled Duration: {billed} ms\tMemory Size: {} MB\tMax Memory Used: {} MB{init}{status}{kind}",
            report.duration_ms, report.memory_mb, report.used_mb,
        ));
    }

    /// The end of the invocation's log.
    pub fn tail(&self) -> String {
        let text = lock(&self.tail).iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut from = text.len().saturating_sub(TAIL_BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text[from..].to_owned()
    }
}

fn at(cloud: &Cloud) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(cloud.clock.now_ms()).unwrap_or_default()
}
