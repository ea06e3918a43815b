//! One new connection to the API server: TCP, TLS against the pinned CA and name, then h2 or HTTP/1.1 as it chose.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use eks_guard_core::reason::Reason;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::drain::Tasks;
use crate::metrics::Metrics;
use crate::proxy::upstream::Class;
use crate::proxy::upstream::lease::H2Connection;
use crate::tls::ALPN_H2;
use crate::upstream::Endpoint;

/// Flow-control window of one stream. A connection's window is that of all its streams together, so that a reply
/// nobody reads cannot hold up the others.
const SHORT_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 256 << 10;

/// Streams per connection; kube-apiserver takes 100.
const SHORT_STREAMS: u32 = 32;
const LONG_STREAMS: u32 = 90;

const MAX_FRAME: u32 = 64 << 10;
const MAX_REPLY_HEADERS: u32 = 64 << 10;

/// Load balancers forget connections that are idle for 350 s; a dead one is noticed within one period.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Why no connection could be made.
#[derive(Clone, Debug)]
pub(crate) struct DialError {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// A connection as the API server chose it.
pub(super) enum Dialed {
    H2(Arc<H2Connection>),
    H1(http1::SendRequest<Full<Bytes>>),
}

/// Makes connections that all present the same client certificate.
pub(super) struct Dialer {
    endpoint: Arc<Endpoint>,
    addresses: Arc<ArcSwap<Vec<SocketAddr>>>,
    tls: TlsConnector,
    connect: Duration,
    tasks: Tasks,
    metrics: Arc<Metrics>,
}

impl Dialer {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        addresses: &Arc<ArcSwap<Vec<SocketAddr>>>,
        tls: Arc<ClientConfig>,
        connect: Duration,
        tasks: Tasks,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let (endpoint, metrics) = (Arc::clone(endpoint), Arc::clone(metrics));
        Arc::new(Self {
            endpoint,
            addresses: Arc::clone(addresses),
            tls: TlsConnector::from(tls),
            connect,
            tasks,
            metrics,
        })
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Tries the addresses in turn. A server that is not the one of the kubeconfig weighs more than one that is away.
    pub(super) async fn dial(&self, class: Class) -> Result<Dialed, DialError> {
        let mut worst: Option<DialError> = None;
        for &address in self.addresses.load_full().iter() {
            let error = match timeout(self.connect, self.dial_address(address, class)).await {
                Ok(Ok(dialed)) => return Ok(dialed),
                Ok(Err(error)) => error,
                Err(_) => unreachable(
                    address,
                    &format!("no connection within {} s", self.connect.as_secs()),
                ),
            };
            if worst
                .as_ref()
                .is_none_or(|worst| worst.reason != Reason::UpstreamUntrusted)
            {
                worst = Some(error);
            }
        }
        Err(worst.unwrap_or_else(|| DialError {
            reason: Reason::UpstreamUnreachable,
            message: "The API server cannot be reached: the kubeconfig's host has no address.".to_owned(),
        }))
    }

    async fn dial_address(&self, address: SocketAddr, class: Class) -> Result<Dialed, DialError> {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|error| unreachable(address, &error.to_string()))?;
        tcp.set_nodelay(true)
            .map_err(|error| unreachable(address, &error.to_string()))?;
        let tls = self.tls.connect(self.endpoint.server_name.clone(), tcp).await;
        let tls = tls.map_err(|error| tls_error(address, &error))?;
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_H2);
        let dialed = if is_h2 {
            self.start_h2(tls, class).await
        } else {
            self.start_h1(tls).await
        };
        dialed.map_err(|error| unreachable(address, &error.to_string()))
    }

    async fn start_h2(&self, tls: TlsStream<TcpStream>, class: Class) -> hyper::Result<Dialed> {
        let (window, streams) = match class {
            Class::Short => (SHORT_WINDOW, SHORT_STREAMS),
            Class::Stream => (STREAM_WINDOW, LONG_STREAMS),
        };
        let (sender, mut connection) = http2::Builder::new(self.tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(window * streams)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_REPLY_HEADERS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(tls))
            .await?;
        let allowed = Arc::new(AtomicUsize::new(usize::MAX));
        let seen = Arc::clone(&allowed);
        self.run(async move {
            poll_fn(|cx| {
                let done = Pin::new(&mut connection).poll(cx);
                seen.store(connection.current_max_send_streams(), Ordering::Relaxed);
                done
            })
            .await
        });
        let streams = usize::try_from(streams).unwrap_or(usize::MAX);
        Ok(Dialed::H2(Arc::new(H2Connection::new(sender, streams, allowed))))
    }

    async fn start_h1(&self, tls: TlsStream<TcpStream>) -> hyper::Result<Dialed> {
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(tls)).await?;
        self.run(connection);
        Ok(Dialed::H1(sender))
    }

    fn run(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let metrics = Arc::clone(&self.metrics);
        metrics.upstream_open.inc();
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
            metrics.upstream_open.dec();
        });
    }
}

fn unreachable(address: SocketAddr, cause: &str) -> DialError {
    DialError {
        reason: Reason::UpstreamUnreachable,
        message: format!("The API server cannot be reached at {address}: {cause}; retry in a moment."),
    }
}

/// Tells a server that is somebody else from one that refuses the guard's certificate and one that is away.
fn tls_error(address: SocketAddr, error: &std::io::Error) -> DialError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (reason, message) = match tls {
        None => return unreachable(address, &error.to_string()),
        Some(rustls::Error::AlertReceived(alert)) => (
            Reason::UpstreamCredential,
            format!(
                "The API server at {address} refused the guard's TLS handshake ({alert:?}); the operator must check the kubeconfig's client certificate."
            ),
        ),
        Some(error) => (
            Reason::UpstreamUntrusted,
            format!(
                "The server at {address} is not the API server of the kubeconfig: {error}; the operator must check the kubeconfig's certificate authority and server."
            ),
        ),
    };
    DialError { reason, message }
}
