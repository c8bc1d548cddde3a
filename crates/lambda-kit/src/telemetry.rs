//! JSON logs on standard output, one object a line, with the fields of the current spans
//! (request id, command id, property id). No log line carries a seller's name or a task token.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber; `RUST_LOG` or, as Lambda sets it, `AWS_LAMBDA_LOG_LEVEL` choose the level.
pub fn init() {
    let level = ["RUST_LOG", "AWS_LAMBDA_LOG_LEVEL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "info".to_owned());
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(EnvFilter::new(level))
        .init();
}
