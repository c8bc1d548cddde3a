//! The SDK configuration that all functions share: credentials from the environment, as
//! Lambda gives them, and one HTTPS client on rustls with ring.
//!
//! Ring, and not the SDK's default aws-lc: its entropy costs about 1 ms of CPU at the first
//! connection against about 23 ms, which is what a cold start is made of. Post-quantum key
//! exchange and FIPS are given up for it.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// Loads the shared configuration: region, endpoint and credentials come from the
/// environment; three attempts a call, 3 seconds in all.
pub async fn load() -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        // Well below every function's own timeout, so that a hanging call fails its message and
        // not the whole invocation.
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(3)).build())
        .load()
        .await
}
