//! Whether a request is a validly presigned address of an object.
//!
//! The endpoint accepts any key, so it knows few secrets: that of the functions, which it draws at every
//! start ([`Cloud::secret`]), and that of a key whose secret is the same word, as the documents show it
//! (`local`). A page from elsewhere could sign with such a word, too. It could then show a picture, but not
//! read it: a browser gives a page no bytes of an answer without CORS headers.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use axum::http::Method;
use cloud_core::Cloud;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::request::Request;

/// "604800 (seven days)".
const MAX_SECONDS: u64 = 604_800;

/// The parameters that signing adds to an address.
#[rustfmt::skip]
const ADDED: [&str; 7] = [
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Whether an S3 request is signed with the secret of its key, and has not expired.
pub(super) fn is_valid(cloud: &Cloud, request: &Request) -> bool {
    let secret = |key| if cloud.calls.holder(key).is_some() { &cloud.secret } else { key };
    request.method == Method::GET
        && matches!(request.bucket_and_key(), (Some(_), Some(_)))
        && Times::of(request)
            .is_some_and(|times| times.hold_at(cloud.clock.to_machine_ms(cloud.clock.now_ms())))
        && request.access_key().and_then(|key| is_signed(request, secret(key))).unwrap_or(false)
}

/// When the address is valid.
struct Times {
    signed_ms: i64,
    seconds: u64,
}

impl Times {
    fn of(request: &Request) -> Option<Self> {
        let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", request.parameter("X-Amz-Date")?).ok()?;
        let signed_ms = TimeZone::UTC.to_timestamp(signed).ok()?.as_millisecond();
        Some(Self { signed_ms, seconds: request.parameter("X-Amz-Expires")?.parse().ok()? })
    }

    fn hold_at(&self, now_ms: i64) -> bool {
        let age_ms = u64::try_from(now_ms - self.signed_ms);
        self.seconds <= MAX_SECONDS && age_ms.is_ok_and(|age| age <= self.seconds * 1_000)
    }
}

/// Whether `secret` gives the same signature; `None` where a part of the signature is missing.
fn is_signed(request: &Request, secret: &str) -> Option<bool> {
    let times = Times::of(request)?;
    let (key, scope) = request.parameter("X-Amz-Credential")?.split_once('/')?;
    let token = request.parameter("X-Amz-Security-Token").map(str::to_owned);
    let identity = Credentials::new(key, secret, token, None, "the local cloud").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(times.seconds));
    // S3 signs the path as it was sent.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.split('/').nth(1)?)
        .name("s3")
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(times.signed_ms).ok()?))
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
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    let address = format!("http://{}{}{query}", request.header("host")?, request.path);
    let signable =
        SignableRequest::new("GET", address, headers.into_iter(), SignableBody::UnsignedPayload).ok()?;
    let expected = sign(signable, &params).ok()?;
    let given = request.parameter("X-Amz-Signature")?;
    // Compares hashes, so that the time of the comparison reveals nothing of the signature.
    Some(Sha256::digest(expected.signature()) == Sha256::digest(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, address: &str) -> Request {
        let request = axum::http::Request::get(address).header("host", host).body(()).unwrap();
        Request::new(request.into_parts().0, "id".into())
    }

    /// The example of the page about query string authentication.
    #[test]
    fn a_signature_is_computed_as_aws_does() {
        const HOST: &str = "examplebucket.s3.amazonaws.com";
        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let address = |path: &str, expires: u32| {
            format!(
                "{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
                 &X-Amz-Date=20130524T000000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host\
                 &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
            )
        };
        let signed = address("/test.txt", 86_400);
        assert_eq!(is_signed(&request(HOST, &signed), SECRET), Some(true));
        for (host, address, secret) in [
            ("localhost", signed.clone(), SECRET),
            (HOST, address("/other.txt", 86_400), SECRET),
            (HOST, address("/test.txt", 86_401), SECRET),
            (HOST, format!("{signed}&response-content-type=text%2Fhtml"), SECRET),
            (HOST, signed.replace("us-east-1", "eu-west-1"), SECRET),
            (HOST, signed.clone(), "local"),
        ] {
            assert_eq!(is_signed(&request(host, &address), secret), Some(false), "{host} {address} {secret}");
        }
        assert_eq!(is_signed(&request(HOST, &signed.replace("=host", "=host;x-more")), SECRET), None);
        let times = Times::of(&request(HOST, &signed)).unwrap();
        for (second, holds) in [(-1, false), (0, true), (86_400, true), (86_401, false)] {
            assert_eq!(times.hold_at(1_369_353_600_000 + second * 1_000), holds, "{second}");
        }
        let longest = Times::of(&request(HOST, &address("/test.txt", 604_801))).unwrap();
        assert!(!longest.hold_at(1_369_353_600_000));
    }
}
