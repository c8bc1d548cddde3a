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
            "resource" => self.resource = value.to_owned(),
            "message" => self.message = value.to_owned(),
            name => self.other(name, format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "service" => self.service = format!("{value:?}"),
            "resource" => self.resource = format!("{value:?}"),
            "message" => self.message = format!("{value:?}"),
            name => self.other(name, format_args!("{value:?}")),
        }
    }
}

impl Fields {
    fn other(&mut self, name: &str, value: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = write!(self.rest, " {name}={value}");
    }
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
        writeln!(out, "{time} {style}{service:<10}{style:#} {resource}  {message}{rest}")
    }
}
