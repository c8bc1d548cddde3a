//! The certificates that the HTTPS client trusts: the five roots of Amazon Trust Services, compiled in. To
//! read the about 290 roots of a system costs 3 ms of every cold start.
//!
//! `AWS_CA_BUNDLE` replaces them, as for the AWS command line and other SDKs: proxies, private endpoints
//! and other partitions have other roots.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html>

use std::path::Path;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::ConfigError;

/// The variable that names a file of certificates in PEM form.
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// Amazon Trust Services advises clients with their own trust store to include all five:
/// <https://www.amazontrust.com/repository/>.
const AMAZON_ROOTS: &str = include_str!("roots.pem");

/// The roots of the bundle in `AWS_CA_BUNDLE`, otherwise those of AWS.
///
/// # Errors
/// When the bundle cannot be read, is empty, or contains an invalid certificate.
pub(crate) fn from_env() -> Result<TlsContext, ConfigError> {
    from_bundle(std::env::var_os(BUNDLE).as_deref().map(Path::new))
}

/// The roots in this file, otherwise those of AWS.
pub(crate) fn from_bundle(path: Option<&Path>) -> Result<TlsContext, ConfigError> {
    let unusable = |path: &Path, why| format!("{BUNDLE} cannot be used: {}: {why}", path.display());
    let pem = match path {
        Some(path) if !path.as_os_str().is_empty() => {
            read(path).map_err(|why| ConfigError::one(unusable(path, why)))?
        }
        _ => AMAZON_ROOTS.as_bytes().to_vec(),
    };
    let store = TrustStore::empty().with_pem_certificate(pem);
    TlsContext::builder().with_trust_store(store).build().map_err(|error| ConfigError::one(error.to_string()))
}

/// Reads and checks a bundle. The SDK panics on an invalid certificate, and trusts no server if the bundle
/// is empty.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    match parse(&pem)?.len() {
        0 => Err("there is no certificate in it".to_owned()),
        _ => Ok(pem),
    }
}

fn parse(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem)) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|der| roots.add(der).map_err(|error| error.to_string()));
        added.map_err(|why| format!("certificate {number}: {why}"))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// SHA-256 of each subject's public key info, as <https://www.amazontrust.com/repository/> has them.
    const PUBLISHED: [&str; 5] = [
        "fbe3018031f9586bcbf41727e417b7d1c45c2f47f93be372a17b96b50757d5a2", // Amazon Root CA 1
        "7f4296fc5b6a4e3b35d3c369623e364ab1af381d8fa7121533c9d6c633ea2461", // Amazon Root CA 2
        "36abc32656acfc645c61b71613c4bf21c787f5cabbee48348d58597803d7abc9", // Amazon Root CA 3
        "f7ecded5c66047d28ed6466b543c40e0743abe81d109254dcf845d4c2c7853c5", // Amazon Root CA 4
        "2b071c59a0a0ae76b0eadb2bad23bad4580b69c3601b630c2eaf0613afa83f92", // Starfield Services, G2
    ];

    /// rustls keeps the content of the outer sequence alone.
    fn sequence(content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..=0x7f => vec![0x30, length as u8],
            0x80..=0xff => vec![0x30, 0x81, length as u8],
            _ => vec![0x30, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    #[test]
    fn the_roots_have_the_public_keys_that_amazon_publishes() {
        let hash = |key: &[u8]| -> String {
            Sha256::digest(sequence(key)).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let roots = parse(AMAZON_ROOTS.as_bytes()).unwrap().roots;
        let hashes: Vec<String> = roots.iter().map(|root| hash(&root.subject_public_key_info)).collect();
        assert_eq!(hashes, PUBLISHED);
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_told_with_its_path_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name).display().to_string();
            std::fs::write(&path, content).unwrap();
            path
        };
        let broken = String::from_utf8(AMAZON_ROOTS.as_bytes().to_vec()).unwrap().replacen("MIID", "AAAA", 1);
        for (path, why) in [
            (folder.path().join("missing").display().to_string(), "No such file"),
            (file("empty", b""), "there is no certificate in it"),
            (file("text", b"not a certificate"), "there is no certificate in it"),
            (file("broken", broken.as_bytes()), "certificate 1: "),
            (file("cut", &AMAZON_ROOTS.as_bytes()[..AMAZON_ROOTS.len() - 40]), "certificate 5: "),
        ] {
            let sentence = from_bundle(Some(Path::new(&path))).unwrap_err().to_string();
            assert!(sentence.contains("AWS_CA_BUNDLE") && sentence.contains(&path), "{sentence}");
            assert!(sentence.contains(why), "{sentence}");
        }
        from_bundle(Some(Path::new(&file("good", AMAZON_ROOTS.as_bytes())))).unwrap();
        from_bundle(Some(Path::new(""))).unwrap();
    }
}
