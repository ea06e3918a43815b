//! The Lease of a node, as the kubelet has one: that the node is there, and which policies it decides by.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fleet::{LEASES, SILENCE};
use crate::proxy::upstream::{CallError, UpstreamPool};

/// What the name of a node's Lease begins with.
const PREFIX: &str = "node-";
/// The label of a node's Lease.
pub(super) const LABEL: &str = "eks-guard.dev/lease";
/// The annotation that says which policies a node decides by.
const POLICIES: &str = "eks-guard.dev/policies";
/// Characters of a policy's UID that stand for it: what a node says of a thousand policies is eleven thousand bytes long.
const SHORT: usize = 8;
/// Policies that are read of one Lease; a node has no more.
const MAX_POLICIES: usize = 1_000;
/// Most characters of what is read of one Lease.
const MAX_TEXT: usize = 64 << 10;
/// Different texts that are read of all Leases: nodes that hold no policy back say the same, others a handful of different ones.
const MAX_TEXTS: usize = 256;

/// A policy that a node decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programmed {
    /// UID of the object.
    pub(crate) uid: String,
    /// Which of its generations.
    pub(crate) generation: u64,
}

/// What a node says: the generation of each policy, by the beginning of its UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said(Arc<HashMap<String, u64>>);

impl Said {
    /// Which generation of a policy the node decides by.
    pub(crate) fn generation_of(&self, uid: &str) -> Option<u64> {
        self.0.get(short(uid)).copied()
    }
}

/// A node's Lease as others read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeLease {
    /// Name of the node.
    pub(crate) node: String,
    /// When it was renewed, by the node's own clock.
    pub(crate) renewed: String,
    /// Which policies it decides by.
    pub(crate) said: Said,
}

impl NodeLease {
    /// How long ago the node spoke, if both clocks are right. What is no time is none.
    pub(crate) fn age(&self, now: Timestamp) -> Option<jiff::SignedDuration> {
        let renewed: Timestamp = self.renewed.parse().ok()?;
        Some(now.duration_since(renewed))
    }

    /// Whether that is longer than a node may be silent, or so far in the future that it says nothing.
    pub(crate) fn is_old(&self, now: Timestamp) -> bool {
        self.age(now).is_none_or(|age| age.unsigned_abs() > SILENCE)
    }
}

/// Reads Leases. Most nodes say the same, which is kept once.
#[derive(Default)]
pub(crate) struct Reader {
    known: HashMap<String, Said>,
}

impl Reader {
    /// What a Lease says; none: it is no node's.
    pub(crate) fn read(&mut self, lease: &Value) -> Option<NodeLease> {
        let metadata = &lease["metadata"];
        let node = metadata["name"].as_str()?.strip_prefix(PREFIX)?;
        let text = metadata["annotations"][POLICIES].as_str().unwrap_or_default();
        // Whoever writes more than a node does says nothing, and so do those beyond as many as nodes ever differ.
        let is_one_too_many = self.known.len() >= MAX_TEXTS && !self.known.contains_key(text);
        let text = if text.len() > MAX_TEXT || is_one_too_many {
            ""
        } else {
            text
        };
        let said = match self.known.get(text) {
            Some(said) => said.clone(),
            None => {
                let said = Said(Arc::new(
                    text.split(' ').take(MAX_POLICIES).filter_map(entry).collect(),
                ));
                self.known.insert(text.to_owned(), said.clone());
                said
            }
        };
        let renewed = lease["spec"]["renewTime"].as_str().unwrap_or_default();
        Some(NodeLease {
            node: node.to_owned(),
            renewed: renewed.to_owned(),
            said,
        })
    }
}

fn entry(text: &str) -> Option<(String, u64)> {
    let (uid, generation) = text.split_once(':')?;
    Some((uid.to_owned(), generation.parse().ok()?))
}

/// Name of a node's Lease.
pub(crate) fn name_of(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// Writes one node's Lease.
pub(super) struct OwnLease {
    upstream: Arc<UpstreamPool>,
    node: String,
    /// As the API server has it.
    held: Option<Value>,
}

impl OwnLease {
    pub(super) fn of(upstream: &Arc<UpstreamPool>, node: &str) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            node: node.to_owned(),
            held: None,
        }
    }

    /// Says that the node is there, and what it decides by.
    pub(super) async fn renew(&mut self, policies: &[Programmed]) -> Result<(), CallError> {
        let name = name_of(&self.node);
        let mut lease = match self.held.take() {
            Some(held) => held,
            None => match find(&self.upstream, &format!("{LEASES}/{name}")).await? {
                Some(lease) => lease,
                None => self.fresh(&name).await?,
            },
        };
        lease["metadata"]["labels"][LABEL] = json!("node");
        lease["metadata"]["annotations"][POLICIES] = json!(text(policies));
        lease["spec"] = json!({
            "holderIdentity": self.node,
            "leaseDurationSeconds": SILENCE.as_secs(),
            "renewTime": micro_time(),
        });
        self.held = Some(store(&self.upstream, &lease).await?);
        Ok(())
    }

    /// A Lease that goes with the Node, as the kubelet's own does.
    async fn fresh(&self, name: &str) -> Result<Value, CallError> {
        let path = format!("/api/v1/nodes?fieldSelector=metadata.name%3D{}", self.node);
        let nodes = self.upstream.read(&path).await?;
        let mut lease = empty(name);
        let uid = &nodes["items"][0]["metadata"]["uid"];
        if uid.is_string() {
            lease["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}]);
        }
        Ok(lease)
    }
}

/// `UID:GENERATION` of each policy.
fn text(policies: &[Programmed]) -> String {
    let mut text = String::new();
    for policy in policies {
        let separator = if text.is_empty() { "" } else { " " };
        write!(text, "{separator}{}:{}", short(&policy.uid), policy.generation)
            .expect("a String takes everything");
    }
    text
}

fn short(uid: &str) -> &str {
    uid.get(..SHORT).unwrap_or(uid)
}

/// A Lease that is not stored yet.
pub(super) fn empty(name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}})
}

/// Reads a Lease; none: there is none.
pub(super) async fn find(upstream: &UpstreamPool, path: &str) -> Result<Option<Value>, CallError> {
    match upstream.read(path).await {
        Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
        read => whole(read?, path).map(Some),
    }
}

/// Stores a Lease, if nobody has changed it since it was read. As it is stored comes back.
pub(super) async fn store(upstream: &UpstreamPool, lease: &Value) -> Result<Value, CallError> {
    let metadata = &lease["metadata"];
    if metadata["resourceVersion"].is_null() {
        return whole(upstream.create(LEASES, lease).await?, LEASES);
    }
    let name = metadata["name"].as_str().unwrap_or_default();
    let path = format!("{LEASES}/{name}");
    whole(upstream.replace(&path, lease).await?, &path)
}

/// An answer that has the shape of a Lease, as far as it is changed here: JSON of another shape cannot be.
fn whole(lease: Value, path: &str) -> Result<Value, CallError> {
    let metadata = &lease["metadata"];
    let maps = [&metadata["labels"], &metadata["annotations"], &lease["spec"]];
    if metadata.is_object() && maps.iter().all(|map| map.is_object() || map.is_null()) {
        return Ok(lease);
    }
    Err(CallError::Read {
        path: path.to_owned(),
        source: "it is no Lease".into(),
    })
}

/// Now, as Leases write it.
pub(super) fn micro_time() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, said: &str) -> Value {
        json!({
            "metadata": {"name": name, "annotations": {POLICIES: said}},
            "spec": {"renewTime": "2026-01-01T12:00:00.000000Z"},
        })
    }

    #[test]
    fn what_a_node_says_is_read_as_it_was_written() {
        let policies = ["0123456789", "x"].map(|uid| Programmed {
            uid: uid.to_owned(),
            generation: 3,
        });
        assert_eq!(text(&policies), "01234567:3 x:3");
        let read = Reader::default()
            .read(&lease("node-a", &text(&policies)))
            .unwrap();
        assert_eq!(read.node, "a");
        assert_eq!(read.said.generation_of("0123456789"), Some(3));
        assert_eq!(read.said.generation_of("another"), None);
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn whatever_stands_in_a_lease_costs_little_and_counts_for_nothing() {
        let mut reader = Reader::default();
        let endless = "01234567:3 ".repeat(100_000);
        let many: String = (0..5_000).map(|number| format!("{number}:1 ")).collect();
        for said in [
            "",
            " ",
            ":",
            "01234567",
            "01234567:-1",
            "01234567:18446744073709551616",
            &endless,
        ] {
            let read = reader.read(&lease("node-a", said)).unwrap();
            assert_eq!(read.said.generation_of("0123456789"), None, "{said:.20}");
        }
        let read = reader.read(&lease("node-a", &many)).unwrap();
        assert!(read.said.0.len() <= MAX_POLICIES);
        for lease in [
            json!(null),
            json!({}),
            lease("policy-status", ""),
            json!({"metadata": {"name": 7}}),
        ] {
            assert_eq!(reader.read(&lease), None);
        }
        let mut reader = Reader::default();
        for number in 0..1_000 {
            reader
                .read(&lease("node-a", &format!("01234567:{number}")))
                .unwrap();
        }
        assert!(reader.known.len() <= MAX_TEXTS + 1);
        let known = reader.read(&lease("node-a", "01234567:3")).unwrap();
        assert_eq!(known.said.generation_of("01234567"), Some(3));
        let odd = json!({"metadata": {"name": "node-a", "annotations": []}, "spec": {"renewTime": 3}});
        let read = reader.read(&odd).unwrap();
        assert!(read.is_old(Timestamp::now()) && read.said == Said::default());
    }

    #[test]
    fn an_answer_that_is_no_lease_is_an_error() {
        for answer in [
            json!([]),
            json!("x"),
            json!(null),
            json!({}),
            json!({"metadata": []}),
            json!({"metadata": {"labels": "x"}}),
            json!({"metadata": {"annotations": []}}),
            json!({"metadata": {}, "spec": 7}),
        ] {
            assert!(whole(answer.clone(), LEASES).is_err(), "{answer}");
        }
        assert!(whole(empty("node-a"), LEASES).is_ok());
    }

    #[test]
    fn a_time_far_away_in_either_direction_is_old() {
        let read = Reader::default().read(&lease("node-a", "")).unwrap();
        let is_old = |now: &str| read.is_old(now.parse().unwrap());
        assert!(!is_old("2026-01-01T12:00:30Z") && !is_old("2026-01-01T11:59:30Z"));
        assert!(is_old("2026-01-01T12:02:00Z") && is_old("2026-01-01T11:58:00Z"));
    }
}
