//! Uploads in parts, as the transfer managers of the SDKs and the command line send every file of
//! 8 MiB or more. Parts are kept until the upload is completed or aborted.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::{Info, check_bucket};
use crate::cloud::Cloud;
use crate::error::AwsError;

pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS s3_uploads (
        id TEXT PRIMARY KEY,
        bucket TEXT NOT NULL,
        key TEXT NOT NULL,
        headers TEXT NOT NULL,
        metadata TEXT NOT NULL,
        algorithm TEXT
    );
    CREATE TABLE IF NOT EXISTS s3_parts (
        upload TEXT NOT NULL REFERENCES s3_uploads ON DELETE CASCADE,
        number INTEGER NOT NULL,
        etag TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (upload, number)
    );";

/// Every part but the last has at least as many bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const SMALLEST_PART: usize = 5 * 1024 * 1024;

/// An upload that was begun.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The bucket of the object.
    pub bucket: &'a str,
    /// The key of the object.
    pub key: &'a str,
    /// The id that [`begin`] gave.
    pub upload: &'a str,
}

/// What is kept of an upload until it is completed.
#[derive(Debug)]
pub struct Kept<A> {
    /// Of the checksum, where the client chose one: `CRC32`, ...
    pub algorithm: A,
    /// As in [`Info`].
    pub headers: Map<String, Value>,
    /// As in [`Info`].
    pub metadata: Map<String, Value>,
}

/// Begins an upload, and answers its id.
///
/// # Errors
/// `NoSuchBucket`.
pub fn begin(cloud: &Cloud, bucket: &str, key: &str, kept: &Kept<Option<&str>>) -> Result<String, AwsError> {
    check_bucket(cloud, bucket)?;
    let id = cloud.random.uuid();
    let headers = Value::from(kept.headers.clone()).to_string();
    let metadata = Value::from(kept.metadata.clone()).to_string();
    cloud.store.write(|tx| {
        tx.execute(
            "INSERT INTO s3_uploads VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, bucket, key, headers, metadata, kept.algorithm],
        )
    })?;
    Ok(id)
}

/// Stores a part, in place of the one that had its number, and answers its entity tag.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchUpload`, `InvalidArgument` for a number that is none.
pub fn put_part(cloud: &Cloud, place: Place<'_>, number: &str, body: &[u8]) -> Result<String, AwsError> {
    find(cloud, place)?;
    let number: u32 =
        number.parse().ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
            AwsError::client(
                "InvalidArgument",
                "Part number must be an integer between 1 and 10000, inclusive",
            )
        })?;
    let etag = format!("\"{}\"", hex::encode(Md5::digest(body)));
    let stored = cloud.store.write(|tx| {
        let insert = "INSERT OR REPLACE INTO s3_parts SELECT id, ?2, ?3, ?4 FROM s3_uploads WHERE id = ?1";
        tx.prepare_cached(insert)?.execute(params![place.upload, number, etag, body])
    })?;
    if stored == 0 { Err(no_such_upload(place.upload)) } else { Ok(etag) }
}

/// Makes an object of the parts with these numbers and entity tags. `checksum` gives, of
/// the algorithm and the parts, the header and the value that are kept for the whole.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchUpload`, `InvalidPartOrder`, `InvalidPart`, `EntityTooSmall`.
pub fn complete(
    cloud: &Cloud,
    place: Place<'_>,
    parts: &[(u32, String)],
    checksum: impl FnOnce(Option<&str>, &[Vec<u8>]) -> (&'static str, String),
) -> Result<Info, AwsError> {
    let Kept { algorithm, mut headers, metadata } = find(cloud, place)?;
    if !parts.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err(AwsError::client(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
        ));
    }
    let (mut bodies, mut digests) = (Vec::new(), Md5::new());
    for (at, (number, etag)) in parts.iter().enumerate() {
        let part = part(cloud, place.upload, *number, etag)?;
        if part.len() < SMALLEST_PART && at + 1 < parts.len() {
            return Err(AwsError::client(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
            ));
        }
        digests.update(Md5::digest(&part));
        bodies.push(part);
    }
    let (name, value) = checksum(algorithm.as_deref(), &bodies);
    let body = bodies.concat();
    headers.insert(name.into(), value.into());
    let info = Info {
        key: place.key.into(),
        size: body.len() as u64,
        etag: format!("\"{}-{}\"", hex::encode(digests.finalize()), parts.len()),
        // S3 keeps whole seconds.
        modified_ms: cloud.clock.now_ms() / 1000 * 1000,
        headers,
        metadata,
    };
    let (headers, metadata) =
        (Value::from(info.headers.clone()).to_string(), Value::from(info.metadata.clone()).to_string());
    let completed = cloud.store.write(|tx| {
        // It may have been completed or aborted, or its bucket deleted, since it was read.
        if !forget(tx, place.upload)? {
            return Ok(false);
        }
        tx.execute(
            "INSERT OR REPLACE INTO s3_objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![place.bucket, place.key, body, info.etag, info.modified_ms, headers, metadata],
        )?;
        Ok(true)
    })?;
    if !completed {
        return Err(no_such_upload(place.upload));
    }
    tracing::info!(target: "hop", service = "s3", resource = %place.bucket, key = %place.key, size = info.size, "object stored");
    Ok(info)
}

/// Forgets an upload and its parts.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchUpload`.
pub fn abort(cloud: &Cloud, place: Place<'_>) -> Result<(), AwsError> {
    find(cloud, place)?;
    let aborted = cloud.store.write(|tx| forget(tx, place.upload))?;
    if aborted { Ok(()) } else { Err(no_such_upload(place.upload)) }
}

/// Whether there was such an upload; its parts go with it.
fn forget(tx: &rusqlite::Transaction<'_>, upload: &str) -> rusqlite::Result<bool> {
    Ok(tx.execute("DELETE FROM s3_uploads WHERE id = ?1", params![upload])? > 0)
}

fn find(cloud: &Cloud, place: Place<'_>) -> Result<Kept<Option<String>>, AwsError> {
    check_bucket(cloud, place.bucket)?;
    let found = cloud.store.read(|connection| {
        let query =
            "SELECT headers, metadata, algorithm FROM s3_uploads WHERE id = ?1 AND bucket = ?2 AND key = ?3";
        let map = |row: &Row<'_>, column: usize| -> rusqlite::Result<Map<String, Value>> {
            Ok(serde_json::from_str(&row.get::<_, String>(column)?).unwrap_or_default())
        };
        let read = |row: &Row<'_>| {
            Ok(Kept { headers: map(row, 0)?, metadata: map(row, 1)?, algorithm: row.get(2)? })
        };
        connection
            .prepare_cached(query)?
            .query_row(params![place.upload, place.bucket, place.key], read)
            .optional()
    })?;
    found.ok_or_else(|| no_such_upload(place.upload))
}

fn no_such_upload(upload: &str) -> AwsError {
    let sentence = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                    aborted or completed.";
    let mut error = AwsError::new(404, "NoSuchUpload", sentence);
    error.details.insert("UploadId".into(), upload.into());
    error
}

fn part(cloud: &Cloud, upload: &str, number: u32, etag: &str) -> Result<Vec<u8>, AwsError> {
    let found = cloud.store.read(|connection| {
        let query = "SELECT body FROM s3_parts WHERE upload = ?1 AND number = ?2 AND trim(etag, '\"') = trim(?3, '\"')";
        connection.prepare_cached(query)?.query_row(params![upload, number, etag], |row| row.get(0)).optional()
    })?;
    found.ok_or_else(|| {
        AwsError::client(
            "InvalidPart",
            "One or more of the specified parts could not be found.  The part may not have been uploaded, or the \
             specified entity tag may not match the part's entity tag.",
        )
    })
}
