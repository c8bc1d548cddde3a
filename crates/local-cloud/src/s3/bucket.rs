//! `AWS::S3::Bucket`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::resource::{Refusal, Resource};

/// What has no effect here: who may read is AWS's to see to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bucket {
    #[serde(rename = "BucketName")]
    _bucket_name: Option<String>,
    #[serde(rename = "PublicAccessBlockConfiguration")]
    _public_access: Option<Value>,
    #[serde(default)]
    bucket_encryption: Encryption,
    #[serde(rename = "Tags")]
    _tags: Option<Value>,
}

/// Every object says that it is encrypted with AES256, so that is the one that can be asked for.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Encryption {
    server_side_encryption_configuration: Vec<EncryptionRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct EncryptionRule {
    server_side_encryption_by_default: ByDefault,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByDefault {
    #[serde(rename = "SSEAlgorithm")]
    algorithm: String,
}

/// Deploys a bucket.
///
/// # Errors
/// Names what is not emulated.
pub async fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    if resource.kind != "AWS::S3::Bucket" {
        return Err(resource.refuse("Type", format!("{} is not emulated", resource.kind)));
    }
    let bucket: Bucket = resource.read()?;
    for rule in bucket.bucket_encryption.server_side_encryption_configuration {
        let algorithm = rule.server_side_encryption_by_default.algorithm;
        if algorithm != "AES256" {
            return Err(
                resource.refuse("Properties.BucketEncryption", format!("{algorithm} is not emulated"))
            );
        }
    }
    super::create_bucket(cloud, &resource.physical_id)
        .map_err(|error| resource.refuse("Properties", error.to_string()))?;
    Ok(())
}
