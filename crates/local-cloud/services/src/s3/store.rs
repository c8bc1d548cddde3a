//! Buckets and objects in the store.

use std::sync::Arc;

use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud};
use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Map, Value};

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

/// Creates the tables. An earlier version kept uploads in parts; a part of one is no object yet.
pub(super) fn open(store: &Store) -> Result<(), StoreError> {
    store.write(|tx| tx.execute_batch("DROP TABLE IF EXISTS s3_parts; DROP TABLE IF EXISTS s3_uploads"))?;
    store.migrate(TABLES)
}

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// MD5 of the bytes in hex, within double quotes.
    pub etag: String,
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

    pub(super) const COLUMNS: &str = "key, length(body), etag, modified_ms, headers, metadata";

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
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

/// An object to store; headers and metadata as in [`Info`].
#[derive(Debug, Clone, Default)]
pub struct Upload {
    pub body: bytes::Bytes,
    pub headers: Map<String, Value>,
    pub metadata: Map<String, Value>,
    /// Only where there is no object of that key yet (`If-None-Match: *`).
    pub only_new: bool,
}

fn refusal(status: u16, code: &str, message: &str, (detail, value): (&str, &str)) -> AwsError {
    let mut error = AwsError::new(status, code, message);
    error.details.insert(detail.into(), value.into());
    error
}

/// The answer to a condition that does not hold.
pub fn precondition_failed(condition: &str) -> AwsError {
    let message = "At least one of the pre-conditions you specified did not hold";
    refusal(412, "PreconditionFailed", message, ("Condition", condition))
}

/// All buckets, sorted by name, and when they were created (in milliseconds since the epoch).
pub fn buckets(cloud: &Cloud) -> Result<Vec<(String, i64)>, AwsError> {
    Ok(cloud.store.read(|connection| {
        let mut statement =
            connection.prepare_cached("SELECT name, created_ms FROM s3_buckets ORDER BY name")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })?)
}

/// Creates a bucket, unless it exists. Fails with `InvalidBucketName`.
pub fn create_bucket(cloud: &Cloud, name: &str) -> Result<(), AwsError> {
    if !is_bucket_name(name) {
        return Err(AwsError::client("InvalidBucketName", "The specified bucket is not valid."));
    }
    let now = cloud.clock.now_ms();
    cloud
        .store
        .write(|tx| tx.execute("INSERT OR IGNORE INTO s3_buckets VALUES (?1, ?2)", params![name, now]))?;
    Ok(())
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
pub(super) fn is_bucket_name(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(|letter| plain(letter) || matches!(letter, '-' | '.'))
        && name.starts_with(plain)
        && name.ends_with(plain)
        && !name.contains("..")
}

/// Fails with `NoSuchBucket`.
pub fn check_bucket(cloud: &Cloud, bucket: &str) -> Result<(), AwsError> {
    let found = cloud.store.read(|connection| {
        connection.prepare_cached("SELECT 1 FROM s3_buckets WHERE name = ?1")?.exists(params![bucket])
    })?;
    match found {
        true => Ok(()),
        false => {
            let message = "The specified bucket does not exist";
            Err(refusal(404, "NoSuchBucket", message, ("BucketName", bucket)))
        }
    }
}

/// Fails with `NoSuchBucket` or `BucketNotEmpty`.
pub fn delete_bucket(cloud: &Cloud, bucket: &str) -> Result<(), AwsError> {
    check_bucket(cloud, bucket)?;
    let gone = cloud.store.write(|tx| {
        tx.execute(
            "DELETE FROM s3_buckets WHERE name = ?1
             AND NOT EXISTS (SELECT 1 FROM s3_objects WHERE bucket = ?1)",
            params![bucket],
        )
    })?;
    match gone {
        0 => Err(AwsError::new(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")),
        _ => Ok(()),
    }
}

/// Stores an object, or replaces it. Fails with `NoSuchBucket`, `KeyTooLongError` or `PreconditionFailed`.
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

/// Fails with `NoSuchBucket` or `NoSuchKey`.
pub fn head(cloud: &Cloud, bucket: &str, key: &str) -> Result<Info, AwsError> {
    read(cloud, bucket, key, Info::COLUMNS, Info::from_row)
}

/// Fails with `NoSuchBucket` or `NoSuchKey`.
pub fn get(cloud: &Cloud, bucket: &str, key: &str) -> Result<(Info, Vec<u8>), AwsError> {
    let columns = format!("{}, body", Info::COLUMNS);
    read(cloud, bucket, key, &columns, |row| Ok((Info::from_row(row)?, row.get(6)?)))
}

fn read<T>(
    cloud: &Cloud,
    bucket: &str,
    key: &str,
    columns: &str,
    from_row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<T, AwsError> {
    check_bucket(cloud, bucket)?;
    let query = format!("SELECT {columns} FROM s3_objects WHERE bucket = ?1 AND key = ?2");
    let found = cloud.store.read(|connection| {
        connection.prepare_cached(&query)?.query_row(params![bucket, key], from_row).optional()
    })?;
    found.ok_or_else(|| {
        // S3 says that an object is missing only to those who may list the bucket. It denies others.
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html (Permissions)
        cloud.calls.record("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"));
        refusal(404, "NoSuchKey", "The specified key does not exist.", ("Key", key))
    })
}

/// Deletes an object; succeeds where there is none. Fails with `NoSuchBucket`.
pub fn delete(cloud: &Cloud, bucket: &str, key: &str) -> Result<(), AwsError> {
    check_bucket(cloud, bucket)?;
    cloud.store.write(|tx| {
        tx.execute("DELETE FROM s3_objects WHERE bucket = ?1 AND key = ?2", params![bucket, key])
    })?;
    Ok(())
}

/// Copies an object. `replace`: headers and metadata of the copy, in place of those of the source
/// (`x-amz-metadata-directive: REPLACE`). Fails as [`get`] and [`put`], and with `InvalidRequest` for a copy
/// onto itself that changes nothing.
pub fn copy(
    cloud: &Arc<Cloud>,
    from: (&str, &str),
    to: (&str, &str),
    replace: Option<(Map<String, Value>, Map<String, Value>)>,
) -> Result<Info, AwsError> {
    let (info, body) = get(cloud, from.0, from.1)?;
    if from == to && replace.is_none() {
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
    put(cloud, to.0, to.1, &Upload { body: body.into(), headers, metadata, only_new: false })
}
