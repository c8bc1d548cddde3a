//! S3's REST with XML, path style and `bucket.localhost`.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>

mod answers;
mod upload;

use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::request::Request;
use super::{respond, set_header, xml};
use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::s3;

/// Parameters that change nothing here: the SDKs' own note of the operation, and the
/// signature (version 2 or 4) of a presigned address.
fn is_sub_resource(name: &str) -> bool {
    !matches!(name, "x-id" | "AWSAccessKeyId" | "Signature" | "Expires") && !name.starts_with("X-Amz-")
}

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    let answered = match request.bucket_and_key() {
        (None, _) => service(cloud, request),
        (Some(bucket), None) => of_bucket(cloud, request, &bucket),
        (Some(bucket), Some(key)) => of_object(cloud, request, &bucket, &key),
    };
    let mut response = answered.unwrap_or_else(|error| answers::refuse(request, &error));
    set_header(&mut response, "x-amz-request-id", &request.id);
    response
}

fn service(cloud: &Cloud, request: &Request) -> Result<Response, AwsError> {
    match request.method {
        Method::GET => Ok(answers::buckets(cloud, &s3::buckets(cloud)?)),
        _ => Err(not_emulated(request)),
    }
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
    let unknown = |known: &[&str]| {
        request.query.iter().any(|(name, _)| is_sub_resource(name) && !known.contains(&name.as_str()))
    };
    match request.method {
        Method::GET if request.parameter("location").is_some() => {
            s3::check_bucket(cloud, bucket)?;
            Ok(answers::location(cloud))
        }
        Method::GET if !unknown(&LISTING) => listing(cloud, request, bucket),
        Method::HEAD => {
            s3::check_bucket(cloud, bucket)?;
            let mut response = respond(200, "application/xml", "");
            set_header(&mut response, "x-amz-bucket-region", &cloud.settings.region);
            Ok(response)
        }
        Method::PUT if !unknown(&[]) => {
            // In us-east-1, creating one's own bucket again is no error.
            // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html (Errors)
            s3::create_bucket(cloud, bucket)?;
            let mut response = respond(200, "application/xml", "");
            set_header(&mut response, "location", &format!("/{bucket}"));
            Ok(response)
        }
        Method::DELETE if !unknown(&[]) => {
            s3::delete_bucket(cloud, bucket)?;
            Ok(respond(204, "application/xml", ""))
        }
        Method::POST if request.parameter("delete").is_some() => delete_objects(cloud, request, bucket),
        _ => Err(not_emulated(request)),
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
    Ok(answers::listing(request, bucket, &wanted, &page, version_2))
}

fn delete_objects(cloud: &Cloud, request: &Request, bucket: &str) -> Result<Response, AwsError> {
    let malformed = || {
        AwsError::client(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema",
        )
    };
    let body = upload::body_of(request)?;
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
        Method::GET => {
            let (info, body) = s3::get(cloud, bucket, key)?;
            answers::object(request, &info, Some(body))
        }
        Method::HEAD => answers::object(request, &s3::head(cloud, bucket, key)?, None),
        Method::DELETE => {
            s3::delete(cloud, bucket, key)?;
            Ok(respond(204, "application/xml", ""))
        }
        _ => Err(not_emulated(request)),
    }
}

fn put(cloud: &Cloud, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    refuse_headers(&request.headers)?;
    let only_new = match request.header("if-none-match") {
        None => false,
        Some("*") => true,
        Some(_) => return Err(AwsError::not_emulated("s3", "PutObject with If-None-Match other than *")),
    };
    let body = upload::body_of(request)?;
    let (headers, metadata) = kept_headers(&request.headers);
    let checksum = upload::crc32(&body);
    let info = s3::put(cloud, bucket, key, &s3::Upload { body, headers, metadata, only_new })?;
    let mut response = respond(200, "application/xml", "");
    set_header(&mut response, "etag", &info.etag);
    // Every upload has a checksum, the client's choice or S3's own.
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    set_header(&mut response, "x-amz-checksum-crc32", &checksum);
    set_header(&mut response, "x-amz-checksum-type", "FULL_OBJECT");
    Ok(response)
}

/// Headers that would make S3 do what is not done here.
fn refuse_headers(headers: &HeaderMap) -> Result<(), AwsError> {
    const REFUSED: [&str; 6] = [
        "x-amz-object-lock",
        "x-amz-server-side-encryption-customer",
        "x-amz-tagging",
        "x-amz-website",
        "x-amz-write-offset",
        "if-match",
    ];
    let refused = headers.keys().find(|name| REFUSED.iter().any(|start| name.as_str().starts_with(start)));
    match refused {
        Some(name) => Err(AwsError::not_emulated("s3", &format!("PutObject with {name}"))),
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
    Ok(answers::copied(&s3::copy(cloud, from, (bucket, key), replace)?))
}
