//! Counters and gauges, on one explicit registry.

use eks_guard_core::reason::Reason;
use eks_guard_core::record::Outcome;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of a downstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ConnectionOutcome {
    /// It reached the request loop.
    Served,
    /// The kernel knows no flow for it.
    NoFlow,
    /// Its cgroup is no agent's.
    NoWorkload,
    /// Too many connections at once.
    OverLimit,
    /// Plain HTTP on the TLS port.
    PlainHttp,
    /// The handshake failed.
    Handshake,
    /// The handshake, or a request head, took too long.
    Timeout,
    /// The peer's HTTP could not be understood.
    Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    outcome: ConnectionOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PodLabels {
    namespace: String,
    pod: String,
}

/// What the program of a node says of its agents.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    enforced: Family<PodLabels, Gauge>,
    problems: Gauge,
}

impl NodeMetrics {
    /// Registers every metric under the prefix `eks_guard`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("eks_guard");
        registry.register(
            "enforced",
            "Whether the last trial from inside an agent's pod found every route closed",
            self.enforced.clone(),
        );
        registry.register("problems", "What is wrong on the node now", self.problems.clone());
    }

    /// Replaces what was said of pods: namespace, name, and whether every route was closed.
    pub fn set<'a>(&self, problems: usize, pods: impl Iterator<Item = (&'a str, &'a str, Enforced)>) {
        self.problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
        self.enforced.clear();
        for (namespace, pod, enforced) in pods {
            let labels = PodLabels {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
            };
            let value = match enforced {
                Enforced::Yes => 1,
                Enforced::No => 0,
            };
            self.enforced.get_or_create(&labels).set(value);
        }
    }
}

/// Whether every route out of a pod was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// All of them.
    Yes,
    /// One was open, or could not be tried.
    No,
}

/// Every metric of the proxy.
#[derive(Debug, Default)]
pub struct Metrics {
    connections: Family<ConnectionLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    /// Downstream connections that are open.
    pub connections_open: Gauge,
    /// Upstream connections that are open.
    pub upstream_open: Gauge,
    /// Watches and log follows that are open.
    pub streams_open: Gauge,
    /// Events the record did not take.
    pub events_lost: Counter,
    /// Connection events that were counted but not recorded, because there were too many in one second.
    pub connection_events_suppressed: Counter,
}

impl Metrics {
    /// Registers every metric under the prefix `eks_guard`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("eks_guard");
        registry.register(
            "connections",
            "Downstream connections by outcome",
            self.connections.clone(),
        );
        registry.register(
            "requests",
            "Requests by Kubernetes verb and decision",
            self.requests.clone(),
        );
        registry.register("refusals", "Refusals by reason code", self.refusals.clone());
        registry.register(
            "connections_open",
            "Open downstream connections",
            self.connections_open.clone(),
        );
        registry.register(
            "upstream_connections_open",
            "Open upstream connections",
            self.upstream_open.clone(),
        );
        registry.register(
            "streams_open",
            "Open watches and log follows",
            self.streams_open.clone(),
        );
        registry.register(
            "events_lost",
            "Events the record did not take",
            self.events_lost.clone(),
        );
        registry.register(
            "connection_events_suppressed",
            "Connection events counted but not recorded",
            self.connection_events_suppressed.clone(),
        );
    }

    /// Counts a connection.
    pub fn connection(&self, outcome: ConnectionOutcome) {
        self.connections
            .get_or_create(&ConnectionLabels { outcome })
            .inc();
    }

    /// How many connections had this outcome.
    #[must_use]
    pub fn connections(&self, outcome: ConnectionOutcome) -> u64 {
        self.connections
            .get_or_create(&ConnectionLabels { outcome })
            .get()
    }

    /// Counts a request; `verb` is empty when the request was not understood.
    pub fn request(&self, verb: &'static str, decision: Outcome) {
        let decision = match decision {
            Outcome::Allow => "allow",
            Outcome::Refuse => "refuse",
        };
        self.requests
            .get_or_create(&RequestLabels { verb, decision })
            .inc();
    }

    /// Counts a refusal.
    pub fn refusal(&self, reason: Reason) {
        self.refusals
            .get_or_create(&RefusalLabels {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// How many refusals had this reason.
    #[must_use]
    pub fn refusals(&self, reason: Reason) -> u64 {
        self.refusals
            .get_or_create(&RefusalLabels {
                reason: reason.as_str(),
            })
            .get()
    }
}
