//! Counters and gauges, on one explicit registry; and how those of a process are added up in another.

use std::collections::HashMap;
use std::hash::Hash;

use eks_guard_core::reason::Reason;
use eks_guard_core::record::Outcome;
use eks_guard_core::request_info::Verb;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

/// What became of a downstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, Serialize, Deserialize)]
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

impl ConnectionOutcome {
    const ALL: [Self; 8] = [
        Self::Served,
        Self::NoFlow,
        Self::NoWorkload,
        Self::OverLimit,
        Self::PlainHttp,
        Self::Handshake,
        Self::Timeout,
        Self::Protocol,
    ];
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

const ALLOW: &str = "allow";
const REFUSE: &str = "refuse";

/// What a process has counted, as it tells another. Names come from closed lists, so whatever is said has a bounded number of
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    connections: HashMap<ConnectionOutcome, u64>,
    allowed: HashMap<Verb, u64>,
    refused: HashMap<Verb, u64>,
    not_understood: u64,
    refusals: HashMap<Reason, u64>,
    connections_open: u32,
    upstream_open: u32,
    streams_open: u32,
    events_lost: u64,
    connection_events_suppressed: u64,
}

impl Counts {
    /// The same without what is open, of a process that is gone.
    #[must_use]
    pub fn closed(&self) -> Counts {
        Counts {
            connections_open: 0,
            upstream_open: 0,
            streams_open: 0,
            ..self.clone()
        }
    }
}

fn counted<L: Eq + Hash + Copy, const N: usize>(
    labels: [L; N],
    count: impl Fn(L) -> Option<u64>,
) -> HashMap<L, u64> {
    let counted = labels
        .into_iter()
        .filter_map(|label| Some((label, count(label)?)));
    counted.collect()
}

/// What is more than it was.
fn grown<'c, L: Eq + Hash + Copy>(
    now: &'c HashMap<L, u64>,
    before: &'c HashMap<L, u64>,
) -> impl Iterator<Item = (L, u64)> + 'c {
    now.iter().map(|(label, count)| {
        let before = before.get(label).copied().unwrap_or_default();
        (*label, count.saturating_sub(before))
    })
}

/// A gauge of things that are open.
fn count(open: i64) -> u32 {
    u32::try_from(open).unwrap_or_default()
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

    /// What is counted now, for another process.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let connections = counted(ConnectionOutcome::ALL, |outcome| {
            self.connections
                .get(&ConnectionLabels { outcome })
                .map(|count| count.get())
        });
        let requests = |verb, decision| {
            let count = self.requests.get(&RequestLabels { verb, decision });
            count.map(|count| count.get())
        };
        let of = |decision| counted(Verb::ALL, |verb: Verb| requests(verb.as_str(), decision));
        Counts {
            connections,
            allowed: of(ALLOW),
            refused: of(REFUSE),
            not_understood: requests("", REFUSE).unwrap_or_default(),
            refusals: counted(Reason::ALL, |reason: Reason| {
                let reason = reason.as_str();
                self.refusals
                    .get(&RefusalLabels { reason })
                    .map(|count| count.get())
            }),
            connections_open: count(self.connections_open.get()),
            upstream_open: count(self.upstream_open.get()),
            streams_open: count(self.streams_open.get()),
            events_lost: self.events_lost.get(),
            connection_events_suppressed: self.connection_events_suppressed.get(),
        }
    }

    /// Adds what another process has counted since it said `before`. A count that shrinks is taken for no change: only
    /// whoever lies has one.
    pub fn add(&self, now: &Counts, before: &Counts) {
        for (outcome, new) in grown(&now.connections, &before.connections) {
            let labels = ConnectionLabels { outcome };
            self.connections.get_or_create(&labels).inc_by(new);
        }
        let decided = [
            (ALLOW, &now.allowed, &before.allowed),
            (REFUSE, &now.refused, &before.refused),
        ];
        for (decision, now, before) in decided {
            for (verb, new) in grown(now, before) {
                let verb = verb.as_str();
                self.requests
                    .get_or_create(&RequestLabels { verb, decision })
                    .inc_by(new);
            }
        }
        let (verb, decision) = ("", REFUSE);
        let new = now.not_understood.saturating_sub(before.not_understood);
        self.requests
            .get_or_create(&RequestLabels { verb, decision })
            .inc_by(new);
        for (reason, new) in grown(&now.refusals, &before.refusals) {
            let reason = reason.as_str();
            self.refusals.get_or_create(&RefusalLabels { reason }).inc_by(new);
        }
        self.events_lost
            .inc_by(now.events_lost.saturating_sub(before.events_lost));
        let new = now.connection_events_suppressed;
        self.connection_events_suppressed
            .inc_by(new.saturating_sub(before.connection_events_suppressed));
        self.connections_open.set(now.connections_open.into());
        self.upstream_open.set(now.upstream_open.into());
        self.streams_open.set(now.streams_open.into());
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
            Outcome::Allow => ALLOW,
            Outcome::Refuse => REFUSE,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_counts_is_added_up() {
        let (proxy, loader) = (Metrics::default(), Metrics::default());
        proxy.connection(ConnectionOutcome::Served);
        proxy.request("get", Outcome::Allow);
        proxy.request("", Outcome::Refuse);
        proxy.refusal(Reason::NoRuleAllows);
        proxy.connections_open.set(3);
        let first = proxy.counts();
        loader.add(&first, &Counts::default());
        assert_eq!(loader.counts(), first);
        // Said again, it is the same.
        loader.add(&first, &first);
        assert_eq!(loader.counts(), first);
        // The next process begins at nothing.
        loader.add(&first.closed(), &first);
        loader.add(&Metrics::default().counts(), &Counts::default());
        proxy.refusal(Reason::NoRuleAllows);
        loader.add(&proxy.counts(), &Counts::default());
        assert_eq!(loader.refusals(Reason::NoRuleAllows), 3);
        assert_eq!(loader.connections(ConnectionOutcome::Served), 2);
        // Whoever takes something back is not believed.
        loader.add(&Counts::default(), &proxy.counts());
        assert_eq!(loader.refusals(Reason::NoRuleAllows), 3);
    }

    #[test]
    fn names_of_ones_own_are_not_understood() {
        let text = serde_json::to_string(&Metrics::default().counts()).unwrap();
        assert!(serde_json::from_str::<Counts>(&text).is_ok());
        for (said, lie) in [
            ("\"refusals\":{", "\"refusals\":{\"Mine\":1"),
            ("\"events_lost\":0", "\"events_lost\":-1"),
            ("{\"connections\"", "{\"mine\":0,\"connections\""),
        ] {
            let lie = text.replacen(said, lie, 1);
            assert_ne!(lie, text);
            assert!(serde_json::from_str::<Counts>(&lie).is_err(), "{lie}");
        }
    }
}
