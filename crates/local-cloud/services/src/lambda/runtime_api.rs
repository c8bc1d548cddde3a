//! The Runtime API (runtimes-api). Each function process has an HTTP server of its own on the loopback
//! interface, so that its address is `host:port`, as on AWS.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cloud_core::port::{self, Patience, Unread, local};
use cloud_core::{Cloud, lock};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Answer of a synchronous invocation: 6 MB, and 100 bytes for the envelope (gettingstarted-limits; the figure
/// is that of Lambda's error message).
pub(super) const MAX_RESPONSE_BYTES: usize = 6_291_556;

/// One process's side of the Runtime API.
#[derive(Debug)]
pub(super) struct Worker {
    tasks: mpsc::Sender<Task>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Task>>,
    current: Mutex<Option<(String, oneshot::Sender<Reply>)>>,
    phase: watch::Sender<Phase>,
}

/// How far the initialisation of the process is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Starting,
    /// The process asked for its first event.
    Ready,
    /// The process reported an error.
    Failed(Bytes),
}

/// An event for the function.
#[derive(Debug)]
pub(super) struct Task {
    pub request_id: String,
    pub arn: String,
    pub deadline_ms: i64,
    pub trace_id: String,
    /// JSON.
    pub client_context: Option<String>,
    pub payload: Bytes,
    pub reply: oneshot::Sender<Reply>,
}

/// The function's reply to an event.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Answer(Bytes),
    Error(Bytes),
    TooLarge,
}

impl Worker {
    pub fn new() -> Self {
        let (tasks, waiting) = mpsc::channel(1);
        Self {
            tasks,
            waiting: tokio::sync::Mutex::new(waiting),
            current: Mutex::default(),
            phase: watch::Sender::new(Phase::Starting),
        }
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Hands over the next event. False while another one still waits, because the process no longer asks.
    pub fn give(&self, task: Task) -> bool {
        self.tasks.try_send(task).is_ok()
    }

    /// Whether the process has fetched this event.
    pub fn took(&self, request_id: &str) -> bool {
        lock(&self.current).as_ref().is_some_and(|(current, _)| current == request_id)
    }

    fn finish(&self, request_id: &str, reply: Reply) -> bool {
        let mut current = lock(&self.current);
        match current.take() {
            Some((id, sender)) if id == request_id => sender.send(reply).is_ok(),
            other => {
                *current = other;
                false
            }
        }
    }
}

/// Timeout of a function (gettingstarted-limits). Its runtime may keep the connection open meanwhile, and must
/// not find it closed when it answers.
const MAX_WORK: Duration = Duration::from_secs(900);

/// Starts the server of a worker; returns its `host:port`, and a guard that ends it.
pub(super) async fn serve(cloud: &Cloud, worker: Arc<Worker>) -> std::io::Result<(String, DropGuard)> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let Patience { head, body } = cloud.settings.patience;
    let patience = Patience { head: head + MAX_WORK, body };
    let ended = cloud.stopping.child_token();
    let guard = ended.clone().drop_guard();
    tokio::spawn(async move {
        port::serve(listener, &ended, patience, |stream, _| {
            let (worker, ended) = (worker.clone(), ended.clone());
            (stream, move |request| answer(worker.clone(), ended.clone(), request, patience))
        })
        .await;
    });
    Ok((address, guard))
}

/// Answers a request, unless the process is ended first.
async fn answer(
    worker: Arc<Worker>,
    ended: CancellationToken,
    request: Request,
    patience: Patience,
) -> Response {
    tokio::select! {
        response = route(&worker, request, patience) => response,
        () = ended.cancelled() => gone(),
    }
}

async fn route(worker: &Worker, request: Request, patience: Patience) -> Response {
    let (head, body) = request.into_parts();
    // No web page may take an event from a function, or answer in its place.
    if let Err(refused) = local::host(&head).and_then(|()| local::page(&head.headers)) {
        return refuse(refused.status(), "Forbidden", &refused.to_string());
    }
    // Reads all of a body that is too long, so that the function gets the answer that it is too long.
    let body = match port::read(body, usize::MAX, patience).await {
        Ok(body) => body,
        Err(Unread::Silent) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, "Timeout", "The rest of the body did not come.");
        }
        Err(Unread::CutShort | Unread::TooLong) => {
            let message = "The body ends before its announced length.";
            return refuse(StatusCode::BAD_REQUEST, "Truncated", message);
        }
    };
    let path = head.uri.path().strip_prefix("/2018-06-01/runtime/").unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    match (&head.method, parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(worker).await,
        (&Method::POST, ["invocation", request, "response"]) => response(worker, request, body),
        (&Method::POST, ["invocation", request, "error"]) => finish(worker, request, Reply::Error(body)),
        (&Method::POST, ["init", "error"]) => {
            worker.phase.send_replace(Phase::Failed(body));
            accepted()
        }
        _ => refuse(StatusCode::NOT_FOUND, "NotFound", "The Runtime API has no such path."),
    }
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, json!({ "errorType": kind, "errorMessage": message }).to_string()).into_response()
}

fn gone() -> Response {
    refuse(StatusCode::FORBIDDEN, "Forbidden", "This process was ended.")
}

async fn next(worker: &Worker) -> Response {
    worker.phase.send_replace(Phase::Ready);
    let Some(task) = worker.waiting.lock().await.recv().await else {
        return gone();
    };
    let mut headers = HeaderMap::new();
    let mut header = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    header("content-type", "application/json");
    header("lambda-runtime-aws-request-id", &task.request_id);
    header("lambda-runtime-deadline-ms", &task.deadline_ms.to_string());
    header("lambda-runtime-invoked-function-arn", &task.arn);
    header("lambda-runtime-trace-id", &task.trace_id);
    if let Some(context) = &task.client_context {
        header("lambda-runtime-client-context", context);
    }
    *lock(&worker.current) = Some((task.request_id, task.reply));
    (headers, task.payload).into_response()
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, json!({ "status": "OK" }).to_string()).into_response()
}

fn finish(worker: &Worker, request: &str, reply: Reply) -> Response {
    let too_large = reply == Reply::TooLarge;
    match (worker.finish(request, reply), too_large) {
        (true, false) => accepted(),
        (true, true) => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Function.ResponseSizeTooLarge",
            "The response is larger than a synchronous invocation allows.",
        ),
        (false, _) => refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
    }
}

fn response(worker: &Worker, request: &str, body: Bytes) -> Response {
    let reply = if body.len() > MAX_RESPONSE_BYTES { Reply::TooLarge } else { Reply::Answer(body) };
    finish(worker, request, reply)
}

#[cfg(test)]
mod tests {
    use cloud_core::Settings;
    use cloud_core::port::testing::{SHORT, send, send_and_end};

    use super::*;

    fn task(reply: oneshot::Sender<Reply>) -> Task {
        Task {
            request_id: "r".into(),
            arn: "arn".into(),
            deadline_ms: 0,
            trace_id: "t".into(),
            client_context: None,
            payload: Bytes::from_static(b"{}"),
            reply,
        }
    }

    #[tokio::test]
    async fn a_process_that_waits_for_an_event_waits_on_and_one_that_stops_within_an_answer_does_not() {
        let settings = Settings { patience: SHORT, ..Settings::for_tests() };
        let cloud = crate::testing::open(
            settings,
            cloud_core::clock::Clock::system(),
            cloud_core::random::Random::seeded(1),
        )
        .unwrap();
        let worker = Arc::new(Worker::new());
        let (address, guard) = serve(&cloud, worker.clone()).await.unwrap();
        let address: std::net::SocketAddr = address.parse().unwrap();
        let ask = move |request: &'static str, more: &'static str| async move {
            let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
            send(address, format!("{head}{more}\r\n").as_bytes()).await
        };
        const NEXT: &str = "GET /2018-06-01/runtime/invocation/next";
        let waiting = tokio::spawn(ask(NEXT, ""));
        worker.phase().wait_for(|phase| *phase == Phase::Ready).await.unwrap();
        // Takes as long as the port is patient with a body.
        let silent = ask("POST /2018-06-01/runtime/invocation/r/response", "content-length: 9\r\n").await;
        assert!(silent.starts_with("HTTP/1.1 408"), "{silent}");
        let (reply, _answered) = oneshot::channel();
        assert!(worker.give(task(reply)));
        assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(ask("GET /2018-06-01/runtime/other", "").await.starts_with("HTTP/1.1 404"));
        // An ended process gets no event.
        let waiting = tokio::spawn(ask(NEXT, ""));
        while worker.waiting.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        drop(guard);
        assert!(waiting.await.unwrap().starts_with("HTTP/1.1 403"));
    }

    #[tokio::test]
    async fn a_web_page_takes_no_event_from_a_function_and_answers_none() {
        let cloud = crate::testing::cloud();
        let worker = Arc::new(Worker::new());
        let (address, _guard) = serve(&cloud, worker.clone()).await.unwrap();
        let address = address.parse().unwrap();
        let (reply, mut answered) = oneshot::channel();
        assert!(worker.give(task(reply)));
        let ask = async |request: &str, headers: &str| {
            let head = format!("{request} HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n");
            send(address, format!("{head}{headers}\r\n\r\n{{}}").as_bytes()).await
        };
        const NEXT: &str = "GET /2018-06-01/runtime/invocation/next";
        const ANSWER: &str = "POST /2018-06-01/runtime/invocation/r/response";
        let here = format!("host: {address}");
        let evil = [
            "host: evil.example",
            "host: localhost\r\norigin: null",
            "host: localhost\r\nsec-fetch-site: cross-site",
        ];
        for headers in evil {
            for request in [NEXT, "POST /2018-06-01/runtime/init/error"] {
                assert!(ask(request, headers).await.starts_with("HTTP/1.1 403"), "{request} {headers}");
            }
        }
        assert_eq!(*worker.phase().borrow(), Phase::Starting);
        assert!(ask(NEXT, &here).await.contains("lambda-runtime-aws-request-id: r"));
        for headers in evil {
            assert!(ask(ANSWER, headers).await.starts_with("HTTP/1.1 403"), "{headers}");
        }
        // An answer that is cut short is none.
        let short = format!("{ANSWER} HTTP/1.1\r\n{here}\r\ncontent-length: 9\r\n\r\n{{");
        let short = send_and_end(address, short.as_bytes()).await;
        assert!(short.is_empty() || short.starts_with("HTTP/1.1 400"), "{short}");
        assert!(answered.try_recv().is_err());
        assert!(ask(ANSWER, &here).await.starts_with("HTTP/1.1 202"));
        assert_eq!(answered.await, Ok(Reply::Answer(Bytes::from_static(b"{}"))));
    }
}
