//! The live log: one line per hop of the local cloud (API, queue, function, event, state),
//! for people with colours on a terminal, or as JSON.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How the live log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    /// One line a hop, coloured on a terminal.
    Text,
    /// One JSON object a hop.
    Json,
    /// Nothing but what went wrong.
    Quiet,
}

/// Installs the live log on standard error; standard output is for addresses and results.
pub fn init(log: Log) {
    // dynoxide warns of every refused condition, which is how our conditional writes work.
    let level = if log == Log::Quiet { "error" } else { "warn,hop=info,dynoxide=error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log {
        Log::Json => builder.json().flatten_event(true).init(),
        Log::Text | Log::Quiet => {
            builder.event_format(Line { colours: std::io::stderr().is_terminal() }).init();
        }
    }
}

struct Line {
    colours: bool,
}

#[derive(Default)]
struct Fields {
    service: String,
    resource: String,
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "service" => self.service = value.to_owned(),
            "resource" => self.resource = short(value).to_owned(),
            "message" => self.message = value.to_owned(),
            name => self.other(name, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Fields {
    fn other(&mut self, name: &str, value: &str) {
        // Eight digits tell ids of one screen apart; JSON has them whole.
        let shown = match (name, value.char_indices().nth(8)) {
            ("id" | "event" | "request" | "execution", Some((end, _))) => &value[..end],
            _ => short(value),
        };
        // Writing to a String does not fail.
        let _ = write!(self.rest, " {name}={shown}");
    }
}

/// The name that people know a resource by: without the account, the region and the kind
/// that its ARN begins with. What is no ARN stays as it is.
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

/// One colour a service, so that the eye can follow one.
fn colour(service: &str, level: Level) -> Style {
    let colour = match (level, service) {
        (Level::ERROR, _) => AnsiColor::Red,
        (Level::WARN, _) => AnsiColor::Yellow,
        (_, "apigateway") => AnsiColor::Blue,
        (_, "sqs") => AnsiColor::Magenta,
        (_, "lambda") => AnsiColor::Green,
        (_, "events" | "pipes") => AnsiColor::Cyan,
        (_, "states") => AnsiColor::BrightBlue,
        _ => AnsiColor::White,
    };
    colour.on_default()
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let service = if fields.service.is_empty() { event.metadata().target() } else { &fields.service };
        let style = if self.colours { colour(service, level) } else { Style::new() };
        let time = jiff::Timestamp::now().strftime("%H:%M:%S%.3f");
        let Fields { resource, message, rest, .. } = &fields;
        writeln!(out, "{time} {style}{service:<11}{style:#} {resource:<43} {message}{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
