//! S3's REST with XML, path style and `bucket.localhost`.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>

mod answers;
mod checksum;
mod headers;
mod upload;

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use cloud_core::{AwsError, Cloud, api};
use cloud_services::s3;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::request::Request;
use super::response::set_header;
use super::xml;

pub(super) use answers::refuse;

/// Whether a parameter asks for more than the object or bucket itself. The SDKs' own note of the operation
/// does not, nor the signature (version 2 or 4) of a presigned address.
fn is_sub_resource(name: &str) -> bool {
    !matches!(name, "x-id" | "AWSAccessKeyId" | "Signature" | "Expires") && !name.starts_with("X-Amz-")
}

/// Whether the query string has sub-resources that are not among `known`.
fn asks_more(request: &Request, known: &[&str]) -> bool {
    request.query.iter().any(|(name, _)| is_sub_resource(name) && !known.contains(&name.as_str()))
}

fn not_emulated(request: &Request) -> AwsError {
    let names: Vec<&str> =
        request.query.iter().map(|(name, _)| name.as_str()).filter(|name| is_sub_resource(name)).collect();
    AwsError::not_emulated("s3", &format!("{} ?{}", request.method, names.join("&")))
}

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    record(cloud, request);
    let answered = expected_owner(cloud, request).and_then(|()| match request.bucket_and_key() {
        (None, _) => list_buckets(cloud, request),
        (Some(bucket), None) => of_bucket(cloud, request, &bucket),
        (Some(bucket), Some(key)) => of_object(cloud, request, &bucket, &key),
    });
    let mut response = answered.unwrap_or_else(|error| answers::refuse(request, &error));
    set_header(&mut response, "x-amz-request-id", &request.id);
    set_header(&mut response, "x-amz-id-2", &answers::host_id(request));
    response
}

/// Records the call under the permission of its method: no sub-resource has a permission of its own here.
fn record(cloud: &Cloud, request: &Request) {
    let (bucket, key) = request.bucket_and_key();
    let action = match (&request.method, key.is_some()) {
        (&Method::GET | &Method::HEAD, true) => "GetObject",
        (&Method::GET | &Method::HEAD, false) => "ListObjectsV2",
        (&Method::DELETE, true) => "DeleteObject",
        (_, true) => "PutObject",
        (method, false) => method.as_str(),
    };
    cloud.record("s3", action, &json!({ "Bucket": bucket, "Key": key }));
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html>
fn expected_owner(cloud: &Cloud, request: &Request) -> Result<(), AwsError> {
    let ours = |header: &str| request.header(header).is_none_or(|owner| owner == cloud.settings.account);
    match ours("x-amz-expected-bucket-owner") && ours("x-amz-source-expected-bucket-owner") {
        true => Ok(()),
        false => Err(AwsError::new(403, "AccessDenied", "Access Denied")),
    }
}

/// `aws s3 ls` pages, so pages are answered.
fn list_buckets(cloud: &Cloud, request: &Request) -> Result<Response, AwsError> {
    if request.method != Method::GET || asks_more(request, &["max-buckets", "continuation-token"]) {
        return Err(not_emulated(request));
    }
    let limit = match request.parameter("max-buckets").map(str::parse::<usize>) {
        None => 10_000,
        Some(Ok(limit @ 1..=10_000)) => limit,
        Some(_) => {
            let sentence = "Argument max-buckets must be an integer between 1 and 10000";
            return Err(AwsError::client("InvalidArgument", sentence));
        }
    };
    let after = request.parameter("continuation-token").map(s3::position).transpose()?;
    let buckets = s3::buckets(cloud)?.into_iter().map(|bucket| (bucket.0.clone(), bucket)).collect();
    let (buckets, next) = api::page(buckets, after.as_deref(), limit);
    Ok(answers::buckets(cloud, &buckets, next))
}

fn of_bucket(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    #[rustfmt::skip]
    const LISTING: [&str; 9] = [
        "list-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "continuation-token", "encoding-type",
        "fetch-owner",
    ];
    match request.method {
        Method::GET if !asks_more(request, &LISTING) => list_objects(cloud, request, bucket),
        Method::HEAD => {
            s3::check_bucket(cloud, bucket)?;
            let mut response = answers::empty(200);
            set_header(&mut response, "x-amz-bucket-region", &cloud.settings.region);
            Ok(response)
        }
        Method::PUT if !asks_more(request, &[]) => create_bucket(cloud, request, bucket),
        Method::DELETE if !asks_more(request, &[]) => {
            s3::delete_bucket(cloud, bucket)?;
            Ok(answers::empty(204))
        }
        Method::POST if request.parameter("delete").is_some() => delete_objects(cloud, request, bucket),
        _ => Err(not_emulated(request)),
    }
}

/// Creates a bucket in the region of the endpoint. In us-east-1, creating one's own bucket again is no
/// error. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html> (Errors)
fn create_bucket(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    headers::check(&request.headers)?;
    let (body, _) = upload::body_of(request)?;
    let document = std::str::from_utf8(&body).ok().and_then(xml::read);
    let region = document.as_ref().and_then(|document| document.child("LocationConstraint"));
    if let Some(other) = region.filter(|region| *region != cloud.settings.region) {
        let message = format!(
            "The {other} location constraint is incompatible for the region specific endpoint this request was sent to."
        );
        return Err(AwsError::client("IllegalLocationConstraintException", message));
    }
    s3::create_bucket(cloud, bucket)?;
    let mut response = answers::empty(200);
    set_header(&mut response, "location", &format!("/{bucket}"));
    Ok(response)
}

fn list_objects(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    let text = |name: &str| request.parameter(name).unwrap_or_default().to_string();
    let max_keys = match request.parameter("max-keys") {
        None => 1000,
        Some(given) => given.parse::<usize>().map_err(|_| {
            AwsError::client("InvalidArgument", "Provided max-keys not an integer or within integer range")
        })?,
    };
    let version_2 = request.parameter("list-type") == Some("2");
    let after = match request.parameter("continuation-token") {
        Some(token) if version_2 => s3::position(token)?,
        _ if version_2 => text("start-after"),
        _ => text("marker"),
    };
    let wanted = s3::Listing {
        prefix: text("prefix"),
        delimiter: text("delimiter"),
        after,
        max_keys: max_keys.min(1000),
    };
    let page = s3::list(cloud, bucket, &wanted)?;
    Ok(answers::listing(cloud, request, bucket, &wanted, &page, version_2))
}

fn delete_objects(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    let malformed = || {
        AwsError::client(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema",
        )
    };
    let (body, _) = upload::body_of(request)?;
    let document = std::str::from_utf8(&body).ok().and_then(xml::read);
    let document = document.filter(|document| document.name == "Delete").ok_or_else(malformed)?;
    let objects = || document.children.iter().filter(|child| child.name == "Object");
    let keys: Vec<&str> = objects().filter_map(|object| object.child("Key")).collect();
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html: 1 to 1,000 keys
    if keys.is_empty() || keys.len() > 1000 || keys.len() != objects().count() {
        return Err(malformed());
    }
    if objects().any(|object| object.child("VersionId").is_some()) {
        return Err(AwsError::not_emulated("s3", "DeleteObjects with VersionId"));
    }
    for key in &keys {
        s3::delete(cloud, bucket, key)?;
    }
    Ok(answers::deleted(&keys, document.child("Quiet") == Some("true")))
}

fn of_object(cloud: &Arc<Cloud>, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    let overrides = |name: &str| name.starts_with("response-");
    if request.query.iter().any(|(name, _)| is_sub_resource(name) && !overrides(name)) {
        return Err(not_emulated(request));
    }
    match request.method {
        Method::PUT if request.headers.contains_key("x-amz-copy-source") => copy(cloud, request, bucket, key),
        Method::PUT => put(cloud, request, bucket, key),
        Method::GET | Method::HEAD if request.headers.contains_key(headers::CUSTOMER_KEY) => {
            Err(headers::not_emulated(headers::CUSTOMER_KEY))
        }
        Method::GET => {
            let (info, body) = s3::get(cloud, bucket, key)?;
            answers::object(request, &info, Some(body))
        }
        Method::HEAD => answers::object(request, &s3::head(cloud, bucket, key)?, None),
        Method::DELETE => {
            headers::check(&request.headers)?;
            s3::delete(cloud, bucket, key)?;
            Ok(answers::empty(204))
        }
        _ => Err(not_emulated(request)),
    }
}

fn put(cloud: &Cloud, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    headers::check(&request.headers)?;
    let only_new = match request.header("if-none-match") {
        None => false,
        Some("*") => true,
        Some(_) => return Err(AwsError::not_emulated("s3", "PutObject with If-None-Match other than *")),
    };
    let (body, (header, checksum)) = upload::body_of(request)?;
    let (mut headers, metadata) = headers::kept(&request.headers);
    headers.insert(header.into(), checksum.as_str().into());
    let info = s3::put(cloud, bucket, key, &s3::Upload { body, headers, metadata, only_new })?;
    let mut response = answers::empty(200);
    set_header(&mut response, "etag", &info.etag);
    set_header(&mut response, header, &checksum);
    set_header(&mut response, "x-amz-checksum-type", "FULL_OBJECT");
    answers::encrypted(&mut response);
    Ok(response)
}

fn copy(cloud: &Arc<Cloud>, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    headers::check(&request.headers)?;
    let invalid = |reason: &str| AwsError::client("InvalidArgument", reason);
    let source = request.header("x-amz-copy-source").unwrap_or_default();
    if source.contains("?versionId=") {
        return Err(AwsError::not_emulated("s3", "CopyObject with versionId"));
    }
    let source =
        percent_decode_str(source).decode_utf8().map_err(|_| invalid("Invalid copy source encoding."))?;
    let source = source.strip_prefix('/').unwrap_or(&source);
    let from = source
        .split_once('/')
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
        .ok_or_else(|| invalid("Invalid copy source object key"))?;
    let replace = match request.header("x-amz-metadata-directive") {
        None | Some("COPY") => None,
        Some("REPLACE") => Some(headers::kept(&request.headers)),
        Some(_) => return Err(invalid("Unknown metadata directive.")),
    };
    let mut response = answers::copied(&s3::copy(cloud, from, (bucket, key), replace)?);
    answers::encrypted(&mut response);
    Ok(response)
}
