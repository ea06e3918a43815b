//! A TLS server on loopback that answers as told and remembers everything that arrived.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::testing::{Protocol, eventually, lock};
use crate::tls::ca::RunCa;
use crate::tls::downstream::server_config;
use crate::upstream::Endpoint;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// HTTP version.
    pub version: Version,
    /// HTTP method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// Every header.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Whether trailers came after the body.
    pub has_trailers: bool,
}

impl Arrived {
    /// A header's value, empty if absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

/// What the fake server does with a request.
pub enum Answer {
    /// Answers.
    Reply(Response<FakeBody>),
    /// Keeps the request open without a word.
    Never,
    /// Breaks the connection.
    Break,
    /// Says that nothing was done with the request (HTTP/2: `REFUSED_STREAM`).
    Refuse,
    /// The same after a while.
    RefuseAfter(Duration),
}

/// A reply body: one piece, or pieces as a test sends them.
pub enum FakeBody {
    /// One piece, then the end.
    Whole(Option<Bytes>),
    /// Ends when the sender is dropped, breaks on an error.
    Pieces(mpsc::Receiver<Result<Bytes, io::Error>>),
}

impl FakeBody {
    /// A body of pieces, and the end that feeds it.
    #[must_use]
    pub fn pieces() -> (mpsc::Sender<Result<Bytes, io::Error>>, Self) {
        let (pieces_tx, pieces_rx) = mpsc::channel(4);
        (pieces_tx, Self::Pieces(pieces_rx))
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }
}

/// A JSON reply with status 200.
#[must_use]
pub fn json(text: &str) -> Answer {
    status(200, "application/json", text)
}

/// A reply with a status and a content type.
#[must_use]
pub fn status(code: u16, content_type: &str, text: &str) -> Answer {
    let mut response = Response::new(FakeBody::Whole(Some(Bytes::copy_from_slice(text.as_bytes()))));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert("content-type", value);
    }
    Answer::Reply(response)
}

type Handler = dyn Fn(&Arrived) -> Answer + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    arrived: watch::Sender<Vec<Arrived>>,
    connections: Mutex<usize>,
    /// Connections that will be told that the server goes away, before it has done anything for them.
    leaving: AtomicUsize,
    /// Requests whose caller went away before the answer.
    abandoned: watch::Sender<usize>,
    alive: Mutex<CancellationToken>,
}

/// A request without an answer; dropped with its caller.
struct Unanswered(Arc<Shared>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.abandoned.send_modify(|abandoned| *abandoned += 1);
    }
}

impl Shared {
    fn break_connections(&self) {
        let alive = std::mem::take(&mut *lock(&self.alive));
        alive.cancel();
    }
}

/// The server. Dropping it breaks its connections.
pub struct FakeApiServer {
    /// Where it listens, and its own CA.
    pub endpoint: Endpoint,
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl FakeApiServer {
    /// Starts a server that speaks one protocol.
    ///
    /// # Panics
    /// Loopback is not there.
    pub async fn start(
        protocol: Protocol,
        handler: impl Fn(&Arrived) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback is there");
        let address = listener.local_addr().expect("a bound socket has an address");
        let ca = RunCa::generate().expect("the provider makes keys");
        let endpoint = endpoint(address, &ca);
        let mut tls = (*server_config(&ca, &endpoint).expect("the names are fine")).clone();
        tls.alpn_protocols = vec![protocol.alpn().to_vec()];
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            arrived: watch::channel(Vec::new()).0,
            connections: Mutex::new(0),
            leaving: AtomicUsize::new(0),
            abandoned: watch::channel(0).0,
            alive: Mutex::new(CancellationToken::new()),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(accept(
            listener,
            Arc::new(tls),
            Arc::clone(&shared),
            tasks.clone(),
        ));
        Self {
            endpoint,
            shared,
            tasks,
        }
    }

    /// What arrived so far.
    #[must_use]
    pub fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.borrow().clone()
    }

    /// Waits until this many requests arrived.
    pub async fn wait_for(&self, count: usize) -> Vec<Arrived> {
        let mut changes = self.shared.arrived.subscribe();
        let what = format!("{count} requests upstream");
        let waited = eventually(&what, changes.wait_for(|arrived| arrived.len() >= count)).await;
        waited.map(|arrived| arrived.clone()).unwrap_or_default()
    }

    /// Waits until the callers of this many requests went away before an answer.
    pub async fn wait_for_abandoned(&self, count: usize) {
        let mut changes = self.shared.abandoned.subscribe();
        let what = format!("{count} requests abandoned upstream");
        let waited = eventually(&what, changes.wait_for(|abandoned| *abandoned >= count)).await;
        drop(waited);
    }

    /// The next connections (HTTP/2) are told with their first request that the server goes away, and that it has done
    /// nothing with that request.
    pub fn leave(&self, connections: usize) {
        self.shared.leaving.store(connections, Ordering::SeqCst);
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }

    /// Breaks every connection; the next ones are served again, as after a restart.
    pub fn restart(&self) {
        self.shared.break_connections();
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.restart();
        self.tasks.close();
    }
}

fn endpoint(address: SocketAddr, ca: &RunCa) -> Endpoint {
    let root = CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).expect("the CA writes PEM");
    Endpoint {
        url: format!("https://{address}"),
        authority: address.to_string(),
        path_prefix: String::new(),
        addresses: vec![address],
        server_name: ServerName::IpAddress(address.ip().into()),
        roots: vec![root],
    }
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>, tasks: TaskTracker) {
    while let Ok((stream, _)) = listener.accept().await {
        // Head and body of an answer are two writes, of which the second would wait for the other side's word.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let connection = {
            let mut connections = lock(&shared.connections);
            *connections += 1;
            *connections - 1
        };
        let alive = lock(&shared.alive).clone();
        let serving = serve(stream, Arc::clone(&tls), Arc::clone(&shared), connection);
        tasks.spawn(async move {
            tokio::select! {
                () = serving => {}
                () = alive.cancelled() => {}
            }
        });
    }
}

async fn serve(stream: TcpStream, tls: Arc<ServerConfig>, shared: Arc<Shared>, connection: usize) {
    let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else {
        return;
    };
    let leaving = shared
        .leaving
        .try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if leaving.is_ok() {
        if let Err(error) = go_away(&mut stream).await {
            tracing::debug!(%error, "a connection ended before it was told to");
        }
        return;
    }
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(Protocol::H2.alpn());
    let service = service_fn(move |request| answer(Arc::clone(&shared), request, connection));
    let io = TokioIo::new(stream);
    let served = if is_h2 {
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(100)
            .serve_connection(io, service)
            .await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
    if let Err(error) = served {
        tracing::debug!(%error, "fake server's connection ended");
    }
}

/// Reads as far as the first request, says GOAWAY with 0 as the last stream that was looked at, and waits for the end.
async fn go_away(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    const HEADERS: u8 = 1;
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&SETTINGS).await?;
    stream.flush().await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await?;
        if head[3] == HEADERS {
            break;
        }
    }
    stream.write_all(&GOAWAY).await?;
    stream.flush().await?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(drop)
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    connection: usize,
) -> Result<Response<FakeBody>, h2::Error> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await;
    let has_trailers = collected
        .as_ref()
        .is_ok_and(|collected| collected.trailers().is_some());
    let arrived = Arrived {
        version: head.version,
        method: head.method,
        target: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: head.headers,
        body: collected
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default(),
        connection,
        has_trailers,
    };
    let answer = (shared.handler)(&arrived);
    shared.arrived.send_modify(|all| all.push(arrived));
    match answer {
        Answer::Reply(response) => Ok(response),
        Answer::Never => {
            let _unanswered = Unanswered(shared);
            std::future::pending().await
        }
        Answer::Refuse => Err(h2::Reason::REFUSED_STREAM.into()),
        Answer::RefuseAfter(pause) => {
            sleep(pause).await;
            Err(h2::Reason::REFUSED_STREAM.into())
        }
        Answer::Break => {
            shared.break_connections();
            std::future::pending().await
        }
    }
}
