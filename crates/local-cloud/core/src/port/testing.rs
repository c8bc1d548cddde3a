//! A client for tests of ports. It sends raw bytes.

#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Patience;

/// Short enough for tests, which wait until these times are over.
pub const SHORT: Patience = Patience { head: Duration::from_millis(200), body: Duration::from_millis(200) };

/// Sends bytes over a new connection and reads until the server closes it.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

/// Like [`send`], from a client that closes its side after the last byte.
pub async fn send_and_end(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await
}

pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}
