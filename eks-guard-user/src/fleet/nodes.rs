//! What all nodes say, and since when by this node's own clock: a node that goes on saying the same of an hour ago is silent.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::fleet::lease::{LABEL, NodeLease, Reader};
use crate::fleet::{LEASES, SILENCE};
use crate::proxy::upstream::{CallError, UpstreamPool};

/// Leases on a page: as many as an answer has room for if each is as long as an object may be. And most nodes that are counted.
const PAGE: usize = 20;
const MAX_NODES: usize = 10_000;

/// Every node's Lease, as far as they are counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    /// One a node.
    pub(crate) nodes: Vec<NodeLease>,
    /// Whether there are more.
    pub(crate) is_cut: bool,
}

impl Leases {
    /// Reads them.
    pub(crate) async fn list(upstream: &UpstreamPool) -> Result<Self, CallError> {
        let mut leases = Self::default();
        let (mut reader, mut next) = (Reader::default(), String::new());
        // Pages end, too, if there is no node on any of them.
        for _ in 0..MAX_NODES / PAGE {
            let from = utf8_percent_encode(&next, NON_ALPHANUMERIC);
            let path = format!("{LEASES}?labelSelector={LABEL}%3Dnode&limit={PAGE}&continue={from}");
            let page = upstream.read(&path).await?;
            let items = page["items"].as_array().into_iter().flatten();
            leases.nodes.extend(items.filter_map(|lease| reader.read(lease)));
            next = page["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if next.is_empty() {
                return Ok(leases);
            }
        }
        leases.is_cut = true;
        Ok(leases)
    }
}

/// All nodes, as they were seen from look to look.
#[derive(Default)]
pub(super) struct Nodes {
    by_name: BTreeMap<String, Seen>,
    is_cut: bool,
}

struct Seen {
    lease: NodeLease,
    /// Since when it has said this.
    since: Instant,
    /// Whether it was silent for too long already when it was seen first.
    was_silent: bool,
}

/// How the nodes stand to a generation of a policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Those that decide by it.
    pub(super) current: usize,
    /// Those that decide by another.
    pub(super) behind: Vec<String>,
    /// Those that say nothing.
    pub(super) silent: Vec<String>,
    /// Whether there are more nodes than are counted.
    pub(super) is_cut: bool,
}

impl Standing {
    pub(super) fn total(&self) -> usize {
        self.current + self.behind.len() + self.silent.len()
    }
}

impl Nodes {
    /// Takes in what every node says by now.
    pub(super) fn take(&mut self, leases: Leases, seen: Instant, now: Timestamp) {
        let mut before = std::mem::take(&mut self.by_name);
        self.is_cut = leases.is_cut;
        for lease in leases.nodes {
            let (since, was_silent) = match before.remove(&lease.node) {
                Some(old) if old.lease.renewed == lease.renewed => (old.since, old.was_silent),
                Some(_) => (seen, false),
                None => (seen, lease.is_old(now)),
            };
            let node = lease.node.clone();
            self.by_name.insert(
                node,
                Seen {
                    lease,
                    since,
                    was_silent,
                },
            );
        }
    }

    /// How the nodes stand to a generation of a policy by now.
    pub(super) fn standing(&self, uid: &str, generation: u64, now: Instant) -> Standing {
        let mut standing = Standing {
            is_cut: self.is_cut,
            ..Standing::default()
        };
        for (node, seen) in &self.by_name {
            if seen.was_silent || now.duration_since(seen.since) > SILENCE {
                standing.silent.push(node.clone());
            } else if seen.lease.said.generation_of(uid) == Some(generation) {
                standing.current += 1;
            } else {
                standing.behind.push(node.clone());
            }
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::testing::{FakeApiServer, Protocol, eventually, json as reply};

    const UID: &str = "0123456789";

    fn leases(rows: &[(&str, &str, &str)]) -> Leases {
        let mut reader = Reader::default();
        let read = rows.iter().filter_map(|(node, renewed, said)| {
            reader.read(&json!({
                "metadata": {"name": format!("node-{node}"), "annotations": {"eks-guard.dev/policies": said}},
                "spec": {"renewTime": renewed},
            }))
        });
        Leases {
            nodes: read.collect(),
            is_cut: false,
        }
    }

    #[test]
    fn a_node_counts_as_long_as_it_speaks() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let rows = |c: &'static str| {
            leases(&[
                ("a", "2026-01-01T11:59:50.000000Z", "01234567:3"),
                ("b", "2026-01-01T11:59:50.000000Z", "01234567:2"),
                ("c", c, "01234567:3"),
                ("d", "never", "01234567:3"),
            ])
        };
        let begin = Instant::now();
        let mut nodes = Nodes::default();
        assert_eq!(nodes.standing(UID, 3, begin), Standing::default());
        nodes.take(rows("2026-01-01T11:00:00.000000Z"), begin, now);
        let standing = nodes.standing(UID, 3, begin);
        assert_eq!((standing.current, standing.total()), (1, 4));
        assert_eq!(
            (standing.behind, standing.silent),
            (vec!["b".to_owned()], vec!["c".to_owned(), "d".to_owned()])
        );
        // It speaks again; its clock may be wrong.
        nodes.take(rows("2026-01-01T11:00:15.000000Z"), begin, now);
        assert_eq!(nodes.standing(UID, 3, begin).silent, ["d"]);
        assert_eq!(nodes.standing(UID, 3, begin).current, 2);
        // One that is gone is not waited for.
        nodes.take(
            leases(&[("b", "2026-01-01T12:00:00.000000Z", "01234567:3")]),
            begin,
            now,
        );
        assert_eq!(nodes.standing(UID, 3, begin).total(), 1);
        assert_eq!(nodes.standing("another", 3, begin).behind, ["b"]);
    }

    #[test]
    fn what_has_not_changed_for_too_long_is_silent_whatever_its_clock_says() {
        let begin = Instant::now();
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let rows = || leases(&[("a", "2026-01-01T12:00:00.000000Z", "01234567:3")]);
        let mut nodes = Nodes::default();
        nodes.take(rows(), begin, now);
        nodes.take(rows(), begin + SILENCE, now);
        assert_eq!(nodes.standing(UID, 3, begin + SILENCE).current, 1);
        let later = begin + SILENCE + Duration::from_secs(1);
        assert_eq!(nodes.standing(UID, 3, later).silent, ["a"]);
    }

    #[tokio::test]
    async fn pages_without_end_are_not_read_to_the_end() {
        for (kind, nodes) in [("node", MAX_NODES), ("nobody", 0)] {
            let item = format!(r#"{{"metadata":{{"name":"{kind}-a"}}}}"#);
            let items = vec![item; PAGE].join(",");
            let page = format!(r#"{{"metadata":{{"continue":"more"}},"items":[{items}]}}"#);
            let api = FakeApiServer::start(Protocol::H2, move |_| reply(&page)).await;
            let leases = eventually("an end", Leases::list(&api.upstream())).await.unwrap();
            assert!(leases.is_cut && leases.nodes.len() == nodes, "{kind}");
        }
    }
}
