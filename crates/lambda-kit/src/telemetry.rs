//! JSON logs on standard output. A line is one object, with the fields of all spans around it (request id,
//! command id, property id). No log line contains a seller's name or a task token.

use tracing::level_filters::STATIC_MAX_LEVEL;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Installs the subscriber. `RUST_LOG` or `AWS_LAMBDA_LOG_LEVEL`, which Lambda sets, choose the level: one
/// for all, or by target (`info,hyper=warn`). A release build has no lines below INFO (see `Cargo.toml`);
/// it logs a warning if the level asks for them.
pub fn init() {
    let level = ["RUST_LOG", "AWS_LAMBDA_LOG_LEVEL"].into_iter().find_map(|name| std::env::var(name).ok());
    let levels = levels(level.as_deref());
    let asked = levels.default_level();
    tracing_subscriber::registry().with(lines(std::io::stdout)).with(levels).init();
    if asked.is_some_and(|asked| asked > STATIC_MAX_LEVEL) {
        tracing::warn!(most = %STATIC_MAX_LEVEL, "lines below this level are not compiled in");
    }
}

/// One JSON object per line, with all spans from the outside in: the runtime's span, which has the request
/// id, is around those of commands and events.
fn lines<S, W>(output: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .with_writer(output)
}

/// The levels to log. An `EnvFilter` is not needed: its regular expressions are 3 % of a function's zip.
fn levels(level: Option<&str>) -> Targets {
    match level {
        // Lambda has a level above ERROR:
        // https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
        Some(fatal) if fatal.eq_ignore_ascii_case("fatal") => Targets::new().with_default(LevelFilter::ERROR),
        Some(level) => level.parse().unwrap_or_else(|_| levels(None)),
        None => Targets::new().with_default(LevelFilter::INFO),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Lines inside the span of a command lacked the request id.
    #[test]
    fn a_line_has_the_fields_of_all_spans_around_it() {
        #[derive(Clone, Default)]
        struct Output(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Output {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let output = Output::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::registry().with(lines(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let invocation = tracing::info_span!("Lambda runtime invoke", requestId = "r-1").entered();
            let command = tracing::info_span!("command", command_id = "c-1").entered();
            tracing::info!(status = "APPLIED", "command settled");
            drop((command, invocation));
        });
        let line: serde_json::Value = serde_json::from_slice(&output.0.lock().unwrap()).unwrap();
        assert_eq!((&line["message"], &line["status"]), (&"command settled".into(), &"APPLIED".into()));
        assert_eq!(line["spans"][0]["requestId"], "r-1");
        assert_eq!(line["spans"][1]["command_id"], "c-1");
    }

    #[test]
    fn lambdas_levels_and_those_of_rust_are_understood() {
        for (given, level) in [
            (None, LevelFilter::INFO),
            (Some("DEBUG"), LevelFilter::DEBUG),
            (Some("warn"), LevelFilter::WARN),
            (Some("FATAL"), LevelFilter::ERROR),
            (Some("info,hyper=warn,=x"), LevelFilter::INFO),
        ] {
            assert_eq!(levels(given).default_level(), Some(level), "{given:?}");
        }
        assert!(!levels(Some("info,hyper=warn")).would_enable("hyper::client", &tracing::Level::INFO));
    }
}
