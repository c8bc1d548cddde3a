//! The body of an upload: freed of `aws-chunked`, in which SDKs send a body with its checksum behind it, and
//! compared with the checksums that the client gave.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use cloud_core::AwsError;
use md5::{Digest, Md5};

use super::checksum;
use crate::endpoint::request::Request;

/// The body without its framing, and its checksum: header and value.
pub(super) fn body_of(request: &Request) -> Result<(Bytes, (&'static str, String)), AwsError> {
    let streamed = request.header("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-"))
        || request.header("content-encoding").is_some_and(|coding| coding.contains("aws-chunked"));
    let (body, trailers) = if streamed {
        let (body, trailers) = unchunk(&request.body).ok_or_else(incomplete)?;
        let length = request.header("x-amz-decoded-content-length").and_then(|length| length.parse().ok());
        if length.is_some_and(|length: usize| length != body.len()) {
            return Err(incomplete());
        }
        (body, trailers)
    } else {
        (request.body.clone(), Vec::new())
    };
    let headers = request.headers.keys().map(|name| name.as_str());
    let mut names = headers.chain(trailers.iter().map(|(name, _)| name.as_str()));
    if let Some(name) = names.find(|name| checksum::is_unknown(name)) {
        return Err(AwsError::not_emulated("s3", &format!("a request with {name}")));
    }
    let given = |name: &str| {
        let trailer = trailers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        trailer.or_else(|| request.header(name))
    };
    let checksum = checksum::verified(&body, given)?;
    if let Some(digest) = given("content-md5") {
        let invalid = || AwsError::client("InvalidDigest", "The Content-MD5 you specified was invalid.");
        let digest = STANDARD.decode(digest).ok().filter(|bytes| bytes.len() == 16).ok_or_else(invalid)?;
        if digest[..] != Md5::digest(&body)[..] {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(AwsError::client("BadDigest", message));
        }
    }
    Ok((body, checksum))
}

fn incomplete() -> AwsError {
    let sentence = "You did not provide the number of bytes specified by the Content-Length HTTP header";
    AwsError::client("IncompleteBody", sentence)
}

/// Reads `hex-size[;extension]\r\n bytes \r\n` until size 0, then `name:value\r\n` trailers.
fn unchunk(mut rest: &[u8]) -> Option<(Bytes, Vec<(String, String)>)> {
    let mut body = BytesMut::with_capacity(rest.len());
    loop {
        let line = take_line(&mut rest)?;
        let size = line.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let mut trailers = Vec::new();
    while let Some(line) = take_line(&mut rest).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
    }
    Some((body.freeze(), trailers))
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(rest.get(..end)?).ok()?;
    *rest = rest.get(end + 2..)?;
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_trailers_read() {
        let sent =
            b"5\r\nhello\r\n6;chunk-signature=abc\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
        let (body, trailers) = unchunk(sent).unwrap();
        assert_eq!(&body[..], b"hello world");
        assert_eq!(trailers, [("x-amz-checksum-crc32".into(), "DUoRhQ==".into())]);
    }

    #[test]
    fn bytes_that_look_like_a_chunk_are_not_one() {
        let (body, _) = unchunk(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n").unwrap();
        assert_eq!(&body[..], b"0\r\n\r\n");
    }

    #[test]
    fn a_body_that_ends_early_is_incomplete() {
        assert!(unchunk(b"5\r\nhel").is_none());
        assert!(unchunk(b"5\r\nhello\r\n").is_none());
        assert!(unchunk(b"zz\r\nhello\r\n0\r\n\r\n").is_none());
    }
}
