//! A stub of AWS: an HTTPS endpoint that answers every call at once and stores nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::serve::Listener;
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// The root certificates that a function trusts.
const ROOTS: &str = "crates/lambda-kit/src/roots.pem";

/// A running stub; ends when dropped.
pub(super) struct Stub {
    pub url: String,
    /// The file of root certificates for a client that is to trust it.
    pub bundle: PathBuf,
    _server: JoinSet<()>,
}

impl Stub {
    /// Starts the stub and writes its bundle into `folder`. The bundle also contains the roots of AWS, so that a
    /// client reads as many as on AWS.
    pub async fn start(project: &Path, folder: &Path) -> anyhow::Result<Self> {
        let amazon = std::fs::read_to_string(project.join(ROOTS)).context(ROOTS)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()])?.signed_by(&key, &authority)?;

        let bundle = folder.join("roots.pem");
        std::fs::write(&bundle, amazon + &authority.pem())?;

        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the stub cannot listen")?;
        let url = format!("https://{}", tcp.local_addr()?);
        let listener = Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let router = Router::new().fallback(answer).with_state(Written::default());
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Ends when the stub is dropped.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, bundle, _server: server })
    }
}

/// The last `PutItem`. `GetItem` finds its item once: a function can verify its write, and the next invocation
/// begins like the first one.
type Written = Arc<Mutex<Option<Value>>>;

/// Answers every call with success; finds no other item.
async fn answer(State(written): State<Written>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let input: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match target {
        "AWSEvents.PutEvents" => json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}),
        "DynamoDB_20120810.PutItem" => {
            *written = Some(input);
            json!({})
        }
        "DynamoDB_20120810.GetItem" => {
            let mut key = input["Key"].as_object().into_iter().flatten();
            let found = written.take_if(|put| {
                put["TableName"] == input["TableName"]
                    && key.all(|(name, value)| put["Item"].get(name) == Some(value))
            });
            found.map_or(json!({}), |put| json!({ "Item": put["Item"] }))
        }
        "DynamoDB_20120810.UpdateItem" => updated(&input),
        _ => json!({}),
    };
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.0")], answer.to_string())
}

/// The item after an update, where each placeholder has the name of its attribute.
fn updated(input: &Value) -> Value {
    let values = input["ExpressionAttributeValues"].as_object().into_iter().flatten();
    let attributes: Map<String, Value> =
        values.map(|(name, value)| (name.trim_start_matches(':').to_owned(), value.clone())).collect();
    json!({ "Attributes": attributes })
}

/// TLS connections, one handshake after the other: there is one client at a time.
struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (connection, address) = Listener::accept(&mut self.tcp).await;
            // Sends an answer without waiting for another packet.
            let _ = connection.set_nodelay(true);
            // The client reports a failed handshake.
            if let Ok(connection) = self.acceptor.accept(connection).await {
                return (connection, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
