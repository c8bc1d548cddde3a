//! `AWS::S3::Bucket` and `AWS::S3::BucketPolicy`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::resource::{Refusal, Resource};

/// No effect here, but for its name: who may read, how bytes are encrypted, how long they
/// are kept and where accesses are logged are AWS's to see to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bucket {
    #[serde(rename = "BucketName")]
    _bucket_name: Option<String>,
    #[serde(rename = "PublicAccessBlockConfiguration")]
    _public_access: Option<Value>,
    #[serde(rename = "BucketEncryption")]
    _encryption: Option<Value>,
    #[serde(rename = "OwnershipControls")]
    _ownership: Option<Value>,
    #[serde(rename = "LifecycleConfiguration")]
    _lifecycle: Option<Value>,
    #[serde(rename = "LoggingConfiguration")]
    _logging: Option<Value>,
    // The API of versions is refused; a GET answers with the newest, as on AWS.
    #[serde(rename = "VersioningConfiguration")]
    _versioning: Option<Value>,
    #[serde(rename = "Tags")]
    _tags: Option<Value>,
}

/// Nothing here checks who asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BucketPolicy {
    bucket: String,
    #[serde(rename = "PolicyDocument")]
    _policy_document: Value,
}

/// Deploys a bucket or its policy.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let refuse = |error: crate::error::AwsError| resource.refuse("Properties", error.to_string());
    match resource.kind.as_str() {
        "AWS::S3::Bucket" => {
            resource.read::<Bucket>()?;
            super::create_bucket(cloud, &resource.physical_id).map_err(refuse)?;
        }
        "AWS::S3::BucketPolicy" => {
            let policy: BucketPolicy = resource.read()?;
            super::check_bucket(cloud, &policy.bucket).map_err(refuse)?;
        }
        kind => return Err(resource.refuse("Type", format!("{kind} is not emulated"))),
    }
    Ok(())
}
