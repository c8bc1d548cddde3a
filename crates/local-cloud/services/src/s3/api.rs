//! S3's actions as JSON, in the members of its API reference: how Step Functions calls
//! them. Bytes are base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Info, Listing, Upload, delete, encode, get, head, list, put};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ObjectName {
    bucket: String,
    key: String,
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

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| AwsError::client("InvalidArgument", error.to_string()))
}

fn description(info: &Info) -> Value {
    json!({
        "ContentLength": info.size,
        "ContentType": info.content_type(),
        "ETag": info.etag,
        "LastModified": time(info.modified_ms),
        "Metadata": info.metadata,
    })
}

/// Milliseconds since the epoch in RFC 3339.
fn time(ms: i64) -> String {
    format!("{:.0}", jiff::Timestamp::from_millisecond(ms).unwrap_or_default())
}

fn put_object(cloud: &Cloud, object: PutObject) -> Result<Value, AwsError> {
    let body = STANDARD
        .decode(&object.body)
        .map_err(|error| AwsError::client("InvalidArgument", format!("Body is not base64: {error}")))?;
    let headers = object.content_type.map(|kind| ("content-type".to_string(), kind.into()));
    let upload = Upload {
        body: body.into(),
        headers: headers.into_iter().collect(),
        metadata: object.metadata,
        only_new: false,
    };
    let info = put(cloud, &object.bucket, &object.key, &upload)?;
    Ok(json!({"ETag": info.etag}))
}

fn list_objects(cloud: &Cloud, wanted: ListObjects) -> Result<Value, AwsError> {
    let after = match &wanted.continuation_token {
        Some(token) => position(token)?,
        None => wanted.start_after.clone().unwrap_or_default(),
    };
    let max_keys = wanted.max_keys.unwrap_or(1000).min(1000);
    let listing = Listing { prefix: wanted.prefix, delimiter: wanted.delimiter, after, max_keys };
    let page = list(cloud, &wanted.bucket, &listing)?;
    let contents: Vec<Value> = page
        .objects
        .iter()
        .map(|info| {
            json!({
                "Key": info.key,
                "Size": info.size,
                "ETag": info.etag,
                "LastModified": time(info.modified_ms),
                "StorageClass": "STANDARD",
            })
        })
        .collect();
    let mut answer = json!({
        "Name": wanted.bucket,
        "Prefix": listing.prefix,
        "MaxKeys": max_keys,
        "KeyCount": contents.len() + page.prefixes.len(),
        "IsTruncated": page.next.is_some(),
        "Contents": contents,
        "CommonPrefixes": page.prefixes.iter().map(|prefix| json!({"Prefix": prefix})).collect::<Vec<_>>(),
    });
    if let Some(next) = page.next {
        answer["NextContinuationToken"] = encode(next.as_bytes()).into();
    }
    Ok(answer)
}

/// The key within a continuation token.
pub fn position(token: &str) -> Result<String, AwsError> {
    STANDARD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| AwsError::client("InvalidArgument", "The continuation token provided is incorrect"))
}

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] = &[
    Action::new("HeadObject", |cloud, input| {
        let object: ObjectName = read(input)?;
        Ok(description(&head(cloud, &object.bucket, &object.key)?))
    })
    .needs(get_object),
    Action::new("GetObject", |cloud, input| {
        let object: ObjectName = read(input)?;
        let (info, body) = get(cloud, &object.bucket, &object.key)?;
        let mut answer = description(&info);
        answer["Body"] = encode(&body).into();
        Ok(answer)
    })
    .needs(of_resource),
    Action::new("PutObject", |cloud, input| put_object(cloud, read(input)?)).needs(of_resource),
    Action::new("DeleteObject", |cloud, input| {
        let object: ObjectName = read(input)?;
        delete(cloud, &object.bucket, &object.key)?;
        Ok(json!({}))
    })
    .needs(of_resource),
    Action::new("ListObjectsV2", |cloud, input| list_objects(cloud, read(input)?)).needs(list_bucket),
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
