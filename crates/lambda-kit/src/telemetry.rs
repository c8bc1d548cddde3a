//! JSON logs on standard output, one object a line, with the fields of the current spans
//! (request id, command id, property id). No log line carries a seller's name or a task token.

use tracing::level_filters::STATIC_MAX_LEVEL;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Installs the subscriber; `RUST_LOG` or, as Lambda sets it, `AWS_LAMBDA_LOG_LEVEL` choose the
/// level, for all or by target (`info,hyper=warn`). What is shipped has no lines below INFO (see
/// `Cargo.toml`), and says so to whoever asks for them.
pub fn init() {
    let level = ["RUST_LOG", "AWS_LAMBDA_LOG_LEVEL"].into_iter().find_map(|name| std::env::var(name).ok());
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false);
    let levels = levels(level.as_deref());
    let asked = levels.default_level();
    tracing_subscriber::registry().with(lines).with(levels).init();
    if asked.is_some_and(|asked| asked > STATIC_MAX_LEVEL) {
        tracing::warn!(most = %STATIC_MAX_LEVEL, "lines below this level are not compiled in");
    }
}

/// What is logged. Not an `EnvFilter`, whose regular expressions nobody needs here: they are
/// 3 % of a function's zip.
fn levels(level: Option<&str>) -> Targets {
    match level {
        // Lambda has a level above all of ours.
        // https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
        Some(fatal) if fatal.eq_ignore_ascii_case("fatal") => Targets::new().with_default(LevelFilter::ERROR),
        Some(level) => level.parse().unwrap_or_else(|_| levels(None)),
        None => Targets::new().with_default(LevelFilter::INFO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
