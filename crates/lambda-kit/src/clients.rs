//! The SDK configuration that all functions share: credentials from the environment, as
//! Lambda gives them, and one HTTPS client on rustls with ring.
//!
//! Ring, and not the SDK's default aws-lc: its entropy costs about 1 ms of CPU at the first
//! connection against about 23 ms, which is what a cold start is made of. Post-quantum key
//! exchange and FIPS are given up for it.
//!
//! Built here, and not loaded by aws-config: its chain of providers would bring profiles, STS and
//! the metadata of EC2 and ECS into every function, for what Lambda says in four variables.
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// Connecting takes some 10 ms inside a region; one that takes longer is tried anew.
const CONNECT: Duration = Duration::from_millis(500);

/// A call takes some 10 ms; one that stalls leaves time for the next attempt.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Three attempts with their pauses, well below every function's own timeout, so that a hanging
/// call fails its message and not the whole invocation.
pub const OPERATION: Duration = Duration::from_secs(5);

/// The shared configuration: region, endpoint and credentials come from the environment; three
/// attempts a call, each with a timeout of its own, 5 seconds in all.
pub fn of_environment() -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(credentials)
        // The SDK's own first pause of up to a second would use up the operation's time.
        .retry_config(
            RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(100)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION)
                .build(),
        );
    config.set_region(std::env::var("AWS_REGION").ok().map(Region::new));
    config.set_endpoint_url(std::env::var("AWS_ENDPOINT_URL").ok());
    config.build()
}
