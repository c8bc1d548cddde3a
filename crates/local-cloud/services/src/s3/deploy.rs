//! `AWS::S3::Bucket`.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type, unless_missing};
use cloud_core::{AwsError, Cloud, later};
use serde::Deserialize;
use serde_json::{Value, json};

use super::store;

#[rustfmt::skip]
pub(crate) const TYPES: &[Type] = &[
    Type::new("AWS::S3::Bucket", "objects can be put, copied, read, listed and deleted; nothing else",
        Identity::named("BucketName", 63)
            .arn("arn:aws:s3:::{name}")
            .attributes(&[Identity::ARN, ("DomainName", "{name}.s3.amazonaws.com"), ("RegionalDomainName", "{name}.s3.{region}.amazonaws.com")]).lower_case(),
        Deploy::Now(deploy)).holds(later!(objects))
        .remove(|cloud, bucket| { Box::pin(async move { store::delete_bucket(cloud, bucket.name()).map(|()| true) }) })
        .approximated(),
    Type::inert("AWS::S3::BucketPolicy", "permissions are not enforced here",
        Identity::NAME.reference("{:Bucket}"),
        &["Bucket", "PolicyDocument"]),
];

/// The members with an underscore have no effect: permissions are not enforced.
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

/// Only AES256 can be chosen, because every object says that it is encrypted with it.
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

fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let bucket: Bucket = resource.read()?;
    let rules = bucket.bucket_encryption.server_side_encryption_configuration;
    let algorithms = rules.into_iter().map(|rule| rule.server_side_encryption_by_default.algorithm);
    if let Some(other) = algorithms.into_iter().find(|algorithm| algorithm != "AES256") {
        return Err(resource.refuse("Properties.BucketEncryption", format!("{other} is not emulated")));
    }
    store::create_bucket(cloud, &resource.physical_id)
        .map_err(|error| resource.refuse("Properties", error.to_string()))
}

async fn objects(cloud: &Arc<Cloud>, bucket: &Named) -> Result<Option<String>, AwsError> {
    let input = json!({"Bucket": bucket.name(), "MaxKeys": 1});
    let found = unless_missing(cloud.call("s3", "ListObjectsV2", input).await)?;
    let any = found["Contents"].as_array().is_some_and(|objects| !objects.is_empty());
    Ok(any.then(|| "objects".into()))
}
