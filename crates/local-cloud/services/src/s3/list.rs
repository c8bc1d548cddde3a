//! Lists a bucket: by prefix, folded at a delimiter, page by page.

use cloud_core::{AwsError, Cloud};
use rusqlite::params;

use super::store::{Info, check_bucket};

#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that contain this behind the prefix are folded into one common prefix. Empty: none are.
    pub delimiter: String,
    /// Only keys behind this key, or behind all keys of this common prefix.
    pub after: String,
    /// At most this many keys and common prefixes.
    pub max_keys: usize,
}

/// One page of a listing, in the order of the keys' UTF-8 bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    pub objects: Vec<Info>,
    pub prefixes: Vec<String>,
    /// `after` of the next page, where there is more.
    pub next: Option<String>,
}

/// The key in a continuation token; fails with `InvalidArgument`.
pub fn position(token: &str) -> Result<String, AwsError> {
    let invalid = || AwsError::client("InvalidArgument", "The continuation token provided is incorrect");
    cloud_core::api::key_of(token).ok_or_else(invalid)
}

/// Fails with `NoSuchBucket`.
pub fn list(cloud: &Cloud, bucket: &str, wanted: &Listing) -> Result<Page, AwsError> {
    check_bucket(cloud, bucket)?;
    // An answer without keys is complete, even when the bucket has objects.
    if wanted.max_keys == 0 {
        return Ok(Page::default());
    }
    Ok(cloud.store.read(|connection| {
        // SQLite's BINARY collation compares UTF-8 bytes, which is S3's order.
        let query = format!(
            "SELECT {} FROM s3_objects WHERE bucket = ?1 AND key > ?2 AND key >= ?3 ORDER BY key",
            Info::COLUMNS
        );
        let mut statement = connection.prepare_cached(&query)?;
        let mut rows = statement.query(params![bucket, wanted.after, wanted.prefix])?;
        let mut page = Page::default();
        let mut last = String::new();
        while let Some(row) = rows.next()? {
            let info = Info::from_row(row)?;
            if !info.key.starts_with(&wanted.prefix) {
                break;
            }
            let folded = fold(&info.key, wanted);
            if folded.is_some_and(|prefix| prefix == last || prefix == wanted.after) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == wanted.max_keys {
                page.next = Some(last);
                break;
            }
            last = folded.unwrap_or(&info.key).to_string();
            match folded {
                Some(prefix) => page.prefixes.push(prefix.to_string()),
                None => page.objects.push(info),
            }
        }
        Ok(page)
    })?)
}

/// The common prefix of `key`: up to the first delimiter behind the prefix.
fn fold<'a>(key: &'a str, wanted: &Listing) -> Option<&'a str> {
    if wanted.delimiter.is_empty() {
        return None;
    }
    let end = key.get(wanted.prefix.len()..)?.find(&wanted.delimiter)?;
    key.get(..wanted.prefix.len() + end + wanted.delimiter.len())
}
