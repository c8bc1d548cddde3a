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
pub fn from_env() -> SdkConfig {
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    let variable = |name: &str| std::env::var(name).ok();
    configuration(variable("AWS_REGION"), variable("AWS_ENDPOINT_URL"), credentials)
}

fn configuration(
    region: Option<String>,
    endpoint: Option<String>,
    credentials: SharedCredentialsProvider,
) -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
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
    config.set_region(region.map(Region::new));
    config.set_endpoint_url(endpoint);
    config.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use aws_credential_types::Credentials;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// One stalled connection used up a call's whole time.
    #[tokio::test]
    async fn a_stalled_connection_costs_one_attempt_and_not_the_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (_stalled, _) = listener.accept().await.unwrap();
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await.unwrap();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 2\r\n\r\n{}";
            connection.write_all(head.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let credentials = Credentials::new("local", "local", None, None, "test");
        let credentials = SharedCredentialsProvider::new(credentials);
        let config = configuration(Some("us-east-1".into()), Some(endpoint), credentials);
        let begun = Instant::now();
        let tables = aws_sdk_dynamodb::Client::new(&config).list_tables().send().await;
        tables.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
