//! Finds a deployed stack, on AWS or on the local cloud, with the user's credentials. An error is one sentence
//! that says what to do.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use anyhow::{Context, anyhow};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_cloudformation::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use local_cloud::up::Addresses;

/// The time limit for a connection, and for an answer: API Gateway itself gives up after 29 s.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html>
const PATIENCE: Duration = Duration::from_secs(30);

/// A CloudFormation stack.
#[derive(Debug, Clone)]
pub struct Stack {
    pub name: String,
    /// The configuration for calls to AWS in its region.
    pub config: SdkConfig,
    status: String,
    outputs: BTreeMap<String, String>,
}

impl Stack {
    /// Asks CloudFormation for the stack.
    pub async fn find(name: &str, config: SdkConfig) -> anyhow::Result<Self> {
        let asked = aws_sdk_cloudformation::Client::new(&config).describe_stacks().stack_name(name).send();
        let found = match asked.await {
            Ok(answer) => answer.stacks.unwrap_or_default().pop(),
            // CloudFormation has no error code for a stack that does not exist.
            // https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
            Err(error) if error.message().is_some_and(|text| text.contains("does not exist")) => None,
            Err(error) => return Err(failure(&format!("read the stack {name}"), &error)),
        };
        let place = place(&config);
        let found = found.with_context(|| {
            format!("there is no stack {name} in {place}; name another one with --stage or --stack-name, or deploy it")
        })?;
        let outputs = found.outputs.unwrap_or_default().into_iter();
        Ok(Self {
            name: name.to_owned(),
            config,
            status: found.stack_status.map(|status| status.to_string()).unwrap_or_default(),
            outputs: outputs.filter_map(|output| Some((output.output_key?, output.output_value?))).collect(),
        })
    }

    /// An output; a stack that is being created has none yet.
    pub fn output(&self, key: &str) -> anyhow::Result<&str> {
        let value = self.outputs.get(key).map(String::as_str);
        value.with_context(|| format!("the stack {} ({}) has no output {key}", self.name, self.status))
    }
}

/// Finds credentials, region and endpoint as every AWS tool does: environment, profile, SSO, credential
/// process, assumed role, role of the machine.
pub async fn from_env() -> anyhow::Result<SdkConfig> {
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(https()).load().await;
    if config.region().is_none() {
        return Err(anyhow!("no AWS region is chosen; set AWS_REGION, or the region of your profile"));
    }
    // Checked here, because a call without credentials fails with an unclear message of the SDK.
    let none =
        "there are no AWS credentials; choose a profile with AWS_PROFILE, sign in, or set AWS_ACCESS_KEY_ID";
    let provider = config.credentials_provider().context(none)?;
    provider.provide_credentials().await.map_err(|error| match error {
        CredentialsError::CredentialsNotLoaded(_) => anyhow!(none),
        error => anyhow!("cannot get the AWS credentials: {}", causes(&error)),
    })?;
    Ok(config)
}

/// The configuration for calls to the local cloud, independent of the environment.
pub fn of_local_cloud(addresses: &Addresses) -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "the local cloud");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(https())
        .region(Region::new(addresses.region.clone()))
        .endpoint_url(&addresses.endpoint_url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// The HTTPS client for all calls to AWS: rustls with ring, as in the functions.
fn https() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The same for servers outside AWS's services, such as our own API.
pub fn connector() -> SharedHttpConnector {
    let settings = HttpConnectorSettings::builder();
    let connector =
        aws_smithy_http_client::Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let settings = settings.connect_timeout(PATIENCE).read_timeout(PATIENCE).build();
    SharedHttpConnector::new(connector.connector_settings(settings).build())
}

/// The destination of calls: the region, and the endpoint if it is not AWS's own.
pub fn place(config: &SdkConfig) -> String {
    let region = config.region().map(ToString::to_string).unwrap_or_default();
    match config.endpoint_url() {
        Some(endpoint) => format!("{region} at {endpoint}"),
        None => region,
    }
}

/// The error of a call to AWS in one sentence; `what` is an infinitive such as "read the stack".
///
/// Codes: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
pub fn failure<E: ProvideErrorMetadata + Error + 'static>(what: &str, error: &SdkError<E>) -> anyhow::Error {
    let message = error.message().map_or_else(|| causes(error), str::to_owned);
    // An answer to HEAD has no body, and so no code.
    let forbidden = error.raw_response().is_some_and(|answer| answer.status().as_u16() == 403);
    match error.code() {
        _ if matches!(error, SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)) => {
            anyhow!("cannot {what}, because AWS cannot be reached: {message}")
        }
        Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired") => {
            anyhow!("the AWS credentials have expired; sign in again")
        }
        Some(
            "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch",
        ) => anyhow!("AWS does not accept these credentials: {message}"),
        Some("AccessDenied" | "AccessDeniedException") => {
            anyhow!("these credentials may not {what}: {message}")
        }
        None if forbidden => anyhow!("these credentials may not {what}"),
        Some(code) => anyhow!("cannot {what}: {code}: {message}"),
        None => anyhow!("cannot {what}: {message}"),
    }
}

/// An error and its causes, each once, in one line.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |error| Error::source(*error)) {
        let words = cause.to_string();
        if !said.iter().any(|before| before.contains(&words)) {
            said.push(words);
        }
    }
    said.join(": ").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::error::ErrorMetadata;
    use aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksError;
    use aws_smithy_runtime_api::http::{Response, StatusCode};

    use super::*;

    fn refused(code: Option<&str>, status: u16) -> String {
        let mut metadata = ErrorMetadata::builder().message("Because.");
        if let Some(code) = code {
            metadata = metadata.code(code);
        }
        let answer = Response::new(StatusCode::try_from(status).unwrap(), "".into());
        let error = SdkError::service_error(DescribeStacksError::generic(metadata.build()), answer);
        failure("read the stack s", &error).to_string()
    }

    #[test]
    fn what_aws_refuses_is_told_by_what_the_user_does_next() {
        assert_eq!(refused(Some("ExpiredToken"), 403), "the AWS credentials have expired; sign in again");
        for code in ["InvalidClientTokenId", "SignatureDoesNotMatch"] {
            assert_eq!(refused(Some(code), 403), "AWS does not accept these credentials: Because.");
        }
        let denied = "these credentials may not read the stack s";
        assert_eq!(refused(Some("AccessDenied"), 403), format!("{denied}: Because."));
        assert_eq!(refused(None, 403), denied);
        assert_eq!(refused(Some("Throttling"), 400), "cannot read the stack s: Throttling: Because.");
        assert_eq!(refused(None, 500), "cannot read the stack s: Because.");
    }
}
