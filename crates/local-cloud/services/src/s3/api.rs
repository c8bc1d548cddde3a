//! The actions that Step Functions calls with JSON; bodies are base64. Over HTTP, the endpoint speaks S3's
//! own protocol.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::api::{read, token, with_token};
use cloud_core::calls::Permission;
use cloud_core::clock::rfc3339_seconds;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::list::{Listing, list, position};
use super::store::{Info, Upload, delete, get, head, put};

/// The code for a bad parameter.
const INVALID: &str = "InvalidArgument";

pub(super) const ACTIONS: &[Action] = &[
    Action::new("HeadObject", |cloud, input| {
        let ObjectName { bucket, key } = read(input, INVALID)?;
        Ok(description(&head(cloud, &bucket, &key)?))
    })
    .needs(get_object),
    Action::new("GetObject", |cloud, input| {
        let ObjectName { bucket, key } = read(input, INVALID)?;
        let (info, body) = get(cloud, &bucket, &key)?;
        let mut answer = description(&info);
        answer["Body"] = STANDARD.encode(body).into();
        Ok(answer)
    })
    .needs(of_resource),
    Action::new("PutObject", |cloud, input| put_object(cloud, read(input, INVALID)?)).needs(of_resource),
    Action::new("DeleteObject", |cloud, input| {
        let ObjectName { bucket, key } = read(input, INVALID)?;
        delete(cloud, &bucket, &key).map(|()| json!({}))
    })
    .needs(of_resource),
    Action::new("ListObjectsV2", |cloud, input| list_objects(cloud, read(input, INVALID)?))
        .needs(list_bucket),
];

fn of_resource(_: &Cloud, request: Request<'_>) -> Vec<Permission> {
    match (request.text("Bucket"), request.text("Key")) {
        (Some(bucket), Some(key)) => request.own(format!("arn:aws:s3:::{bucket}/{key}")),
        (Some(bucket), None) => request.own(format!("arn:aws:s3:::{bucket}")),
        _ => request.own("*"),
    }
}

/// HeadObject needs the permission of GetObject, and ListObjectsV2 that of ListBucket.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html#API_HeadObject_RequestSyntax>
fn get_object(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    of_resource(cloud, Request { action: "GetObject", ..request })
}

fn list_bucket(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    of_resource(cloud, Request { action: "ListBucket", ..request })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ObjectName {
    bucket: String,
    key: String,
}

fn description(info: &Info) -> Value {
    json!({
        "ContentLength": info.size,
        "ContentType": info.content_type(),
        "ETag": info.etag,
        "LastModified": rfc3339_seconds(info.modified_ms),
        "Metadata": info.metadata,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PutObject {
    bucket: String,
    key: String,
    #[serde(default)]
    body: String,
    content_type: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

fn put_object(cloud: &Cloud, object: PutObject) -> Result<Value, AwsError> {
    let body = STANDARD
        .decode(&object.body)
        .map_err(|error| AwsError::client(INVALID, format!("Body is not base64: {error}")))?;
    let headers = object.content_type.map(|kind| ("content-type".to_string(), kind.into()));
    let (headers, metadata) = (headers.into_iter().collect(), object.metadata);
    let upload = Upload { body: body.into(), headers, metadata, only_new: false };
    let info = put(cloud, &object.bucket, &object.key, &upload)?;
    Ok(json!({"ETag": info.etag}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListObjects {
    bucket: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    delimiter: String,
    start_after: Option<String>,
    continuation_token: Option<String>,
    max_keys: Option<usize>,
}

fn list_objects(cloud: &Cloud, input: ListObjects) -> Result<Value, AwsError> {
    let after = match &input.continuation_token {
        Some(token) => position(token)?,
        None => input.start_after.unwrap_or_default(),
    };
    let max_keys = input.max_keys.unwrap_or(1000).min(1000);
    let wanted = Listing { prefix: input.prefix, delimiter: input.delimiter, after, max_keys };
    let page = list(cloud, &input.bucket, &wanted)?;
    let object = |info: &Info| {
        json!({
            "Key": info.key,
            "Size": info.size,
            "ETag": info.etag,
            "LastModified": rfc3339_seconds(info.modified_ms),
            "StorageClass": "STANDARD",
        })
    };
    let answer = json!({
        "Name": input.bucket,
        "Prefix": wanted.prefix,
        "MaxKeys": max_keys,
        "KeyCount": page.objects.len() + page.prefixes.len(),
        "IsTruncated": page.next.is_some(),
        "Contents": page.objects.iter().map(object).collect::<Vec<_>>(),
        "CommonPrefixes": page.prefixes.iter().map(|prefix| json!({"Prefix": prefix})).collect::<Vec<_>>(),
    });
    Ok(with_token(answer, "NextContinuationToken", page.next.map(|next| token(&next))))
}
