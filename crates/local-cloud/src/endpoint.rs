//! The AWS endpoint: one HTTP port that speaks the protocols of all emulated services
//! (JSON 1.0 and 1.1, query, REST) to SDKs and to the AWS command line.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::error::AwsError;

/// Calls an action of a service by the service's name in ARNs and SDKs (`sqs`, `events`,
/// `dynamodb`, `lambda`, ...): the one door through which services call each other.
///
/// # Errors
/// The service's own error, or `NotImplemented`.
pub fn call<'a>(
    cloud: &'a Arc<Cloud>,
    service: &'a str,
    action: &'a str,
    input: Value,
) -> BoxFuture<'a, Result<Value, AwsError>> {
    // Boxed, since services call each other in circles.
    Box::pin(async move { dispatch(cloud, service, action, input).await })
}

async fn dispatch(cloud: &Arc<Cloud>, service: &str, action: &str, input: Value) -> Result<Value, AwsError> {
    match service {
        "cloudformation" => crate::cloudformation::call(cloud, action, input).await,
        "comprehend" => crate::comprehend::call(cloud, action, input).await,
        "dynamodb" | "streams.dynamodb" => crate::dynamodb::call(cloud, action, input).await,
        "events" => crate::eventbridge::call(cloud, action, input).await,
        "lambda" => crate::lambda::call(cloud, action, input).await,
        "logs" => crate::logs::call(cloud, action, input).await,
        "pipes" => crate::pipes::call(cloud, action, input).await,
        "rekognition" => crate::rekognition::call(cloud, action, input).await,
        "s3" => crate::s3::call(cloud, action, input).await,
        "schemas" => crate::schemas::call(cloud, action, input).await,
        "sqs" => crate::sqs::call(cloud, action, input).await,
        "ssm" => crate::ssm::call(cloud, action, input).await,
        "states" => crate::stepfunctions::call(cloud, action, input).await,
        other => Err(AwsError::not_emulated(other, action)),
    }
}
