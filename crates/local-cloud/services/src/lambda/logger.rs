//! The log of one process: what it prints, and the lines that Lambda itself writes around
//! each invocation, in one stream of its function's group (monitoring-cloudwatchlogs-logformat).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use cloud_core::Cloud;
use serde_json::{Value, json};

use super::config::Config;
use super::lock;

/// What `LogType: Tail` returns (API_Invoke).
const TAIL_BYTES: usize = 4_096;

/// Where a function wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Standard,
    /// Where panics go.
    Error,
}

/// Writes to one log stream.
#[derive(Debug)]
pub(super) struct Logger {
    cloud: Weak<Cloud>,
    function: String,
    group: String,
    pub stream: String,
    json: bool,
    level: String,
    /// The last lines since the invocation began.
    tail: Mutex<Tail>,
}

/// As many of the last lines as [`TAIL_BYTES`] can show.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while let Some(first) = self.lines.front()
            && self.bytes - (first.len() + 1) >= TAIL_BYTES
        {
            self.bytes -= first.len() + 1;
            self.lines.pop_front();
        }
    }

    fn text(&self) -> String {
        let text = self.lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut from = text.len().saturating_sub(TAIL_BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text[from..].to_owned()
    }
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
            function: config.name.clone(),
            group: config.logging.group.clone(),
            stream: format!("{day}/[$LATEST]{}", cloud.random.text("0123456789abcdef", 32)),
            json: config.logging.json,
            level: config.logging.system_level.clone(),
            tail: Mutex::default(),
        }
    }

    pub fn line(&self, text: &str) {
        let Some(cloud) = self.cloud.upgrade() else { return };
        lock(&self.tail).push(text);
        let appended = crate::logs::append(&cloud, &self.group, &self.stream, cloud.clock.now_ms(), text);
        if let Err(error) = appended {
            tracing::warn!(target: "hop", service = "lambda", "cannot write to {}: {error}", self.group);
        }
    }

    /// A line of the function itself, for the live log: what it means is for those who show it.
    pub fn show(&self, text: &str, source: Source) {
        if !tracing::enabled!(target: "hop", tracing::Level::ERROR) {
            return;
        }
        let level = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(line)) => line.get("level").and_then(Value::as_str).unwrap_or("INFO").to_owned(),
            _ if source == Source::Error => "WARN".to_owned(),
            _ => "INFO".to_owned(),
        };
        let function = &self.function;
        match level.as_str() {
            "FATAL" | "ERROR" => {
                tracing::error!(target: "hop", service = "function", resource = %function, "{text}")
            }
            "WARN" => tracing::warn!(target: "hop", service = "function", resource = %function, "{text}"),
            "DEBUG" | "TRACE" => {
                tracing::debug!(target: "hop", service = "function", resource = %function, "{text}");
            }
            _ => tracing::info!(target: "hop", service = "function", resource = %function, "{text}"),
        }
    }

    /// The last line, other than the platform's own, that says something.
    pub fn last_words(&self) -> Option<String> {
        let tail = lock(&self.tail);
        let silent = |line: &&String| {
            line.trim().is_empty()
                || line.starts_with("note: ")
                || line.starts_with("INIT_START")
                || line.contains(r#""type":"platform."#)
        };
        tail.lines.iter().rev().find(|line| !silent(line)).cloned()
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
        *lock(&self.tail) = Tail::default();
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
        lock(&self.tail).text()
    }
}

fn at(cloud: &Cloud) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(cloud.clock.now_ms()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_holds_no_more_lines_than_it_shows() {
        let mut tail = Tail::default();
        for n in 0..10_000 {
            tail.push(&format!("line {n}"));
        }
        assert!(tail.bytes < TAIL_BYTES + 16, "{}", tail.bytes);
        let text = tail.text();
        assert_eq!(text.len(), TAIL_BYTES);
        assert!(text.ends_with("line 9998\nline 9999\n"));
        tail.push(&"é".repeat(5_000));
        assert_eq!(tail.lines.len(), 1);
        assert!((TAIL_BYTES - 1..=TAIL_BYTES).contains(&tail.text().len()));
    }
}
