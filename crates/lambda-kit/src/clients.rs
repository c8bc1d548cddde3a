//! The SDK configuration of all functions: credentials from the environment, where Lambda sets them, and
//! one HTTPS client on rustls with ring.
//!
//! The SDK's default is aws-lc. Ring needs about 1 ms of CPU for its entropy at the first connection,
//! aws-lc about 23 ms, which every cold start would pay. In return, there is no post-quantum key exchange
//! and no FIPS.
//!
//! The configuration is built here, not loaded by aws-config: its chain of providers would add profiles,
//! STS and the metadata services of EC2 and ECS to every function. Lambda sets all that is needed in four
//! variables.
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, TlsContext, rustls_provider::CryptoMode};

use crate::config::ConfigError;
use crate::{CallError, roots};

/// To connect takes about 10 ms inside a region; after this time the SDK tries again.
const CONNECT: Duration = Duration::from_millis(500);

/// A call takes about 10 ms; after this time the SDK tries again.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Enough for three attempts with their pauses, and well below every function's timeout: a call that hangs
/// fails its message, not the whole invocation.
pub const OPERATION: Duration = Duration::from_secs(5);

/// The shared configuration. Region, endpoint and credentials come from the environment. A call has three
/// attempts, each with a timeout, and 5 seconds in all.
///
/// # Errors
/// When `AWS_CA_BUNDLE` names a file that is not a bundle of certificates.
pub fn from_env() -> Result<SdkConfig, ConfigError> {
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    let variable = |name: &str| std::env::var(name).ok();
    Ok(configuration(variable("AWS_REGION"), variable("AWS_ENDPOINT_URL"), credentials, roots::from_env()?))
}

/// Opens the connection while the function starts, so that the first event need not wait for it. `read`
/// reads a key that no item has. A failure is only logged: if it persists, the first event fails with its
/// cause.
pub async fn warm_up<T>(read: impl Future<Output = Result<T, CallError>>) {
    if let Err(cause) = read.await {
        tracing::warn!(%cause, "the table could not be reached at start");
    }
}

fn configuration(
    region: Option<String>,
    endpoint: Option<String>,
    credentials: SharedCredentialsProvider,
    tls: TlsContext,
) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(credentials)
        // The SDK's default first pause of up to a second would use too much of the operation's time.
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
    use std::time::Instant;

    use aws_credential_types::Credentials;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    use super::*;

    const ANSWER: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 2\r\n\r\n{}";

    fn credentials() -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "test"))
    }

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
            connection.write_all(ANSWER.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let roots = roots::from_bundle(None).unwrap();
        let config = configuration(Some("us-east-1".into()), Some(endpoint), credentials(), roots);
        let begun = Instant::now();
        let tables = aws_sdk_dynamodb::Client::new(&config).list_tables().send().await;
        tables.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    /// A server whose certificate chains to a root that is not Amazon's: its address, and that root.
    async fn server_of_another_root() -> (String, String) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let name = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = name.signed_by(&key, &authority).unwrap();
        let server = ServerConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let server = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let Ok(mut connection) = server.accept(connection).await else { continue };
                let _ = connection.read(&mut [0; 4096]).await.unwrap();
                connection.write_all(ANSWER.as_bytes()).await.unwrap();
            }
        });
        (endpoint, authority.pem())
    }

    #[tokio::test]
    async fn only_amazons_roots_are_trusted_unless_a_bundle_replaces_them() {
        let (endpoint, root) = server_of_another_root().await;
        let bundle = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(bundle.path(), root).unwrap();
        for (path, trusted) in [(None, false), (Some(bundle.path()), true)] {
            let roots = roots::from_bundle(path).unwrap();
            let config =
                configuration(Some("us-east-1".into()), Some(endpoint.clone()), credentials(), roots);
            let answer = aws_sdk_dynamodb::Client::new(&config).list_tables().send().await;
            assert_eq!(answer.is_ok(), trusted, "{path:?}: {answer:?}");
            if let Err(error) = answer {
                let text = format!("{:?}", error.into_source().unwrap());
                assert!(text.contains("UnknownIssuer"), "{text}");
            }
        }
    }
}
