//! Whether a request is a presigned address of an object that this local cloud has handed out.
//!
//! Any key and any secret are accepted at the endpoint, and those of the documents (`local`) are
//! known to everybody: a signature with them could be made by the very page that is to be kept out.
//! So only the keys of functions count here. Their secret is drawn at every start
//! ([`Cloud::secret`]), stands nowhere but in the environment of the functions, and so proves that a function has signed this host, this object and this time.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use axum::http::Method;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::request::{Protocol, Request};
use crate::cloud::Cloud;

/// "604800 (seven days)".
const LONGEST: u64 = 604_800;

/// What signing adds to an address.
const ADDED: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Whether a function has signed it, and it has not expired.
pub(super) fn is_valid(cloud: &Cloud, request: &Request) -> bool {
    let reads_an_object = request.method == Method::GET
        && request.protocol() == Protocol::S3
        && matches!(request.bucket_and_key(), (Some(_), Some(_)));
    let (Some(signature), Some(given)) = (signature(cloud, request), request.parameter("X-Amz-Signature"))
    else {
        return false;
    };
    // Hashes are compared, so that the time it takes says nothing of the signature.
    reads_an_object && Sha256::digest(signature) == Sha256::digest(given)
}

/// The signature that it must have; `None` where it has expired or is none of a function.
fn signature(cloud: &Cloud, request: &Request) -> Option<String> {
    let time: DateTime = DateTime::strptime("%Y%m%dT%H%M%SZ", request.parameter("X-Amz-Date")?).ok()?;
    let time_ms = TimeZone::UTC.to_timestamp(time).ok()?.as_millisecond();
    let seconds = request.parameter("X-Amz-Expires")?.parse().ok().filter(|seconds| *seconds <= LONGEST)?;
    let expires_in = Duration::from_secs(seconds);
    let age = Duration::from_millis(u64::try_from(cloud.clock.now_ms() - time_ms).ok()?);
    if age > expires_in {
        return None;
    }
    let (key, scope) = request.parameter("X-Amz-Credential")?.split_once('/')?;
    cloud.calls.holder(key)?;
    let region = scope.split('/').nth(1)?;
    let token = request.parameter("X-Amz-Security-Token").map(str::to_owned);
    let credentials = Credentials::new(key, cloud.secret.as_str(), token, None, "the local cloud");
    let identity = credentials.into();

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(expires_in);
    // S3 takes a path as it is.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(time_ms).ok()?))
        .settings(settings)
        .build()
        .ok()?
        .into();
    let headers: Vec<(&str, &str)> = request
        .parameter("X-Amz-SignedHeaders")?
        .split(';')
        .map(|name| Some((name, request.header(name)?)))
        .collect::<Option<_>>()?;
    let is_added = |pair: &&str| ADDED.contains(&pair.split('=').next().unwrap_or_default());
    let rest: Vec<&str> = request.raw_query.split('&').filter(|pair| !is_added(pair)).collect();
    let address = format!("http://{}{}?{}", request.header("host")?, request.path, rest.join("&"));
    let body = SignableBody::UnsignedPayload;
    let signable = SignableRequest::new("GET", address, headers.into_iter(), body).ok()?;
    Some(sign(signable, &params).ok()?.signature().to_owned())
}
