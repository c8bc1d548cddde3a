//! `AWS::S3::Bucket`.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Value, json};

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
fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
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

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::S3::Bucket", "objects can be put, copied, read, listed and deleted; nothing else",
        Identity::named("BucketName", 63)
            .arn("arn:aws:s3:::{name}")
            .attributes(&[Identity::ARN, ("DomainName", "{name}.s3.amazonaws.com"), ("RegionalDomainName", "{name}.s3.{region}.amazonaws.com")]).lower_case(),
        Deploy::Now(deploy)).holds(later!(objects))
        .remove(|cloud, bucket| { Box::pin(async move { super::delete_bucket(cloud, bucket.name()).map(|()| true) }) })
        .approximated(),
    Type::inert("AWS::S3::BucketPolicy", "permissions are not enforced here",
        Identity::NAME.reference("{:Bucket}"),
        &["Bucket", "PolicyDocument"]),
];

async fn objects(cloud: &Arc<Cloud>, bucket: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"Bucket": bucket.name(), "MaxKeys": 1});
    let found = unless_missing(cloud.call("s3", "ListObjectsV2", input).await)?;
    let any = found["Contents"].as_array().is_some_and(|objects| !objects.is_empty());
    Ok(any.then(|| "objects".into()))
}
