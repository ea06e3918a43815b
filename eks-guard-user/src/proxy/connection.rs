//! One downstream connection: flow, handshake, requests. What fails here affects no other connection.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eks_guard_core::record::Caller;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::drain::Tasks;
use crate::ebpf::original_dst::Downstream;
use crate::metrics::ConnectionOutcome;
use crate::proxy::context::Connection;
use crate::proxy::record::connection_refused;
use crate::proxy::reply::ReplyBody;
use crate::proxy::service;
use crate::proxy::strict_http1::StrictHttp1;
use crate::proxy::turned_away::{Received, TurnedAway};
use crate::proxy::{Origin, Place, Proxy, Workload};
use crate::tls::ALPN_H2;

/// As Go's server answers plain HTTP on a TLS port.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// First byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 22;

/// HTTP/2 bounds of the agent's side: streams, window of a request body, bytes of one reply waiting to be sent.
const MAX_STREAMS: u32 = 250;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BUFFER: usize = 64 << 10;

/// An agent that vanished without a word is noticed by pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one accepted connection to its end.
pub(crate) async fn serve(
    proxy: Arc<Proxy>,
    place: Place,
    tasks: Tasks,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let (origin, workload) = match vouched(&place, &stream, peer).await {
        Ok(vouched) => vouched,
        Err(fault) => return fault.report(&proxy, &place.resident, None),
    };
    let _slots = match slots(&proxy, &workload) {
        Ok(slots) => slots,
        Err(fault) => return fault.report(&proxy, &workload, None),
    };
    let _open = OpenConnection::count(&proxy);
    let Origin { flow, caller } = origin;
    let (caller, tls) = tokio::join!(caller, handshake(&proxy, stream));
    let tls = match tls {
        Ok(tls) => tls,
        Err(fault) => return fault.report(&proxy, &workload, Some(&caller)),
    };
    proxy.metrics.connection(ConnectionOutcome::Served);
    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    let original_dst = SocketAddr::new(
        flow.original_dst.0.ip().to_canonical(),
        flow.original_dst.0.port(),
    );
    let connection = Arc::new(Connection {
        workload,
        original_dst: original_dst.ip(),
        original_destination: original_dst.to_string(),
        caller,
        drain: tasks.drain_token().clone(),
    });
    let served = if is_h2 {
        serve_h2(&proxy, &connection, tasks, tls).await
    } else {
        serve_h1(&proxy, &connection, tls).await
    };
    if let Err(fault) = served {
        fault.report(&proxy, &connection.workload, Some(&connection.caller));
    }
}

/// Who connected, in the kernel's word: the flow entry, and the workload of its cgroup.
async fn vouched(
    place: &Place,
    stream: &TcpStream,
    peer: SocketAddr,
) -> Result<(Origin, Arc<Workload>), Fault> {
    let origin = match Downstream::of(stream, peer) {
        Some(downstream) => place.origins.take(downstream).await,
        None => None,
    };
    let origin = origin.ok_or_else(|| Fault {
        outcome: ConnectionOutcome::NoFlow,
        reason: "NoFlow",
        message: format!("a connection from {peer} was not redirected by the kernel"),
    })?;
    let workload = place.workloads.of(&origin.flow).ok_or_else(|| Fault {
        outcome: ConnectionOutcome::NoWorkload,
        reason: "NoWorkload",
        message: format!(
            "a connection from {peer} comes from cgroup {}, which is no agent's",
            origin.flow.cgroup
        ),
    })?;
    Ok((origin, workload))
}

/// The right to be connected: one of the agent's own, and one of those that all agents share, of which no agent can have all.
fn slots(proxy: &Proxy, workload: &Workload) -> Result<[OwnedSemaphorePermit; 2], Fault> {
    let taken = |slots: &Arc<Semaphore>, message: String| {
        Arc::clone(slots).try_acquire_owned().map_err(|_| Fault {
            outcome: ConnectionOutcome::OverLimit,
            reason: "TooManyConnections",
            message,
        })
    };
    let limits = &proxy.limits;
    let own = format!("more than {} connections at once", limits.connections);
    let all = format!(
        "more than {} connections of all agents at once",
        limits.all_connections
    );
    Ok([
        taken(&workload.connection_slots, own)?,
        taken(&proxy.connection_slots, all)?,
    ])
}

/// Why a connection ended badly.
struct Fault {
    outcome: ConnectionOutcome,
    reason: &'static str,
    message: String,
}

impl Fault {
    /// Counts and records it.
    fn report(self, proxy: &Proxy, workload: &Workload, caller: Option<&Caller>) {
        connection_refused(proxy, workload, self.outcome, self.reason, self.message, caller);
    }

    fn handshake(message: String) -> Self {
        Self {
            outcome: ConnectionOutcome::Handshake,
            reason: "HandshakeFailed",
            message,
        }
    }
}

async fn handshake(proxy: &Proxy, stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
    let deadline = proxy.limits.handshake;
    timeout(deadline, accept_tls(proxy, stream))
        .await
        .unwrap_or_else(|_| {
            let message = format!("no TLS handshake within {} s", deadline.as_secs());
            Err(Fault {
                outcome: ConnectionOutcome::Timeout,
                reason: "HandshakeTimeout",
                message,
            })
        })
}

async fn accept_tls(proxy: &Proxy, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
    stream
        .set_nodelay(true)
        .map_err(|error| Fault::handshake(error.to_string()))?;
    let mut first = [0];
    let peeked = stream
        .peek(&mut first)
        .await
        .map_err(|error| Fault::handshake(error.to_string()))?;
    if peeked == 1 && first[0] != TLS_HANDSHAKE {
        if first[0].is_ascii_uppercase() {
            answer_plain_http(&mut stream).await;
        }
        let message = "the peer does not speak TLS".to_owned();
        return Err(Fault {
            outcome: ConnectionOutcome::PlainHttp,
            reason: "NotTls",
            message,
        });
    }
    let tls = TlsAcceptor::from(Arc::clone(&proxy.tls)).accept(stream).await;
    tls.map_err(|error| Fault::handshake(error.to_string()))
}

/// Says in words what is wrong, after reading what is there: closing over unread bytes would destroy the answer.
async fn answer_plain_http(stream: &mut TcpStream) {
    let mut scratch = [0; 4096];
    match stream.try_read(&mut scratch) {
        Ok(_) | Err(_) => {}
    }
    if stream.write_all(PLAIN_HTTP).await.is_err() || stream.shutdown().await.is_err() {
        tracing::debug!("the peer closed before it was told to use TLS");
    }
}

async fn serve_h2(
    proxy: &Arc<Proxy>,
    connection: &Arc<Connection>,
    tasks: Tasks,
    tls: TlsStream<TcpStream>,
) -> Result<(), Fault> {
    let stream = TurnedAway::new(tls, || not_http2(proxy, connection));
    let received = stream.received();
    let served = http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(proxy.limits.head_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| answer(Arc::clone(proxy), Arc::clone(connection), request)),
        );
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = connection.drain.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        () = no_preface(proxy.limits.head, received) => return Err(Fault {
            outcome: ConnectionOutcome::Timeout,
            reason: "RequestTimeout",
            message: format!("no HTTP/2 preface within {} s", proxy.limits.head.as_secs()),
        }),
    };
    result.or_else(protocol_fault)
}

/// Ends when the preface has not come in time. The library waits for it for ever; behind it, pings find who is silent.
async fn no_preface(limit: Duration, received: Received) {
    sleep(limit).await;
    if received.has_preface() {
        std::future::pending::<()>().await;
    }
}

/// The library turned a stream away, and nobody else will count and record it.
fn not_http2(proxy: &Proxy, connection: &Connection) {
    let message =
        "the headers of an HTTP/2 stream are no request, or are too long; the stream was reset".to_owned();
    let fault = Fault {
        outcome: ConnectionOutcome::Protocol,
        reason: "RequestMalformed",
        message,
    };
    fault.report(proxy, &connection.workload, Some(&connection.caller));
}

async fn serve_h1(
    proxy: &Arc<Proxy>,
    connection: &Arc<Connection>,
    tls: TlsStream<TcpStream>,
) -> Result<(), Fault> {
    let head_bytes = usize::try_from(proxy.limits.head_bytes).unwrap_or(usize::MAX);
    let stream = StrictHttp1::new(tls, head_bytes);
    let seen = stream.seen();
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(proxy.limits.head)
        .max_header_size(head_bytes)
        .max_buf_size(head_bytes.max(MIN_H1_BUFFER))
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| answer(Arc::clone(proxy), Arc::clone(connection), request)),
        );
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = connection.drain.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    match result {
        Err(error) if error.is_timeout() && !seen.is_unfinished() => Ok(()),
        result => result.or_else(protocol_fault),
    }
}

/// Smallest buffer hyper takes.
const MIN_H1_BUFFER: usize = 8192;

async fn answer(
    proxy: Arc<Proxy>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    Ok(service::handle(proxy, connection, request).await)
}

/// Peers that close are no fault; peers that cannot be understood or are too slow are.
fn protocol_fault(error: hyper::Error) -> Result<(), Fault> {
    let (outcome, reason) = if error.is_timeout() {
        (ConnectionOutcome::Timeout, "RequestTimeout")
    } else if error.is_parse() || is_broken_http2(&error) {
        (ConnectionOutcome::Protocol, "RequestMalformed")
    } else {
        tracing::debug!(%error, "downstream connection ended");
        return Ok(());
    };
    Err(Fault {
        outcome,
        reason,
        message: error.to_string(),
    })
}

/// Whether the HTTP/2 library ended the connection for what the peer sent.
fn is_broken_http2(error: &hyper::Error) -> bool {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(h2::Error::is_library)
}

struct OpenConnection<'a>(&'a Proxy);

impl<'a> OpenConnection<'a> {
    fn count(proxy: &'a Proxy) -> Self {
        proxy.metrics.connections_open.inc();
        Self(proxy)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.metrics.connections_open.dec();
    }
}
