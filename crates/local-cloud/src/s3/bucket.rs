//! `AWS::S3::Bucket`.

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
    #[serde(rename = "Tags")]
    _tags: Option<Value>,
}

/// Deploys a bucket.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    if resource.kind != "AWS::S3::Bucket" {
        return Err(resource.refuse("Type", format!("{} is not emulated", resource.kind)));
    }
    resource.read::<Bucket>()?;
    super::create_bucket(cloud, &resource.physical_id)
        .map_err(|error| resource.refuse("Properties", error.to_string()))?;
    Ok(())
}
