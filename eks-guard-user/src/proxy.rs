//! The proxy: takes redirected connections, decides on every request, forwards what is allowed, streams the reply back.

mod admission;
mod body;
mod connection;
mod context;
mod forward;
mod framing;
mod headers;
mod listener;
mod record;
mod reply;
mod respond;
mod service;
mod strict_http1;
mod turned_away;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use eks_guard_core::policy::Snapshot;
use eks_guard_core::principal::Principal;
use eks_guard_core::reason::Refusal;
use http::uri::InvalidUri;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use crate::ebpf::original_dst::FlowTable;
use crate::identity::{self, Callers};
use crate::metrics::Metrics;
use crate::recording::Recorder;
use crate::tls::downstream::ServerNames;
use crate::upstream::{CredentialSource, Endpoint};

pub use listener::Listener;

use record::ConnectionLog;
use upstream::UpstreamPool;

/// Bounds of everything an agent can make the proxy hold or wait for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Downstream connections at once.
    pub connections: usize,
    /// Short requests under way at once.
    pub short_requests: usize,
    /// Watches and log follows open at once.
    pub streams: usize,
    /// Bytes of request bodies in memory at once.
    pub body_memory: usize,
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
    /// Time that requests under way get when the guard stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            short_requests: 400,
            streams: 1000,
            body_memory: 64 << 20,
            head_bytes: 64 << 10,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(75),
            body: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            response_head: Duration::from_secs(65),
            drain: Duration::from_secs(10),
        }
    }
}

/// What a proxy is built from.
pub struct ProxyParts {
    /// The policy snapshot in force; replaced as a whole.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where events go.
    pub recorder: Arc<dyn Recorder>,
    /// The kernel's word on who connected.
    pub flows: Arc<dyn FlowTable>,
    /// The API server.
    pub endpoint: Endpoint,
    /// What the guard presents to it.
    pub credentials: Arc<dyn CredentialSource>,
    /// TLS towards the agent.
    pub tls: Arc<ServerConfig>,
    /// Agent name.
    pub agent: String,
    /// Model name, claimed.
    pub model: Option<String>,
    /// The run that events belong to.
    pub session: String,
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

/// The proxy of one run.
pub struct Proxy {
    snapshot: Arc<ArcSwap<Snapshot>>,
    recorder: Arc<dyn Recorder>,
    flows: Arc<dyn FlowTable>,
    tls: Arc<ServerConfig>,
    names: ServerNames,
    principal: Arc<Principal>,
    session: String,
    metrics: Arc<Metrics>,
    limits: Limits,
    clock: fn() -> Timestamp,
    callers: Callers,
    connection_log: ConnectionLog,
    connection_slots: Arc<Semaphore>,
    short_slots: Arc<Semaphore>,
    stream_slots: Arc<Semaphore>,
    body_memory: Arc<Semaphore>,
    upstream: UpstreamPool,
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
        let upstream = UpstreamPool::new(
            parts.endpoint,
            parts.credentials,
            Arc::clone(&metrics),
            limits.connect,
            limits.response_head,
        )?;
        Ok(Arc::new(Self {
            snapshot: parts.snapshot,
            recorder: parts.recorder,
            flows: parts.flows,
            tls: parts.tls,
            names,
            principal: Arc::new(identity::principal(&parts.agent, parts.model.as_deref())),
            session: parts.session,
            callers: Callers::default(),
            connection_log: ConnectionLog::default(),
            connection_slots: Arc::new(Semaphore::new(limits.connections)),
            short_slots: Arc::new(Semaphore::new(limits.short_requests)),
            stream_slots: Arc::new(Semaphore::new(limits.streams)),
            body_memory: Arc::new(Semaphore::new(limits.body_memory)),
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
}
