//! The log of one process, in one stream of its function's group: its output, and the lines that Lambda writes
//! around each invocation (monitoring-cloudwatchlogs-logformat).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use cloud_core::{Cloud, lock};
use serde_json::{Value, json};

use super::config::Config;

/// The size of the log that `LogType: Tail` returns (API_Invoke).
const TAIL_BYTES: usize = 4_096;

/// The pipe of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Standard,
    /// Panics are printed here.
    Error,
}

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

/// The last lines, as many as [`TAIL_BYTES`] can show.
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
pub(super) struct Report<'a> {
    pub duration_ms: i64,
    pub init_ms: Option<i64>,
    pub memory_mb: u64,
    pub used_mb: u64,
    pub error_type: Option<&'a str>,
}

fn status(error_type: &str) -> &'static str {
    if error_type == TIMED_OUT { "timeout" } else { "error" }
}

const TIMED_OUT: &str = "Sandbox.Timedout";

impl Logger {
    /// A new stream: `YYYY/MM/DD/[$LATEST]` and 32 hexadecimal digits.
    pub fn new(cloud: &Arc<Cloud>, config: &Config) -> Self {
        let day = cloud.clock.timestamp().get(..10).unwrap_or_default().replace('-', "/");
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

    /// Shows a line of the function in the live log, at the level that the line itself has.
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

    /// The last line that the function itself wrote and that is not empty.
    pub fn last_line(&self) -> Option<String> {
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
        self.line(&json!({ "time": cloud.clock.timestamp(), "type": kind, "record": record }).to_string());
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
        let (timed_out, status) = (kind == TIMED_OUT, status(&kind));
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

    /// Logs why the platform ended an invocation: for a timeout with the time, for any other error with its
    /// type in the next line (monitoring-cloudwatchlogs-view, troubleshooting-invocation).
    pub fn failure(&self, request_id: &str, kind: &str, message: &str) {
        if kind != TIMED_OUT {
            let kind = if kind == "Runtime.OutOfMemory" { "Runtime.ExitError" } else { kind };
            return self.line(&format!("RequestId: {request_id} {message}\n{kind}"));
        }
        let Some(cloud) = self.cloud.upgrade() else { return };
        let time = cloud.clock.timestamp();
        self.line(&format!("{time} {request_id} {}", message.trim_start_matches("Error: ")));
    }

    pub fn end(&self, request_id: &str, report: &Report<'_>) {
        let Report { duration_ms, init_ms, memory_mb, used_mb, error_type } = *report;
        let status = error_type.map(status);
        // Lambda bills whole milliseconds, and one at least.
        let billed = duration_ms.max(1);
        if !self.json {
            self.line(&format!("END RequestId: {request_id}"));
            let init = init_ms.map(|ms| format!("\tInit Duration: {ms}.00 ms")).unwrap_or_default();
            let status = status.map(|status| format!("\tStatus: {status}")).unwrap_or_default();
            let kind = error_type.map(|kind| format!("\tError Type: {kind}")).unwrap_or_default();
            self.line(&format!(
                "REPORT RequestId: {request_id}\tDuration: {duration_ms}.00 ms\tBilled Duration: {billed} ms\tMemory Size: {memory_mb} MB\tMax Memory Used: {used_mb} MB{init}{status}{kind}",
            ));
        } else if self.level != "WARN" || status.is_some() {
            let mut record = json!({
                "requestId": request_id,
                "status": status.unwrap_or("success"),
                "metrics": { "durationMs": duration_ms, "billedDurationMs": billed,
                    "memorySizeMB": memory_mb, "maxMemoryUsedMB": used_mb },
            });
            if let Some(init) = init_ms {
                record["metrics"]["initDurationMs"] = init.into();
            }
            if let Some(kind) = error_type {
                record["errorType"] = kind.into();
            }
            self.event("platform.report", record);
        }
    }

    /// The last part of the invocation's log.
    pub fn tail(&self) -> String {
        lock(&self.tail).text()
    }
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
