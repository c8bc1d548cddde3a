//! Keeps header names as the client wrote them. API Gateway passes them on unchanged (a
//! `tEsT-HEADeR` stays one: recorded on AWS by LocalStack, test_apigateway_lambda.snapshot.json), but hyper
//! gives only lower case. Therefore the connection keeps the bytes of a request's head until the request is
//! read.

use std::collections::HashMap;
use std::io::{IoSlice, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// In bytes: more than hyper reads of a head.
const MAX_HEAD: usize = 512 * 1024;

/// The head that a connection receives; `None` while it receives a body.
#[derive(Debug, Clone)]
pub(super) struct Head(Arc<Mutex<Option<Vec<u8>>>>);

impl Head {
    fn with<T>(&self, use_bytes: impl FnOnce(&mut Option<Vec<u8>>) -> T) -> T {
        use_bytes(&mut cloud_core::lock(&self.0))
    }

    /// Records the next head: the request before it is read to its end.
    pub fn record(&self) {
        self.with(|bytes| *bytes = Some(Vec::new()));
    }

    /// The header names of the request that was just read, by their lower-case forms; ends the record.
    pub fn names(&self) -> HashMap<String, String> {
        names(&self.with(Option::take).unwrap_or_default())
    }
}

/// The names before the colons, up to the empty line. A client that sends its requests without waiting for
/// answers may find the names of a later one in lower case.
fn names(head: &[u8]) -> HashMap<String, String> {
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).skip_while(|line| line.is_empty());
    let names = lines.skip(1).take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.split(|byte| *byte == b':').next()?;
        Some(std::str::from_utf8(name).ok()?.to_owned())
    });
    names.map(|name| (name.to_ascii_lowercase(), name)).collect()
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub address: SocketAddr,
    pub head: Head,
}

/// A connection that records its heads.
pub(super) struct Connection {
    stream: TcpStream,
    head: Head,
}

impl Connection {
    pub fn new(stream: TcpStream, address: SocketAddr) -> (Self, Client) {
        let head = Head(Arc::new(Mutex::new(Some(Vec::new()))));
        (Self { stream, head: head.clone() }, Client { address, head })
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        let new = into.filled().get(before..).unwrap_or_default();
        self.head.with(|bytes| match bytes {
            Some(bytes) if bytes.len() + new.len() <= MAX_HEAD => bytes.extend_from_slice(new),
            _ => {}
        });
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_before_the_colon_and_end_with_the_head() {
        let names =
            names(b"POST /x:Y HTTP/1.1\r\nhost: a:1\r\nX-Mine:2\r\n\r\n{\"Not\": 1}\r\nNor: this\r\n");
        let mut spelled: Vec<_> = names.into_values().collect();
        spelled.sort();
        assert_eq!(spelled, ["X-Mine", "host"]);
    }
}
