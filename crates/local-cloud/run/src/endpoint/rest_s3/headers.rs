//! The headers of an upload: those that are refused, and those that S3 keeps with the object.

use axum::http::HeaderMap;
use cloud_core::AwsError;
use serde_json::{Map, Value};

/// Says that the object is encrypted with a key of the client.
pub(super) const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-algorithm";

/// Beginnings of the names of headers whose effect is not emulated.
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

/// Headers that are accepted with the value that holds here anyway.
const ONLY: [(&str, &str); 2] =
    [("x-amz-server-side-encryption", "AES256"), ("x-amz-storage-class", "STANDARD")];

pub(super) fn check(headers: &HeaderMap) -> Result<(), AwsError> {
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html
    if headers.get("x-amz-acl").is_some_and(|acl| acl != "bucket-owner-full-control") {
        return Err(AwsError::client("AccessControlListNotSupported", "The bucket does not allow ACLs"));
    }
    let by_name = headers.keys().find(|name| REFUSED.iter().any(|start| name.as_str().starts_with(start)));
    let by_value = |(name, only): &&(&str, &str)| headers.get(*name).is_some_and(|value| value != only);
    let refused =
        by_name.map(|name| name.as_str()).or_else(|| ONLY.iter().find(by_value).map(|(name, _)| *name));
    refused.map_or(Ok(()), |name| Err(not_emulated(name)))
}

pub(super) fn not_emulated(header: &str) -> AwsError {
    AwsError::not_emulated("s3", &format!("a request with {header}"))
}

const KEPT: [&str; 5] =
    ["content-type", "cache-control", "content-disposition", "content-language", "expires"];

/// The headers that S3 gives back with the object, and the client's own metadata.
pub(super) fn kept(headers: &HeaderMap) -> (Map<String, Value>, Map<String, Value>) {
    let mut kept = Map::new();
    let mut metadata = Map::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        if let Some(name) = name.as_str().strip_prefix("x-amz-meta-") {
            metadata.insert(name.into(), value.into());
        } else if name == "content-encoding" {
            kept.extend(object_encoding(value).map(|value| (name.as_str().into(), value.into())));
        } else if KEPT.contains(&name.as_str()) {
            kept.insert(name.as_str().into(), value.into());
        }
    }
    (kept, metadata)
}

/// The object's encoding, without `aws-chunked`, which is only that of the upload.
fn object_encoding(header: &str) -> Option<String> {
    let codings = header.split(',').map(str::trim).filter(|coding| !matches!(*coding, "" | "aws-chunked"));
    let codings: Vec<&str> = codings.collect();
    (!codings.is_empty()).then(|| codings.join(","))
}
