//! The checksums that S3 verifies, keeps and gives back, each by the header that carries it: those that SDKs
//! add by themselves, and SHA256.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::AwsError;
use sha2::{Digest as _, Sha256};

/// The beginning of every such header.
pub(super) const PREFIX: &str = "x-amz-checksum-";

type Algorithm = (&'static str, fn(&[u8]) -> Vec<u8>);

const ALGORITHMS: [Algorithm; 3] = [
    ("x-amz-checksum-crc32", |body| crc32fast::hash(body).to_be_bytes().into()),
    (DEFAULT, |body| crc64nvme(body).to_be_bytes().into()),
    ("x-amz-checksum-sha256", |body| Sha256::digest(body).to_vec()),
];

/// The checksum that S3 adds where the client chose none.
const DEFAULT: &str = "x-amz-checksum-crc64nvme";

/// Whether a header or trailer has a checksum of another algorithm.
pub(super) fn is_unknown(name: &str) -> bool {
    let about = |text: &str| matches!(text, "algorithm" | "mode" | "type");
    let known = || ALGORITHMS.iter().any(|(known, _)| *known == name);
    name.strip_prefix(PREFIX).is_some_and(|rest| !about(rest)) && !known()
}

/// The checksum that the client gave, or S3's own: its header, and its value in base64. Fails with `BadDigest`,
/// or with `InvalidRequest` where the value cannot be a checksum.
pub(super) fn verified<'g>(
    body: &[u8],
    given: impl Fn(&str) -> Option<&'g str>,
) -> Result<(&'static str, String), AwsError> {
    let mut kept = None;
    for (header, compute) in ALGORITHMS {
        let Some(value) = given(header) else { continue };
        let computed = compute(body);
        match STANDARD.decode(value) {
            Ok(bytes) if bytes == computed => kept = Some((header, value.to_owned())),
            Ok(bytes) if bytes.len() == computed.len() => {
                let name = header.trim_start_matches(PREFIX).to_ascii_uppercase();
                let message = format!("The {name} you specified did not match the calculated checksum.");
                return Err(AwsError::client("BadDigest", message));
            }
            _ => {
                let message = format!("Value for {header} header is invalid.");
                return Err(AwsError::client("InvalidRequest", message));
            }
        }
    }
    Ok(kept.unwrap_or_else(|| (DEFAULT, STANDARD.encode(crc64nvme(body).to_be_bytes()))))
}

const TABLE: [u64; 256] = table(0x9A6C_9329_AC4B_C9B5);

/// The table of a reflected polynomial.
const fn table(polynomial: u64) -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

fn crc64nvme(body: &[u8]) -> u64 {
    !body.iter().fold(!0, |crc: u64, byte| (crc >> 8) ^ TABLE[((crc ^ u64::from(*byte)) & 0xFF) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_gives_the_check_value_of_its_specification() {
        let hex = |header: &str| {
            let (_, compute) = ALGORITHMS.iter().find(|(name, _)| *name == header).unwrap();
            compute(b"123456789").iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(hex("x-amz-checksum-crc32"), "cbf43926");
        assert_eq!(hex("x-amz-checksum-crc64nvme"), "ae8b14860a799888");
        assert!(hex("x-amz-checksum-sha256").starts_with("15e2b0d3c33891eb"));
    }

    #[test]
    fn a_checksum_is_right_wrong_or_none() {
        let check = |header: &'static str, value: &'static str| {
            verified(b"hello world", |name| (name == header).then_some(value))
        };
        assert_eq!(check("x-amz-checksum-crc32", "DUoRhQ==").unwrap().1, "DUoRhQ==");
        assert_eq!(check("x-amz-checksum-crc32", "AAAAAA==").unwrap_err().code, "BadDigest");
        assert_eq!(check("x-amz-checksum-sha256", "AA==").unwrap_err().code, "InvalidRequest");
        assert_eq!(check("none", "").unwrap().0, DEFAULT);
    }
}
