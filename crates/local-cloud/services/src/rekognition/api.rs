//! The API action.

use std::sync::Arc;

use cloud_core::api::{Unread, missing, read_or, violated};
use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Value, json};

use super::judge::judge;

pub(super) const ACTIONS: &[Action] =
    &[Action::later("DetectModerationLabels", later!(detect_moderation_labels))];

/// Labels with less confidence are left out if the request gives no `MinConfidence`.
/// <https://docs.aws.amazon.com/rekognition/latest/APIReference/API_DetectModerationLabels.html>
const DEFAULT_MIN_CONFIDENCE: f64 = 50.0;

/// Rekognition's sentence for parameters that cannot be used together.
pub(super) const INVALID_PARAMETERS: &str = "Request has invalid parameters";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct DetectModerationLabels {
    image: Option<Image>,
    min_confidence: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Image {
    s3_object: Option<S3Object>,
    bytes: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct S3Object {
    bucket: Option<String>,
    name: Option<String>,
}

fn invalid_parameter(message: &str) -> AwsError {
    AwsError::client("InvalidParameterException", message)
}

impl DetectModerationLabels {
    pub(super) fn read(input: Value) -> Result<Self, AwsError> {
        let request: Self = read_or(input, |unread| match unread {
            Unread::Malformed(text) => invalid_parameter(&format!("{INVALID_PARAMETERS}: {text}")),
            other => other.refused("InvalidParameterException"),
        })?;
        let least = request.least();
        let constraint = match least {
            _ if request.image.is_none() => return Err(missing("image")),
            ..0.0 => "Member must have value greater than or equal to 0",
            0.0..=100.0 => return Ok(request),
            _ => "Member must have value less than or equal to 100",
        };
        Err(violated(format!("{least:?}"), "minConfidence", constraint))
    }

    pub(super) fn least(&self) -> f64 {
        self.min_confidence.unwrap_or(DEFAULT_MIN_CONFIDENCE)
    }

    /// Bucket and key of the image.
    fn object(&self) -> Result<(&str, &str), AwsError> {
        if self.image.as_ref().is_some_and(|image| image.bytes.is_some()) {
            return Err(invalid_parameter("Image.Bytes is not emulated by the local cloud; use S3Object"));
        }
        let object = self.image.as_ref().and_then(|image| image.s3_object.as_ref());
        object
            .and_then(|object| Some((object.bucket.as_deref()?, object.name.as_deref()?)))
            .ok_or_else(|| invalid_parameter(INVALID_PARAMETERS))
    }
}

async fn detect_moderation_labels(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let request = DetectModerationLabels::read(input)?;
    let (bucket, name) = request.object()?;
    let object = cloud
        .call("s3", "GetObject", json!({"Bucket": bucket, "Key": name}))
        .await
        .map_err(|error| unreadable(&error))?;
    let answer = judge(name, &object, request.least())?;
    let labels = answer["ModerationLabels"].as_array().map_or(0, Vec::len);
    tracing::info!(target: "hop", service = "rekognition", resource = %name, labels, "image judged");
    Ok(answer)
}

/// Rekognition answers the same for a missing object and for a forbidden one.
pub(super) fn unreadable(error: &AwsError) -> AwsError {
    if error.is_server_fault() {
        return AwsError::new(500, "InternalServerError", error.to_string());
    }
    AwsError::client(
        "InvalidS3ObjectException",
        "Unable to get object metadata from S3. Check object key, region and/or access permissions.",
    )
}
