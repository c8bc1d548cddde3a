//! S3, as far as the images bucket needs it: buckets and objects in the local cloud's own
//! store, so that an object and what is known about it appear in one transaction. Buckets
//! have no versions; nothing is public, since nothing checks who asks.

mod api;
mod deploy;
mod list;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::service::{Protocol, Service};
use cloud_core::{AwsError, Cloud};
use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Map, Value};

pub use api::position;
pub use list::{Listing, Page, list};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::S3],
    open: |opening| opening.store.migrate(TABLES),
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("s3")
};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS s3_buckets (
                 name TEXT PRIMARY KEY,
                 created_ms INTEGER NOT NULL
             );
             CREATE TABLE IF NOT EXISTS s3_objects (
                 bucket TEXT NOT NULL REFERENCES s3_buckets,
                 key TEXT NOT NULL,
                 body BLOB NOT NULL,
                 etag TEXT NOT NULL,
                 modified_ms INTEGER NOT NULL,
                 headers TEXT NOT NULL,
                 metadata TEXT NOT NULL,
                 PRIMARY KEY (bucket, key)
             );";

/// What is known about an object, without its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Its name within the bucket.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// MD5 of the bytes in hex, within double quotes.
    pub etag: String,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    /// Headers that S3 keeps and gives back: `content-type`, `cache-control`, ..., and the
    /// checksum, `x-amz-checksum-{algorithm}`.
    pub headers: Map<String, Value>,
    /// The client's own: `x-amz-meta-{name}`, names in lower case.
    pub metadata: Map<String, Value>,
}

impl Info {
    /// `Content-Type`, which S3 sets where the client did not.
    pub fn content_type(&self) -> &str {
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html (Content-Type)
        self.headers.get("content-type").and_then(Value::as_str).unwrap_or("binary/octet-stream")
    }

    const COLUMNS: &str = "key, length(body), etag, modified_ms, headers, metadata";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let map = |column: usize| -> rusqlite::Result<Map<String, Value>> {
            Ok(serde_json::from_str(&row.get::<_, String>(column)?).unwrap_or_default())
        };
        Ok(Self {
            key: row.get(0)?,
            size: row.get(1)?,
            etag: row.get(2)?,
            modified_ms: row.get(3)?,
            headers: map(4)?,
            metadata: map(5)?,
        })
    }
}

/// An object to store.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// The bytes.
    pub body: bytes::Bytes,
    /// As in [`Info`].
    pub headers: Map<String, Value>,
    /// As in [`Info`].
    pub metadata: Map<String, Value>,
    /// Only where there is no object of that key yet (`If-None-Match: *`).
    pub only_new: bool,
}

/// The names of all buckets, with the time of their creation in milliseconds since the epoch.
///
/// # Errors
/// When the store fails.
pub fn buckets(cloud: &Cloud) -> Result<Vec<(String, i64)>, AwsError> {
    Ok(cloud.store.read(|connection| {
        let mut statement =
            connection.prepare_cached("SELECT name, created_ms FROM s3_buckets ORDER BY name")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })?)
}

/// Creates a bucket; answers whether it is new.
///
/// # Errors
/// `InvalidBucketName`.
pub fn create_bucket(cloud: &Cloud, name: &str) -> Result<bool, AwsError> {
    if !is_bucket_name(name) {
        return Err(AwsError::client("InvalidBucketName", "The specified bucket is not valid."));
    }
    let now = cloud.clock.now_ms();
    Ok(cloud.store.write(|tx| {
        let made = tx.execute("INSERT OR IGNORE INTO s3_buckets VALUES (?1, ?2)", params![name, now])?;
        Ok(made == 1)
    })?)
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn is_bucket_name(name: &str) -> bool {
    let edge = |letter: Option<char>| letter.is_some_and(|l| l.is_ascii_lowercase() || l.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.chars().all(|l| l.is_ascii_lowercase() || l.is_ascii_digit() || matches!(l, '-' | '.'))
        && edge(name.chars().next())
        && edge(name.chars().last())
        && !name.contains("..")
}

/// # Errors
/// `NoSuchBucket`.
pub fn check_bucket(cloud: &Cloud, bucket: &str) -> Result<(), AwsError> {
    let found = cloud.store.read(|connection| {
        connection.prepare_cached("SELECT 1 FROM s3_buckets WHERE name = ?1")?.exists(params![bucket])
    })?;
    if found {
        return Ok(());
    }
    let mut error = AwsError::new(404, "NoSuchBucket", "The specified bucket does not exist");
    error.details.insert("BucketName".into(), bucket.into());
    Err(error)
}

/// Stores an object, in place of the one that was there.
///
/// # Errors
/// `NoSuchBucket`, `KeyTooLongError`, `PreconditionFailed`.
pub fn put(cloud: &Cloud, bucket: &str, key: &str, upload: &Upload) -> Result<Info, AwsError> {
    check_bucket(cloud, bucket)?;
    if key.len() > 1024 {
        return Err(AwsError::client("KeyTooLongError", "Your key is too long"));
    }
    let info = Info {
        key: key.into(),
        size: upload.body.len() as u64,
        etag: format!("\"{}\"", hex::encode(Md5::digest(&upload.body))),
        // S3 keeps whole seconds.
        modified_ms: cloud.clock.now_ms() / 1000 * 1000,
        headers: upload.headers.clone(),
        metadata: upload.metadata.clone(),
    };
    let headers = Value::Object(upload.headers.clone()).to_string();
    let metadata = Value::Object(upload.metadata.clone()).to_string();
    let verb = if upload.only_new { "INSERT OR IGNORE" } else { "INSERT OR REPLACE" };
    let stored = cloud.store.write(|tx| {
        tx.prepare_cached(&format!("{verb} INTO s3_objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"))?
            .execute(params![bucket, key, &upload.body[..], info.etag, info.modified_ms, headers, metadata])
    })?;
    if stored == 0 {
        return Err(precondition_failed("If-None-Match"));
    }
    tracing::info!(target: "hop", service = "s3", resource = %bucket, %key, size = info.size, "object stored");
    Ok(info)
}

/// The answer to a condition that does not hold.
pub fn precondition_failed(condition: &str) -> AwsError {
    let sentence = "At least one of the pre-conditions you specified did not hold";
    let mut error = AwsError::new(412, "PreconditionFailed", sentence);
    error.details.insert("Condition".into(), condition.into());
    error
}

/// # Errors
/// `NoSuchBucket`, `NoSuchKey`.
pub fn head(cloud: &Cloud, bucket: &str, key: &str) -> Result<Info, AwsError> {
    check_bucket(cloud, bucket)?;
    let found = cloud.store.read(|connection| {
        let query = format!("SELECT {} FROM s3_objects WHERE bucket = ?1 AND key = ?2", Info::COLUMNS);
        connection.prepare_cached(&query)?.query_row(params![bucket, key], Info::from_row).optional()
    })?;
    found.ok_or_else(|| no_such_key(cloud, bucket, key))
}

/// # Errors
/// `NoSuchBucket`, `NoSuchKey`.
pub fn get(cloud: &Cloud, bucket: &str, key: &str) -> Result<(Info, Vec<u8>), AwsError> {
    check_bucket(cloud, bucket)?;
    let found = cloud.store.read(|connection| {
        let query = format!("SELECT {}, body FROM s3_objects WHERE bucket = ?1 AND key = ?2", Info::COLUMNS);
        let mut statement = connection.prepare_cached(&query)?;
        statement.query_row(params![bucket, key], |row| Ok((Info::from_row(row)?, row.get(6)?))).optional()
    })?;
    found.ok_or_else(|| no_such_key(cloud, bucket, key))
}

/// Only who may list the bucket is told that an object is not there; others are denied.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_RequestSyntax> (Permissions)
fn no_such_key(cloud: &Cloud, bucket: &str, key: &str) -> AwsError {
    cloud.calls.record("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"));
    let mut error = AwsError::new(404, "NoSuchKey", "The specified key does not exist.");
    error.details.insert("Key".into(), key.into());
    error
}

/// Deletes an object; one that is not there is deleted already.
///
/// # Errors
/// `NoSuchBucket`.
pub fn delete(cloud: &Cloud, bucket: &str, key: &str) -> Result<(), AwsError> {
    check_bucket(cloud, bucket)?;
    cloud.store.write(|tx| {
        tx.execute("DELETE FROM s3_objects WHERE bucket = ?1 AND key = ?2", params![bucket, key])
    })?;
    Ok(())
}

/// Deletes a bucket.
///
/// # Errors
/// `NoSuchBucket`, `BucketNotEmpty`.
pub fn delete_bucket(cloud: &Cloud, bucket: &str) -> Result<(), AwsError> {
    check_bucket(cloud, bucket)?;
    let gone = cloud.store.write(|tx| {
        tx.execute(
            "DELETE FROM s3_buckets WHERE name = ?1
             AND NOT EXISTS (SELECT 1 FROM s3_objects WHERE bucket = ?1)",
            params![bucket],
        )
    })?;
    if gone == 0 {
        return Err(AwsError::new(409, "BucketNotEmpty", "The bucket you tried to delete is not empty"));
    }
    Ok(())
}

/// Copies an object within this cloud. `replace`: headers and metadata for the copy, in
/// place of those of the source (`x-amz-metadata-directive: REPLACE`).
///
/// # Errors
/// `NoSuchBucket`, `NoSuchKey`, `InvalidRequest` for a copy onto itself that changes nothing.
pub fn copy(
    cloud: &Arc<Cloud>,
    (from_bucket, from_key): (&str, &str),
    (bucket, key): (&str, &str),
    replace: Option<(Map<String, Value>, Map<String, Value>)>,
) -> Result<Info, AwsError> {
    let (info, body) = get(cloud, from_bucket, from_key)?;
    if (from_bucket, from_key) == (bucket, key) && replace.is_none() {
        return Err(AwsError::client(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing \
             the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let (headers, metadata) = match replace {
        // The bytes, and so their checksum, stay the same.
        Some((mut headers, metadata)) => {
            headers.extend(info.headers.into_iter().filter(|(name, _)| name.starts_with("x-amz-checksum-")));
            (headers, metadata)
        }
        None => (info.headers, info.metadata),
    };
    put(cloud, bucket, key, &Upload { body: body.into(), headers, metadata, only_new: false })
}

/// Base64, as JSON carries bytes.
fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests;
