use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use super::testing::{SHORT, send, send_and_end};
use super::*;

/// Longer than any test may take.
const LONG: Patience = Patience { head: Duration::from_secs(600), body: Duration::from_secs(600) };

/// A port that answers with the result of reading the body.
async fn listen(patience: Patience) -> SocketAddr {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    tokio::spawn(async move {
        let stopping = CancellationToken::new();
        serve(port, &stopping, patience, |stream, _| {
            let answer = move |request: Request| async move {
                let body = read(request.into_body(), 10, patience).await;
                Response::new(Body::from(format!("{body:?}")))
            };
            (stream, answer)
        })
        .await;
    });
    address
}

#[tokio::test]
async fn half_a_head_and_an_idle_connection_are_closed_after_a_while() {
    let address = listen(Patience { head: SHORT.head, ..LONG }).await;
    assert_eq!(send(address, b"GET / HTTP/1.1\r\nhost: lo").await, "");
    assert_eq!(send(address, b"").await, "");
    let idle = send(address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(idle.ends_with("Ok(b\"\")"), "{idle}");
}

#[tokio::test]
async fn a_body_that_does_not_go_on_is_given_up() {
    let address = listen(Patience { body: SHORT.body, ..LONG }).await;
    let answer = send(address, b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc").await;
    assert!(answer.ends_with("Err(Silent)"), "{answer}");
}

#[tokio::test]
async fn half_open_connections_do_not_block_the_others() {
    let address = listen(LONG).await;
    let mut open = Vec::new();
    for half in [&b"GET / HT"[..], b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc"] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(half).await.unwrap();
            open.push(stream);
        }
    }
    let whole = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(send(address, whole).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_body_is_whole_or_too_long_or_cut_short() {
    let address = listen(LONG).await;
    let body = |head: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}\r\n\r\n{body}")
            .into_bytes()
    };
    for (head, sent, expected) in [
        ("content-length: 10", "0123456789", "Ok(b\"0123456789\")"),
        ("content-length: 11", "0123456789a", "Err(TooLong)"),
        ("transfer-encoding: chunked", "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", "Ok(b\"0123456789\")"),
        ("transfer-encoding: chunked", "6\r\n012345\r\n6\r\n6789ab\r\n0\r\n\r\n", "Err(TooLong)"),
        ("transfer-encoding: chunked", "zz\r\n", "Err(CutShort)"),
    ] {
        let answer = send(address, &body(head, sent)).await;
        assert!(answer.ends_with(expected), "{head}: {answer}");
    }
    // A client that is gone gets no answer, or this one.
    let answer = send_and_end(address, &body("content-length: 10", "012")).await;
    assert!(answer.is_empty() || answer.ends_with("Err(CutShort)"), "{answer}");
    let parts = futures::stream::iter([Ok(Bytes::from_static(b"012")), Err(std::io::Error::other("ended"))]);
    assert_eq!(read(Body::from_stream(parts), 10, LONG).await, Err(Unread::CutShort));
}

#[tokio::test]
async fn a_port_that_stops_ends_idle_connections_and_answers_those_at_work() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let (stopping, begun) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let served = tokio::spawn({
        let (stopping, begun) = (stopping.clone(), begun.clone());
        async move {
            let stopped = stopping.clone();
            serve(port, &stopping, LONG, move |stream, _| {
                let (stopped, begun) = (stopped.clone(), begun.clone());
                let answer = move |_: Request| {
                    let (stopped, begun) = (stopped.clone(), begun.clone());
                    async move {
                        begun.fetch_add(1, Ordering::Relaxed);
                        stopped.cancelled().await;
                        Response::new(Body::from("done"))
                    }
                };
                (stream, answer)
            })
            .await;
        }
    });
    let idle = TcpStream::connect(address).await.unwrap();
    let at_work = tokio::spawn(send(address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    while begun.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    stopping.cancel();
    assert!(at_work.await.unwrap().ends_with("done"));
    timeout(Duration::from_secs(30), served).await.unwrap().unwrap();
    drop(idle);
}
