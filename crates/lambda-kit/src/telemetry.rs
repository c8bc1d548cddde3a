//! JSON logs on standard output, one object a line, with the fields of the current spans
//! (request id, command id, property id). No log line carries a seller's name or a task token.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Installs the subscriber; `RUST_LOG` or, as Lambda sets it, `AWS_LAMBDA_LOG_LEVEL` choose the level:
/// INFO or less, in what is shipped (see `Cargo.toml`).
pub fn init() {
    let level = ["RUST_LOG", "AWS_LAMBDA_LOG_LEVEL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "info".to_owned());
    // Not an EnvFilter: that brings regular expressions into every function, for directives on fields.
    let levels = level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().json();
    let lines = lines.flatten_event(true).with_current_span(true).with_span_list(false);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
