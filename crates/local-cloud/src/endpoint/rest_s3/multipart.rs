//! The operations of uploads in parts; `?uploads` and `?uploadId=` tell them from those of objects.

use axum::http::Method;
use axum::response::Response;

use super::{answers, checksum, kept_headers, malformed, not_emulated, refuse_headers, upload};
use crate::cloud::Cloud;
use crate::endpoint::request::Request;
use crate::endpoint::{respond, set_header, xml};
use crate::error::AwsError;
use crate::s3::multipart::{self, Place};

/// Whether this is an operation of an upload in parts.
pub(super) fn is_one(request: &Request) -> bool {
    request.parameter("uploads").is_some() || request.parameter("uploadId").is_some()
}

pub(super) fn handle(
    cloud: &Cloud,
    request: &Request,
    bucket: &str,
    key: &str,
) -> Result<Response, AwsError> {
    let Some(upload) = request.parameter("uploadId") else {
        return match request.method {
            Method::POST => begin(cloud, request, bucket, key),
            _ => Err(not_emulated(request)),
        };
    };
    let place = Place { bucket, key, upload };
    match (&request.method, request.parameter("partNumber")) {
        (&Method::PUT, Some(_)) if request.headers.contains_key("x-amz-copy-source") => {
            Err(AwsError::not_emulated("s3", "UploadPartCopy"))
        }
        (&Method::PUT, Some(number)) => {
            let (body, (header, checksum)) = upload::body_of(request)?;
            let etag = multipart::put_part(cloud, place, number, &body)?;
            let mut response = respond(200, "application/xml", "");
            set_header(&mut response, "etag", &etag);
            set_header(&mut response, header, &checksum);
            answers::encrypted(&mut response);
            Ok(response)
        }
        (&Method::POST, None) => complete(cloud, request, place),
        (&Method::DELETE, None) => {
            multipart::abort(cloud, place)?;
            Ok(respond(204, "application/xml", ""))
        }
        _ => Err(not_emulated(request)),
    }
}

fn begin(cloud: &Cloud, request: &Request, bucket: &str, key: &str) -> Result<Response, AwsError> {
    let mut others = request.headers.clone();
    others.remove("x-amz-checksum-algorithm");
    refuse_headers(&others)?;
    let algorithm = request.header("x-amz-checksum-algorithm");
    if algorithm.is_some_and(|name| !checksum::is_algorithm(name)) {
        return Err(AwsError::client("InvalidRequest", "Checksum algorithm provided is unsupported."));
    }
    // What an algorithm does where nothing is said; the other way is not emulated.
    let composite = algorithm.is_some_and(|name| name != "CRC64NVME");
    let kind = if composite { "COMPOSITE" } else { "FULL_OBJECT" };
    if request.header("x-amz-checksum-type").is_some_and(|asked| asked != kind) {
        return Err(AwsError::not_emulated("s3", "CreateMultipartUpload with another x-amz-checksum-type"));
    }
    let (headers, metadata) = kept_headers(&request.headers);
    let id = multipart::begin(cloud, bucket, key, &multipart::Kept { algorithm, headers, metadata })?;
    let mut response = answers::upload_begun(bucket, key, &id);
    if let Some(algorithm) = algorithm {
        set_header(&mut response, "x-amz-checksum-algorithm", algorithm);
        set_header(&mut response, "x-amz-checksum-type", kind);
    }
    answers::encrypted(&mut response);
    Ok(response)
}

fn complete(cloud: &Cloud, request: &Request, place: Place<'_>) -> Result<Response, AwsError> {
    refuse_headers(&request.headers)?;
    if request.headers.contains_key("if-none-match") {
        return Err(AwsError::not_emulated("s3", "CompleteMultipartUpload with If-None-Match"));
    }
    let text = std::str::from_utf8(&request.body).map_err(|_| malformed())?;
    let document = xml::read(text)
        .filter(|document| document.name == "CompleteMultipartUpload")
        .ok_or_else(malformed)?;
    let parts = document.children.iter().filter(|child| child.name == "Part").map(|part| {
        let number = part.child("PartNumber")?.parse().ok()?;
        Some((number, part.child("ETag")?.to_string()))
    });
    let parts = parts.collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty()).ok_or_else(malformed)?;
    let info = multipart::complete(cloud, place, &parts, checksum::of_parts)?;
    let mut response = answers::upload_completed(request, place.bucket, place.key, &info);
    answers::encrypted(&mut response);
    Ok(response)
}
