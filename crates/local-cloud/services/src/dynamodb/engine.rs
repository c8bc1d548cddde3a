//! dynoxide, behind its own HTTP server on a private loopback port.
//!
//! It is called over HTTP and not through its typed API, because its server alone reads request bodies as
//! AWS does (which mistake is a `SerializationException`, which a `ValidationException`, and in which words).
//! On two cores and unoptimised, a GetItem takes 0.45 ms this way (0.15 ms where eight callers keep both
//! busy), a PutItem to a table with a stream 0.6 ms (0.2 ms): enough for thousands of calls a second. The
//! server has its own thread, because dynoxide blocks while SQLite works.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cloud_core::random::Random;
use cloud_core::service::Reply;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use dynoxide::Database;
use dynoxide::storage_backend::ManualClock;
use tokio_util::sync::{CancellationToken, DropGuard};

/// dynoxide wants to see a signature, and verifies none.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, \
                         SignedHeaders=host;x-amz-date, Signature=0";

/// dynoxide's database, and its server, which starts with the first request.
pub(super) struct Engine {
    database: Database,
    /// The time of a database in memory; one in a file follows the system.
    clock: Option<ManualClock>,
    server: OnceLock<Result<Server, String>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

struct Server {
    url: String,
    client: reqwest::Client,
    /// Stops the server's thread when the engine is dropped.
    _running: DropGuard,
}

impl Engine {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let failed = |error: dynoxide::DynoxideError| StoreError::Tables(error.to_string());
        let (database, clock) = match path {
            Some(path) => {
                // dynoxide explains an unusable path better.
                let _ = cloud_core::private_file::open(path);
                let database = Database::new(&path.to_string_lossy()).map_err(failed)?;
                // Sets `synchronous = NORMAL`: like our own store, this survives the death of the process
                // without an fsync per write.
                database.disable_bulk_loading().map_err(failed)?;
                index_streams(path)?;
                (database, None)
            }
            None => {
                let clock = ManualClock::new(0);
                (Database::memory_with_clock(clock.arc()).map_err(failed)?, Some(clock))
            }
        };
        Ok(Self { database, clock, server: OnceLock::new() })
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) async fn send(&self, cloud: &Cloud, action: &str, body: Bytes) -> Result<Reply, AwsError> {
        self.set_clock(cloud);
        let server = self.server.get_or_init(|| Server::start(self.database.clone(), &cloud.random));
        let server = server.as_ref().map_err(AwsError::internal)?;
        let answer = server
            .client
            .post(&server.url)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("DynamoDB_20120810.{action}"))
            .header("authorization", SIGNATURE)
            .header("x-amz-date", "20260101T000000Z")
            .body(body)
            .send()
            .await
            .map_err(AwsError::internal)?;
        let status = answer.status().as_u16();
        Ok(Reply { status, body: answer.bytes().await.map_err(AwsError::internal)? })
    }

    /// Removes the expired items; returns their number.
    pub(super) async fn sweep(&self, cloud: &Arc<Cloud>) -> Result<usize, AwsError> {
        self.set_clock(cloud);
        let database = self.database.clone();
        let swept = tokio::task::spawn_blocking(move || database.sweep_ttl()).await;
        swept.map_err(AwsError::internal)?.map_err(AwsError::internal)
    }

    fn set_clock(&self, cloud: &Cloud) {
        if let Some(clock) = &self.clock {
            clock.set((cloud.clock.now_ms() / 1000).max(0) as u64);
        }
    }
}

/// dynoxide looks for the last record of a stream at every write, and for the records behind a position at
/// every read, without an index for either. Without this one, a write takes longer the more records there are
/// (1.6 ms instead of 0.2 after 8,000 of them).
fn index_streams(path: &Path) -> Result<(), StoreError> {
    rusqlite::Connection::open(path)?.execute_batch(
        "CREATE INDEX IF NOT EXISTS local_cloud_stream_order
         ON _stream_records (table_name, CAST(sequence_number AS INTEGER), shard_id)",
    )?;
    Ok(())
}

/// Listens on a loopback address that nobody can guess, because dynoxide takes requests of any web page and
/// lets it read the answers (CORS). Only Linux has all of 127.0.0.0/8 without configuration.
fn listen(random: &Random) -> std::io::Result<std::net::TcpListener> {
    let byte = || random.below(256) as u8;
    // The last byte is neither that of a network nor that of a broadcast.
    let hidden = Ipv4Addr::new(127, byte(), byte(), 1 + random.below(254) as u8);
    let bind = |address| std::net::TcpListener::bind((address, 0));
    bind(hidden).or_else(|error| {
        tracing::warn!(
            target: "hop",
            service = "dynamodb",
            %error,
            "{hidden} cannot be used here: the DynamoDB engine listens on 127.0.0.1, where web pages that are open \
             on this machine could guess its port and read and write the tables"
        );
        bind(Ipv4Addr::LOCALHOST)
    })
}

impl Server {
    fn start(database: Database, random: &Random) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let listener = listen(random).map_err(text)?;
        listener.set_nonblocking(true).map_err(text)?;
        let url = format!("http://{}/", listener.local_addr().map_err(text)?);
        // The engine is on this machine: HTTP_PROXY is not for it.
        let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
        std::thread::Builder::new()
            .name("dynamodb".into())
            .spawn(move || {
                let served = runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| e.to_string())?;
                    dynoxide::server::serve_with_shutdown(listener, database, stopped.cancelled_owned()).await
                });
                if let Err(error) = served {
                    tracing::error!(%error, "the DynamoDB engine stopped");
                }
            })
            .map_err(text)?;
        Ok(Self { url, client, _running: stop.drop_guard() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_web_page_cannot_guess_where_the_engine_listens() {
        let random = Random::seeded(1);
        let address = || listen(&random).unwrap().local_addr().unwrap().ip();
        let (one, other) = (address(), address());
        assert!(one.is_loopback() && one != other && one != Ipv4Addr::LOCALHOST, "{one} {other}");
    }
}
