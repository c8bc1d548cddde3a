//! The answers of S3: XML documents, and objects with their headers.

use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::clock::rfc3339;
use cloud_core::{AwsError, Cloud, api};
use cloud_services::s3::{Info, Listing, Page, precondition_failed};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::checksum::PREFIX;
use crate::endpoint::request::Request;
use crate::endpoint::response::{respond, set_header};
use crate::endpoint::xml::Xml;

const XML: &str = "application/xml";
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// `encoding-type=url` encodes all other characters.
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

fn http_time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

pub(super) fn empty(status: u16) -> Response {
    respond(status, XML, "")
}

/// The error document; an answer to HEAD never has a body.
pub(in crate::endpoint) fn refuse(request: &Request, error: &AwsError) -> Response {
    if request.method == Method::HEAD {
        return empty(error.status);
    }
    let body = Xml::new().root("Error", "", |xml| {
        xml.text("Code", &error.code);
        xml.text("Message", &error.message);
        for (name, value) in &error.details {
            xml.text(name, value.as_str().unwrap_or_default());
        }
        xml.text("RequestId", &request.id);
        xml.text("HostId", host_id(request));
    });
    respond(error.status, XML, body)
}

/// The second id of a request, which AWS's support asks for beside the first.
pub(super) fn host_id(request: &Request) -> String {
    STANDARD.encode(&request.id)
}

/// Every object is encrypted, and says so.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-encryption-faq.html>
pub(super) fn encrypted(response: &mut Response) {
    set_header(response, "x-amz-server-side-encryption", "AES256");
}

pub(super) fn buckets(cloud: &Cloud, buckets: &[(String, i64)], next: Option<String>) -> Response {
    let body = Xml::new().root("ListAllMyBucketsResult", NAMESPACE, |xml| {
        if let Some(next) = next {
            xml.text("ContinuationToken", next);
        }
        owner(xml, cloud);
        xml.element("Buckets", |xml| {
            for (name, created_ms) in buckets {
                xml.element("Bucket", |xml| {
                    xml.text("Name", name);
                    xml.text("CreationDate", rfc3339(*created_ms));
                    xml.text("BucketRegion", &cloud.settings.region);
                });
            }
        });
    });
    respond(200, XML, body)
}

fn owner(xml: &mut Xml, cloud: &Cloud) {
    xml.element("Owner", |xml| xml.text("ID", &cloud.settings.account));
}

pub(super) fn listing(
    cloud: &Cloud,
    request: &Request,
    bucket: &str,
    wanted: &Listing,
    page: &Page,
    version_2: bool,
) -> Response {
    let encoded = request.parameter("encoding-type") == Some("url");
    // Version 1 always names the owner, version 2 on request.
    let with_owner = !version_2 || request.parameter("fetch-owner") == Some("true");
    let name = |text: &str| match encoded {
        true => utf8_percent_encode(text, URL).to_string(),
        false => text.to_string(),
    };
    let body = Xml::new().root("ListBucketResult", NAMESPACE, |xml| {
        xml.text("Name", bucket);
        xml.text("Prefix", name(&wanted.prefix));
        if !wanted.delimiter.is_empty() {
            xml.text("Delimiter", name(&wanted.delimiter));
        }
        xml.text("MaxKeys", wanted.max_keys.to_string());
        if encoded {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", page.next.is_some().to_string());
        match version_2 {
            true => paging_2(xml, request, page, &name),
            false => paging_1(xml, wanted, page, &name),
        }
        for info in &page.objects {
            xml.element("Contents", |xml| {
                xml.text("Key", name(&info.key));
                xml.text("LastModified", rfc3339(info.modified_ms));
                xml.text("ETag", &info.etag);
                xml.text("Size", info.size.to_string());
                if with_owner {
                    owner(xml, cloud);
                }
                xml.text("StorageClass", "STANDARD");
            });
        }
        for prefix in &page.prefixes {
            xml.element("CommonPrefixes", |xml| xml.text("Prefix", name(prefix)));
        }
    });
    respond(200, XML, body)
}

fn paging_2(xml: &mut Xml, request: &Request, page: &Page, name: &impl Fn(&str) -> String) {
    xml.text("KeyCount", (page.objects.len() + page.prefixes.len()).to_string());
    if let Some(token) = request.parameter("continuation-token") {
        xml.text("ContinuationToken", token);
    }
    if let Some(key) = request.parameter("start-after") {
        xml.text("StartAfter", name(key));
    }
    if let Some(next) = &page.next {
        xml.text("NextContinuationToken", api::token(next));
    }
}

fn paging_1(xml: &mut Xml, wanted: &Listing, page: &Page, name: &impl Fn(&str) -> String) {
    xml.text("Marker", name(&wanted.after));
    // Only with a delimiter: otherwise the last key is the next marker.
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html (NextMarker)
    if let Some(next) = page.next.as_ref().filter(|_| !wanted.delimiter.is_empty()) {
        xml.text("NextMarker", name(next));
    }
}

pub(super) fn deleted(keys: &[&str], quiet: bool) -> Response {
    let body = Xml::new().root("DeleteResult", NAMESPACE, |xml| {
        for key in keys.iter().filter(|_| !quiet) {
            xml.element("Deleted", |xml| xml.text("Key", key));
        }
    });
    respond(200, XML, body)
}

pub(super) fn copied(info: &Info) -> Response {
    let body = Xml::new().root("CopyObjectResult", NAMESPACE, |xml| {
        xml.text("LastModified", rfc3339(info.modified_ms));
        xml.text("ETag", &info.etag);
    });
    respond(200, XML, body)
}

/// An object, the part of it that `Range` asks for, or (`body` is `None`) its headers only.
pub(super) fn object(request: &Request, info: &Info, body: Option<Vec<u8>>) -> Result<Response, AwsError> {
    if !is_wanted(request, info)? {
        let mut response = empty(304);
        set_header(&mut response, "etag", &info.etag);
        set_header(&mut response, "last-modified", &http_time(info.modified_ms));
        return Ok(response);
    }
    let range = match request.header("range") {
        Some(range) => range_of(range, info.size)?,
        None => None,
    };
    let (first, end) = range.unwrap_or((0, info.size));
    let body = body.map(|mut body| {
        body.truncate(end as usize);
        body.split_off(first as usize)
    });
    let status = if range.is_some() { 206 } else { 200 };
    let mut response = respond(status, XML, body.unwrap_or_default());
    // For HEAD, it is the length that the body would have.
    set_header(&mut response, "content-length", &(end - first).to_string());
    if range.is_some() {
        let last = end.saturating_sub(1);
        set_header(&mut response, "content-range", &format!("bytes {first}-{last}/{}", info.size));
    }
    set_header(&mut response, "accept-ranges", "bytes");
    set_header(&mut response, "content-type", info.content_type());
    set_header(&mut response, "etag", &info.etag);
    set_header(&mut response, "last-modified", &http_time(info.modified_ms));
    encrypted(&mut response);
    kept_headers(&mut response, request, info, range.is_none());
    Ok(response)
}

/// The headers that were kept with the object. The checksum is shown on request, for the whole object.
fn kept_headers(response: &mut Response, request: &Request, info: &Info, whole: bool) {
    let summed = whole && request.header("x-amz-checksum-mode") == Some("ENABLED");
    if summed && info.headers.keys().any(|name| name.starts_with(PREFIX)) {
        set_header(response, "x-amz-checksum-type", "FULL_OBJECT");
    }
    let prefixed = info.metadata.iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value));
    let kept = info.headers.iter().filter(|(name, _)| summed || !name.starts_with(PREFIX));
    let kept = kept.map(|(name, value)| (name.clone(), value));
    let stored = kept.chain(prefixed).filter_map(|(name, value)| Some((name, value.as_str()?.to_string())));
    // A presigned address can override headers of the answer.
    let asked = request
        .query
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("response-")?.to_string(), value.clone())));
    for (name, value) in stored.chain(asked) {
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Whether the conditions of the request let S3 send the object. RFC 9110 defines them: a condition on the
/// time counts only if the request has no condition on the tag.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
fn is_wanted(request: &Request, info: &Info) -> Result<bool, AwsError> {
    if request.headers.contains_key("if-range") {
        return Err(AwsError::not_emulated("s3", "a request with if-range"));
    }
    let matches = |given: &str| {
        let tag = info.etag.trim_matches('"');
        given == "*" || given.split(',').any(|given| given.trim().trim_matches('"') == tag)
    };
    // A date that cannot be read is no condition.
    let changed_after = |name: &str| {
        let given = request.header(name)?;
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(given).ok()?;
        Some(info.modified_ms > date.as_millisecond())
    };
    match (request.header("if-match"), changed_after("if-unmodified-since")) {
        (Some(tags), _) if !matches(tags) => return Err(precondition_failed("If-Match")),
        (None, Some(true)) => return Err(precondition_failed("If-Unmodified-Since")),
        _ => {}
    }
    Ok(match (request.header("if-none-match"), changed_after("if-modified-since")) {
        (Some(tags), _) => !matches(tags),
        (None, changed) => changed.unwrap_or(true),
    })
}

/// The first byte and the one behind the last, of `bytes=1-5`, `bytes=5-` or `bytes=-5`. Any other text is
/// ignored, as RFC 9110 (section 14.2) wants it.
fn range_of(range: &str, size: u64) -> Result<Option<(u64, u64)>, AwsError> {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let (first, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => return Ok(None),
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(count)) if first.is_empty() => (size.saturating_sub(count), size),
        _ => return Ok(None),
    };
    if first >= size || first >= end {
        let mut error = AwsError::new(416, "InvalidRange", "The requested range is not satisfiable");
        error.details.insert("RangeRequested".into(), range.into());
        error.details.insert("ActualObjectSize".into(), Value::from(size.to_string()));
        return Err(error);
    }
    Ok(Some((first, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_defines_them() {
        assert_eq!(range_of("bytes=0-4", 10), Ok(Some((0, 5))));
        assert_eq!(range_of("bytes=5-", 10), Ok(Some((5, 10))));
        assert_eq!(range_of("bytes=-3", 10), Ok(Some((7, 10))));
        assert_eq!(range_of("bytes=8-100", 10), Ok(Some((8, 10))));
        assert_eq!(range_of("bytes=5-4", 10), Ok(None));
        assert_eq!(range_of("lines=1-2", 10), Ok(None));
        assert_eq!(range_of("bytes=10-", 10).unwrap_err().status, 416);
    }
}
