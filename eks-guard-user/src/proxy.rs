//! The proxy: takes redirected connections, decides on every request, forwards what is allowed, streams the reply back.

mod admission;
mod body;
mod connection;
mod context;
mod forward;
mod framing;
mod headers;
mod listener;
mod look;
mod origin;
mod record;
mod reply;
mod respond;
mod review;
mod served;
mod service;
mod strict_http1;
mod turned_away;
pub(crate) mod upstream;
mod workload;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use eks_guard_core::policy::Snapshot;
use eks_guard_core::reason::Refusal;
use http::uri::InvalidUri;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::tls::downstream::ServerNames;
use crate::upstream::{CredentialSource, Endpoint};

pub use listener::{Listener, Sockets};
pub use origin::{CallerFuture, LocalOrigins, Origin, OriginFuture, Origins};
pub use workload::{Place, Workload, Workloads};

use record::ConnectionLog;
use served::Served;
use upstream::UpstreamPool;

/// Bounds of everything an agent can make the proxy hold or wait for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Downstream connections of one workload at once.
    pub connections: usize,
    /// Downstream connections of all workloads together at once.
    pub all_connections: usize,
    /// Short requests of one workload under way at once.
    pub short_requests: usize,
    /// Watches and log follows of one workload open at once.
    pub streams: usize,
    /// Bytes of request bodies of one agent in memory at once.
    pub body_memory: usize,
    /// Bytes of request bodies of all agents in memory at once: more than one agent can take.
    pub all_body_memory: usize,
    /// Longest request head, HTTP/1.1 and HTTP/2 (bytes).
    pub head_bytes: u32,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for an HTTP/1.1 request head, idle time before it included.
    pub head: Duration,
    /// Time for a request body.
    pub body: Duration,
    /// Time to reach one address of the API server, TLS included.
    pub connect: Duration,
    /// Time until the API server begins to answer a short request; its own deadline is 60 s.
    pub response_head: Duration,
    /// Objects that are looked at for decisions at once.
    pub looks: usize,
    /// Time for one look at an object; the API server gives a change, webhooks included, 34 s.
    pub look: Duration,
    /// Time that requests under way get when the guard stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            all_connections: 8192,
            short_requests: 400,
            streams: 1000,
            body_memory: 16 << 20,
            all_body_memory: 64 << 20,
            head_bytes: 64 << 10,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(75),
            body: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            response_head: Duration::from_secs(65),
            looks: 16,
            look: Duration::from_secs(40),
            drain: Duration::from_secs(10),
        }
    }
}

/// What a proxy is built from.
pub struct ProxyParts {
    /// The policy snapshot in force; replaced as a whole.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The API server.
    pub endpoint: Endpoint,
    /// What the guard presents to it.
    pub credentials: Arc<dyn CredentialSource>,
    /// TLS towards the agent.
    pub tls: Arc<ServerConfig>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// A proxy could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The kubeconfig's server is not a host and port.
    #[error("reading the host and port of the API server")]
    Authority(#[from] InvalidUri),
}

/// The proxy: one for all listeners and workloads of this process.
pub struct Proxy {
    snapshot: Arc<ArcSwap<Snapshot>>,
    tls: Arc<ServerConfig>,
    names: ServerNames,
    metrics: Arc<Metrics>,
    limits: Limits,
    clock: fn() -> Timestamp,
    connection_log: ConnectionLog,
    connection_slots: Arc<Semaphore>,
    body_memory: Arc<Semaphore>,
    look_slots: Semaphore,
    upstream: Arc<UpstreamPool>,
    served: Served,
}

impl Proxy {
    /// Joins the parts. Nothing is connected and nothing listens yet.
    ///
    /// # Errors
    /// The endpoint's authority is not one.
    pub fn new(parts: ProxyParts) -> Result<Arc<Self>, ProxyError> {
        let limits = parts.limits;
        let names = ServerNames::of(&parts.endpoint);
        let metrics = parts.metrics;
        let upstream = Arc::new(UpstreamPool::new(
            parts.endpoint,
            parts.credentials,
            Arc::clone(&metrics),
            limits.connect,
            limits.response_head,
        )?);
        Ok(Arc::new(Self {
            snapshot: parts.snapshot,
            tls: parts.tls,
            names,
            connection_log: ConnectionLog::default(),
            connection_slots: Arc::new(Semaphore::new(limits.all_connections)),
            look_slots: Semaphore::new(limits.looks),
            body_memory: Arc::new(Semaphore::new(limits.all_body_memory)),
            served: Served::new(Arc::clone(&upstream)),
            upstream,
            metrics,
            clock: parts.clock,
            limits,
        }))
    }

    /// Asks the API server for `/version` with the guard's own credential, so that a wrong CA, an unreachable server
    /// or a refused credential is known before an agent starts.
    ///
    /// # Errors
    /// The refusal an agent would have received.
    pub async fn check_upstream(&self) -> Result<(), Refusal> {
        self.upstream.probe().await
    }

    /// The way to the API server, for what the guard itself asks.
    pub(crate) fn upstream(&self) -> &Arc<UpstreamPool> {
        &self.upstream
    }
}
