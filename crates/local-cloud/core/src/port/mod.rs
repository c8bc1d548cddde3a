//! What the HTTP ports of the local cloud share: they close silent connections, limit the size of bodies, and
//! refuse requests from foreign web pages (`local.rs`). This module knows no API.

pub mod local;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::serve::Listener;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a port waits for the rest of a request.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the whole head, and so also for the next request of an idle connection.
    pub head: Duration,
    /// For the next bytes of a body.
    pub body: Duration,
}

impl Default for Patience {
    /// One minute for each, the idle timeout of AWS's load balancers.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html>
    fn default() -> Self {
        Self { head: Duration::from_secs(60), body: Duration::from_secs(60) }
    }
}

/// Answers the requests of all connections of a port until `stopping`. For each connection, `open` gives the
/// stream to read and write, and the function that answers its requests.
pub async fn serve<Io, Answer, Answering>(
    mut port: TcpListener,
    stopping: &CancellationToken,
    patience: Patience,
    open: impl Fn(TcpStream, SocketAddr) -> (Io, Answer),
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Answer: Fn(Request) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Response> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = Listener::accept(&mut port) => accepted,
            () = stopping.cancelled() => break,
        };
        let (io, answer) = open(stream, address);
        let stopping = stopping.clone();
        connections.spawn(async move {
            let service = service_fn(|request: hyper::Request<Incoming>| {
                let answered = answer(request.map(Body::new));
                async { Ok::<_, Infallible>(answered.await) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(patience.head);
            let mut served = pin!(http.serve_connection(TokioIo::new(io), service));
            let ended = tokio::select! {
                ended = served.as_mut() => ended,
                () = stopping.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    connections.close();
    connections.wait().await;
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unread {
    TooLong,
    /// It ends before its announced length, or is not HTTP.
    CutShort,
    /// The client was silent for longer than the port waits.
    Silent,
}

/// The whole body, if it has at most `max` bytes.
pub async fn read(body: Body, max: usize, patience: Patience) -> Result<Bytes, Unread> {
    let mut parts = body.into_data_stream();
    let mut whole = BytesMut::new();
    loop {
        match timeout(patience.body, parts.next()).await {
            Ok(Some(Ok(part))) if whole.len() + part.len() <= max => whole.extend_from_slice(&part),
            Ok(Some(Ok(_))) => return Err(Unread::TooLong),
            Ok(Some(Err(_))) => return Err(Unread::CutShort),
            Ok(None) => return Ok(whole.freeze()),
            Err(_) => return Err(Unread::Silent),
        }
    }
}

#[cfg(test)]
mod tests;
