//! S3's REST with XML, path style and `bucket.localhost`.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>

mod answers;
mod checksum;
mod upload;

use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use axum::response::Response;
use cloud_core::{AwsError, Cloud};
use cloud_services::s3;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::request::Request;
use super::{respond, set_header, xml};

pub(super) use answers::refuse;

/// Parameters that change nothing here: the SDKs' own note of the operation, and the
/// signature (version 2 or 4) of a presigned address.
fn is_sub_resource(name: &str) -> bool {
    !matches!(name, "x-id" | "AWSAccessKeyId" | "Signature" | "Expires") && !name.starts_with("X-Amz-")
}

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    record(cloud, request);
    let answered = expected_owner(cloud, request).and_then(|()| match request.bucket_and_key() {
        (None, _) => service(cloud, request),
        (Some(bucket), None) => of_bucket(cloud, request, &bucket),
        (Some(bucket), Some(key)) => of_object(cloud, request, &bucket, &key),
    });
    let mut response = answered.unwrap_or_else(|error| answers::refuse(request, &error));
    set_header(&mut response, "x-amz-request-id", &request.id);
    set_header(&mut response, "x-amz-id-2", &answers::host_id(request));
    response
}

/// A policy knows the permission of a method; the sub-resources have none of their own here.
fn record(cloud: &Cloud, request: &Request) {
    let (bucket, key) = request.bucket_and_key();
    let action = match (&request.method, key.is_some()) {
        (&Method::GET | &Method::HEAD, true) => "GetObject",
        (&Method::GET | &Method::HEAD, false) => "ListBucket",
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

/// Whether the query string asks for anything that is not among `known`.
fn asks_more(request: &Request, known: &[&str]) -> bool {
    request.query.iter().any(|(name, _)| is_sub_resource(name) && !known.contains(&name.as_str()))
}

fn service(cloud: &Cloud, request: &Request) -> Result<Response, AwsError> {
    const LISTING: [&str; 4] = ["prefix", "max-buckets", "continuation-token", "bucket-region"];
    if request.method != Method::GET || asks_more(request, &LISTING) {
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
    let after = request.parameter("continuation-token").map(s3::position).transpose()?.unwrap_or_default();
    let prefix = request.parameter("prefix").unwrap_or_default();
    let here = request.parameter("bucket-region").is_none_or(|region| region == cloud.settings.region);
    let mut buckets = s3::buckets(cloud)?;
    buckets.retain(|(name, _)| here && name.starts_with(prefix) && *name > after);
    let more = buckets.len() > limit;
    buckets.truncate(limit);
    Ok(answers::buckets(cloud, request, &buckets, more))
}

fn not_emulated(request: &Request) -> AwsError {
    let names: Vec<&str> =
        request.query.iter().map(|(name, _)| name.as_str()).filter(|name| is_sub_resource(name)).collect();
    AwsError::not_emulated("s3", &format!("{} ?{}", request.method, names.join("&")))
}

fn of_bucket(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    const LISTING: [&str; 9] = [
        "list-type",
        "prefix",
        "delimiter",
        "max-keys",
        "marker",
        "start-after",
        "continuation-token",
        "encoding-type",
        "fetch-owner",
    ];
    match request.method {
        Method::GET if request.parameter("location").is_some() => {
            s3::check_bucket(cloud, bucket)?;
            Ok(answers::location(cloud))
        }
        Method::GET if !asks_more(request, &LISTING) => listing(cloud, request, bucket),
        Method::HEAD => {
            s3::check_bucket(cloud, bucket)?;
            let mut response = respond(200, "application/xml", "");
            set_header(&mut response, "x-amz-bucket-region", &cloud.settings.region);
            Ok(response)
        }
        Method::PUT if !asks_more(request, &[]) => {
            refuse_headers(&request.headers)?;
            check_location(cloud, request)?;
            // In us-east-1, creating one's own bucket again is no error.
            // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html (Errors)
            s3::create_bucket(cloud, bucket)?;
            let mut response = respond(200, "application/xml", "");
            set_header(&mut response, "location", &format!("/{bucket}"));
            Ok(response)
        }
        Method::DELETE if !asks_more(request, &[]) => {
            s3::delete_bucket(cloud, bucket)?;
            Ok(respond(204, "application/xml", ""))
        }
        Method::POST if request.parameter("delete").is_some() => delete_objects(cloud, request, bucket),
        _ => Err(not_emulated(request)),
    }
}

/// A new bucket is in the region of the endpoint, or nowhere.
fn check_location(cloud: &Cloud, request: &Request) -> Result<(), AwsError> {
    let (body, _) = upload::body_of(request)?;
    let document = std::str::from_utf8(&body).ok().and_then(xml::read);
    match document.as_ref().and_then(|document| document.child("LocationConstraint")) {
        Some(region) if region != cloud.settings.region => Err(AwsError::client(
            "IllegalLocationConstraintException",
            format!(
                "The {region} location constraint is incompatible for the region specific endpoint this request was sent to."
            ),
        )),
        _ => Ok(()),
    }
}

fn listing(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
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

fn malformed() -> AwsError {
    AwsError::client(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
}

fn delete_objects(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    let (body, _) = upload::body_of(request)?;
    let text = std::str::from_utf8(&body).map_err(|_| malformed())?;
    let document = xml::read(text).filter(|document| document.name == "Delete").ok_or_else(malformed)?;
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
        Method::GET | Method::HEAD if request.headers.contains_key(OWN_KEY) => {
            Err(AwsError::not_emulated("s3", &format!("a request with {OWN_KEY}")))
        }
        Method::GET => {
            let (info, body) = s3::get(cloud, bucket, key)?;
            answers::object(request, &info, Some(body))
        }
        Method::HEAD => answers::object(request, &s3::head(cloud, bucket, key)?, None),
        Method::DELETE => {
            refuse_headers(&request.headers)?;
            s3::delete(cloud, bucket, key)?;
            Ok(respond(204, "application/xml", ""))
        }
        _ => Err(not_emulated(request)),
    }
}

/// Says that an object is encrypted with a key of the client's own.
const OWN_KEY: &str = "x-amz-server-side-encryption-customer-algorithm";

fn put(cloud: &Cloud, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    refuse_headers(&request.headers)?;
    let only_new = match request.header("if-none-match") {
        None => false,
        Some("*") => true,
        Some(_) => return Err(AwsError::not_emulated("s3", "PutObject with If-None-Match other than *")),
    };
    let (body, (header, checksum)) = upload::body_of(request)?;
    let (mut headers, metadata) = kept_headers(&request.headers);
    headers.insert(header.into(), checksum.as_str().into());
    let info = s3::put(cloud, bucket, key, &s3::Upload { body, headers, metadata, only_new })?;
    let mut response = respond(200, "application/xml", "");
    set_header(&mut response, "etag", &info.etag);
    set_header(&mut response, header, &checksum);
    set_header(&mut response, "x-amz-checksum-type", "FULL_OBJECT");
    answers::encrypted(&mut response);
    Ok(response)
}

/// Headers that would make S3 do what is not done here.
fn refuse_headers(headers: &HeaderMap) -> Result<(), AwsError> {
    const REFUSED: [&str; 11] = [
        "if-match",
        "x-amz-bucket-object-lock",
        // Of a copy: another checksum than its source has.
        "x-amz-checksum-algorithm",
        "x-amz-copy-source-if-",
        "x-amz-copy-source-server-side-encryption",
        "x-amz-grant-",
        "x-amz-object-lock",
        "x-amz-server-side-encryption-",
        "x-amz-tagging",
        "x-amz-website",
        "x-amz-write-offset",
    ];
    // What has no effect when it says what is done anyway.
    const ONLY: [(&str, &str); 2] =
        [("x-amz-server-side-encryption", "AES256"), ("x-amz-storage-class", "STANDARD")];
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html
    if headers.get("x-amz-acl").is_some_and(|acl| acl != "bucket-owner-full-control") {
        return Err(AwsError::client("AccessControlListNotSupported", "The bucket does not allow ACLs"));
    }
    let by_name = headers.keys().find(|name| REFUSED.iter().any(|start| name.as_str().starts_with(start)));
    let by_value = |(name, only): &&(&str, &str)| headers.get(*name).is_some_and(|value| value != only);
    let refused =
        by_name.map(|name| name.as_str()).or_else(|| ONLY.iter().find(by_value).map(|(name, _)| *name));
    match refused {
        Some(name) => Err(AwsError::not_emulated("s3", &format!("a request with {name}"))),
        None => Ok(()),
    }
}

/// What S3 gives back with the object: some headers, and the client's own metadata.
fn kept_headers(headers: &HeaderMap) -> (Map<String, Value>, Map<String, Value>) {
    const KEPT: [&str; 6] = [
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    ];
    let mut kept = Map::new();
    let mut metadata = Map::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        if let Some(name) = name.as_str().strip_prefix("x-amz-meta-") {
            metadata.insert(name.into(), value.into());
        } else if name == "content-encoding" {
            // How the body travelled is not how the object is encoded.
            let codings = value.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked");
            let codings: Vec<&str> = codings.filter(|coding| !coding.is_empty()).collect();
            if !codings.is_empty() {
                kept.insert(name.as_str().into(), codings.join(",").into());
            }
        } else if KEPT.contains(&name.as_str()) {
            kept.insert(name.as_str().into(), value.into());
        }
    }
    (kept, metadata)
}

fn copy(cloud: &Arc<Cloud>, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    refuse_headers(&request.headers)?;
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
        Some("REPLACE") => Some(kept_headers(&request.headers)),
        Some(_) => return Err(invalid("Unknown metadata directive.")),
    };
    let mut response = answers::copied(&s3::copy(cloud, from, (bucket, key), replace)?);
    answers::encrypted(&mut response);
    Ok(response)
}
