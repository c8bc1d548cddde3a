//! The live log: one line for each hop of the local cloud (API, queue, function, event, state), and the lines
//! of the functions under their names; as text, with colours on a terminal, or as JSON. A mark shows
//! failures, rejected commands and dead-lettered messages. No line contains a task token or a seller's name.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format of the live log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    /// One line a hop, with colours on a terminal.
    Text,
    /// One JSON object a hop.
    Json,
    /// Errors only.
    Quiet,
}

/// The service of a line that a function wrote; the message is that line.
const FUNCTION: &str = "function";

/// The length of values in the text log, in characters; warnings, errors and JSON have them whole.
const MAX_LENGTH: usize = 120;

/// Installs the live log on standard error; standard output is for addresses and results.
pub fn init(log: Log) {
    // dynoxide warns of every failed condition, which is normal for conditional writes.
    let level = if log == Log::Quiet { "error" } else { "warn,hop=info,dynoxide=error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log {
        Log::Json => builder.event_format(Json).init(),
        Log::Text | Log::Quiet => {
            // Colours on a terminal unless NO_COLOR is set, and elsewhere if CLICOLOR_FORCE is.
            // https://no-color.org, https://bixense.com/clicolors
            let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
            builder.event_format(Text { colours }).init();
        }
    }
}

/// The fields of a log event.
struct Hop {
    level: Level,
    service: String,
    resource: String,
    message: String,
    /// All other fields, sorted by name.
    rest: BTreeMap<String, Value>,
}

impl Visit for Hop {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "service" => self.service = value.to_owned(),
            "resource" => self.resource = value.to_owned(),
            "message" => self.message = value.to_owned(),
            name => drop(self.rest.insert(name.to_owned(), value.into())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.insert(field.name().to_owned(), value.into());
    }
}

impl Hop {
    fn read(event: &Event<'_>) -> Self {
        let mut hop = Self {
            level: *event.metadata().level(),
            service: event.metadata().target().to_owned(),
            resource: String::new(),
            message: String::new(),
            rest: BTreeMap::new(),
        };
        event.record(&mut hop);
        if hop.service == FUNCTION {
            hop.read_line();
        }
        hop
    }

    /// Reads the fields of a function's line, if it is in Lambda's JSON format.
    fn read_line(&mut self) {
        let Ok(Value::Object(mut line)) = serde_json::from_str(&self.message) else { return };
        // The hop has its own time and level, and the module's name is of no use here.
        for known in ["timestamp", "time", "level", "target"] {
            line.remove(known);
        }
        let spans = line.remove("spans").and_then(|spans| spans.as_array().cloned()).unwrap_or_default();
        for mut span in spans.into_iter().filter_map(|span| span.as_object().cloned()) {
            span.remove("name");
            span.remove("xrayTraceId");
            // Every line has it; it is only useful for warnings and errors.
            let request = span.remove("requestId").filter(|_| self.level <= Level::WARN);
            line.extend(request.map(|id| ("request".to_owned(), id)));
            line.extend(span);
        }
        hide_secrets(&mut line);
        self.message = match line.remove("message") {
            Some(Value::String(text)) => text,
            other => other.unwrap_or_default().to_string(),
        };
        // A rejected command is no failure of the function, but its user must see it.
        if self.level == Level::INFO && line.get("status").is_some_and(is_rejected) {
            self.level = Level::WARN;
        }
        self.rest.extend(line);
    }
}

fn is_rejected(status: &Value) -> bool {
    status.as_str().is_some_and(|status| status.eq_ignore_ascii_case("rejected"))
}

/// Names of members whose values never reach the log, in lower case without `_`.
const SECRETS: [&str; 3] = ["tasktoken", "token", "sellername"];

fn hide_secrets(line: &mut Map<String, Value>) {
    for (name, value) in line.iter_mut() {
        let plain = name.replace(['_', '-'], "").to_lowercase();
        if SECRETS.contains(&plain.as_str()) {
            *value = "(not shown)".into();
        }
        hide_below(value);
    }
}

fn hide_below(value: &mut Value) {
    match value {
        Value::Object(members) => hide_secrets(members),
        Value::Array(items) => items.iter_mut().for_each(hide_below),
        _ => {}
    }
}

/// ` name=value` of each field, cut unless `whole`.
fn fields(rest: &BTreeMap<String, Value>, whole: bool) -> String {
    let mut text = String::new();
    for (name, value) in rest {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Eight characters are enough to tell the ids on one screen apart.
        let length = match name.as_str() {
            _ if whole => usize::MAX,
            "id" | "event" | "request" | "execution" => 8,
            _ => MAX_LENGTH,
        };
        let shown = short(&value);
        let shown = match shown.char_indices().nth(length) {
            Some((end, _)) if length == 8 => shown[..end].to_owned(),
            Some((end, _)) => format!("{}...", &shown[..end]),
            None => shown.to_owned(),
        };
        // Writing to a String does not fail.
        let _ = write!(text, " {name}={shown}");
    }
    text
}

/// The name of a resource: its ARN without service, region, account and kind. Other texts stay as they are.
fn short(value: &str) -> &str {
    let Some(resource) = value.strip_prefix("arn:aws:").and_then(|arn| arn.splitn(4, ':').nth(3)) else {
        return value;
    };
    if let Some(group) = resource.strip_prefix("log-group:") {
        return group.trim_end_matches(":*");
    }
    let name = resource.rsplit_once(':').map_or(resource, |(_, name)| name);
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

/// One colour for each service, so that the eye can follow it.
fn colour(service: &str, level: Level) -> Style {
    let colour = match (level, service) {
        (Level::ERROR, _) => AnsiColor::Red,
        (Level::WARN, _) => AnsiColor::Yellow,
        (_, "apigateway") => AnsiColor::Blue,
        (_, "sqs") => AnsiColor::Magenta,
        (_, "lambda" | FUNCTION) => AnsiColor::Green,
        (_, "events" | "pipes") => AnsiColor::Cyan,
        (_, "states") => AnsiColor::BrightBlue,
        _ => AnsiColor::White,
    };
    colour.on_default()
}

/// The format for people.
struct Text {
    colours: bool,
}

impl Text {
    fn line(&self, time: &str, hop: &Hop) -> String {
        let Hop { level, service, message, rest, .. } = hop;
        let stands_out = *level <= Level::WARN;
        let style = if self.colours { colour(service, *level) } else { Style::new() };
        // A warning or an error colours the whole line; other lines colour only the service's name.
        let (loud, mark) = if stands_out { (style, '!') } else { (Style::new(), ' ') };
        let (resource, rest) = (short(&hop.resource), fields(rest, stands_out));
        format!("{time} {style}{mark} {service:<11}{style:#} {loud}{resource:<43} {message}{rest}{loud:#}")
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let time = jiff::Timestamp::now().strftime("%H:%M:%S%.3f").to_string();
        writeln!(out, "{}", self.line(&time, &Hop::read(event)))
    }
}

/// The format for programs.
struct Json;

impl Json {
    fn line(time: &str, hop: Hop) -> Value {
        let Hop { level, service, resource, message, rest } = hop;
        let mut line = json!({ "timestamp": time, "level": level.as_str(), "service": service });
        if !resource.is_empty() {
            line["resource"] = resource.into();
        }
        line["message"] = message.into();
        for (name, value) in rest {
            // A field of the function never replaces one of the hop.
            if line.get(&name).is_none() {
                line[name] = value;
            }
        }
        line
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        writeln!(out, "{}", Self::line(&time, Hop::read(event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(level: Level, line: &str) -> Hop {
        let mut hop = Hop {
            level,
            service: FUNCTION.into(),
            resource: "uni-prop-local-search".into(),
            message: line.into(),
            rest: BTreeMap::new(),
        };
        hop.read_line();
        hop
    }

    const LINE: &str = r#"{"timestamp":"2026-11-23T18:22:06.123456Z","level":"INFO","message":"command settled",
        "status":"Applied","reason":null,"target":"lambda_kit::ledger",
        "spans":[{"requestId":"r-1","xrayTraceId":"Root=1","name":"Lambda runtime invoke"},
            {"command_id":"c-1","property_id":"usa/anytown/main-street/1","name":"command"}]}"#;

    #[test]
    fn the_json_line_of_a_function_is_shown_as_its_message_and_its_main_fields() {
        let text = Text { colours: false }.line("18:22:06.123", &written(Level::INFO, LINE));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "18:22:06.123 function uni-prop-local-search command settled \
             command_id=c-1 property_id=usa/anytown/main-street/1 status=Applied"
        );
    }

    #[test]
    fn a_line_that_is_no_json_is_shown_as_it_is() {
        let text =
            Text { colours: false }.line("t", &written(Level::WARN, "thread 'main' panicked at src/main.rs"));
        assert!(text.contains("! function    uni-prop-local-search"), "{text}");
        assert!(text.ends_with(" thread 'main' panicked at src/main.rs"), "{text}");
    }

    #[test]
    fn a_rejected_command_stands_out_with_and_without_colours() {
        let line = LINE.replace("Applied", "Rejected");
        let plain = Text { colours: false }.line("t", &written(Level::INFO, &line));
        assert!(plain.starts_with("t ! function"), "{plain}");
        let coloured = Text { colours: true }.line("t", &written(Level::INFO, &line));
        let yellow = AnsiColor::Yellow.on_default().to_string();
        assert!(coloured.matches(&yellow).count() == 2, "{coloured}");
    }

    #[test]
    fn what_went_wrong_is_shown_with_its_whole_cause_and_its_whole_ids() {
        let id = "8f2d6c1e-0000-4000-8000-123456789abc";
        let cause = format!("the detail is not a ContractStatusChanged: {}", "because ".repeat(100));
        let line = json!({"message": "the event is malformed", "event": id, "error": cause.trim(),
            "spans": [{"name": "invocation", "requestId": id}]})
        .to_string();
        let failed = Text { colours: false }.line("t", &written(Level::ERROR, &line));
        let expected = format!(" the event is malformed error={} event={id} request={id}", cause.trim());
        assert!(failed.ends_with(&expected), "{failed}");
        let as_usual = Text { colours: false }.line("t", &written(Level::INFO, &line));
        assert!(as_usual.ends_with("... event=8f2d6c1e"), "{as_usual}");
    }

    #[test]
    fn a_task_token_and_a_sellers_name_are_never_shown() {
        let line = r#"{"message":"m","taskToken":"AAAA","detail":{"seller_name":"Ann Other","contracts":[{"task_token":"AAAA"}]}}"#;
        for text in [
            Text { colours: false }.line("t", &written(Level::INFO, line)),
            Json::line("t", written(Level::INFO, line)).to_string(),
        ] {
            assert!(!text.contains("AAAA") && !text.contains("Ann Other"), "{text}");
            assert!(text.contains("(not shown)"), "{text}");
        }
    }

    #[test]
    fn json_has_whole_values_and_no_field_of_a_function_hides_one_of_the_hop() {
        let line = r#"{"message":"m","service":"mine","request":"0123456789","count":3}"#;
        let shown = Json::line("t", written(Level::INFO, line));
        assert_eq!(
            shown,
            json!({"timestamp": "t", "level": "INFO", "service": "function",
                "resource": "uni-prop-local-search", "message": "m", "request": "0123456789", "count": 3})
        );
    }

    #[test]
    fn an_arn_is_shown_as_the_name_that_people_know() {
        for (arn, name) in [
            ("arn:aws:lambda:us-east-1:123456789012:function:uni-prop-local-search", "uni-prop-local-search"),
            ("arn:aws:sqs:us-east-1:123456789012:uni-prop-local-web-ingest", "uni-prop-local-web-ingest"),
            ("arn:aws:events:us-east-1:123456789012:event-bus/web", "web"),
            ("arn:aws:events:us-east-1:123456789012:rule/web/ended", "ended"),
            ("arn:aws:states:us-east-1:123456789012:stateMachine:approval", "approval"),
            ("arn:aws:logs:us-east-1:123456789012:log-group:/aws/events/local/x:*", "/aws/events/local/x"),
        ] {
            assert_eq!(short(arn), name);
        }
    }

    #[test]
    fn what_is_no_arn_is_shown_as_it_is() {
        for value in ["/search/usa/anytown", "a:b/c", "arn:aws:short", ""] {
            assert_eq!(short(value), value);
        }
    }
}
