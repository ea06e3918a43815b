//! Where agents may connect to: modes, and lists of addresses with ports.

use std::collections::BTreeMap;

use eks_guard_core::yaml::{At, Field};

use crate::node::config::Prefix;
use crate::node::config::check::Checker;
use crate::node::config::wire;

/// Most entries of one agent's list.
const MAX_ALLOW: usize = 256;

/// What an agent may reach beside the API server, which it reaches through the guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EgressMode {
    /// What its list names, and nothing else.
    #[default]
    AllowList,
    /// Everything but the guarded classes: weaker, because a relay anywhere outside leads to the API server.
    BlockList,
}

/// The egress of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentEgress {
    /// Its mode; the node's default when not given.
    pub mode: Option<EgressMode>,
    /// What it may reach in addition.
    pub allow: Vec<Allow>,
}

/// One entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Where to.
    pub to: Prefix,
    /// Which protocol; `None` for both.
    pub protocol: Option<Protocol>,
    /// Which port; `None` for all.
    pub port: Option<u16>,
    /// What it opens of what is closed to every agent; `None`: nothing of it, however wide the prefix is.
    pub opens: Option<Closed>,
}

/// What is closed to every agent unless an entry names it. The API server cannot be named: nothing opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The cloud's instance metadata.
    Metadata,
    /// The agent that hands out pods' cloud credentials.
    PodIdentity,
    /// Kubelets and what runs beside them on nodes.
    Kubelet,
    /// API servers of other clusters.
    OtherCluster,
}

/// The words for them.
const CLOSED: [(&str, Closed); 4] = [
    ("metadata", Closed::Metadata),
    ("podIdentity", Closed::PodIdentity),
    ("kubelet", Closed::Kubelet),
    ("otherCluster", Closed::OtherCluster),
];

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// Checks the `egress` section.
pub(super) fn check(
    checker: &mut Checker<'_>,
    egress: &Field<wire::Egress>,
) -> (EgressMode, BTreeMap<String, AgentEgress>) {
    let Some(egress) = egress else {
        return (EgressMode::default(), BTreeMap::new());
    };
    let mode = mode(checker, &egress.value.mode).unwrap_or_default();
    let mut agents = BTreeMap::new();
    for agent in egress.value.agents.iter().flat_map(|agents| &agents.value) {
        let Some(name) = checker.required(&agent.value.agent, agent.referenced, "agent", "agent: my-agent")
        else {
            continue;
        };
        let checked = AgentEgress {
            mode: self::mode(checker, &agent.value.mode),
            allow: allow_list(checker, &agent.value),
        };
        if agents.insert(name.value.clone(), checked).is_some() {
            let message = format!("agent {:?} stands twice; write one entry for it", name.value);
            checker.fail(name.referenced, message);
        }
    }
    (mode, agents)
}

fn mode(checker: &mut Checker<'_>, mode: &Field<String>) -> Option<EgressMode> {
    let mode = mode.as_ref()?;
    match mode.value.as_str() {
        "allowList" => Some(EgressMode::AllowList),
        "blockList" => Some(EgressMode::BlockList),
        other => {
            let message = format!("mode {other:?} is not known; write `allowList` or `blockList`");
            checker.fail(mode.referenced, message);
            None
        }
    }
}

fn allow_list(checker: &mut Checker<'_>, agent: &wire::AgentEgress) -> Vec<Allow> {
    let Some(list) = &agent.allow else {
        return Vec::new();
    };
    if list.value.len() > MAX_ALLOW {
        checker.fail(
            list.referenced,
            format!("more than {MAX_ALLOW} entries; write prefixes"),
        );
        return Vec::new();
    }
    list.value
        .iter()
        .filter_map(|entry| allow(checker, entry))
        .collect()
}

fn allow(checker: &mut Checker<'_>, entry: &At<wire::Allow>) -> Option<Allow> {
    let to = checker.required(&entry.value.to, entry.referenced, "to", "to: 10.0.0.0/16");
    let to = to.and_then(|to| checker.prefix(to));
    let protocol = entry.value.protocol.as_ref();
    let protocol = match protocol.map(|protocol| (protocol.value.as_str(), protocol.referenced)) {
        None => None,
        Some(("TCP", _)) => Some(Protocol::Tcp),
        Some(("UDP", _)) => Some(Protocol::Udp),
        Some((other, at)) => {
            checker.fail(
                at,
                format!("protocol {other:?} is not known; write `TCP` or `UDP`"),
            );
            return None;
        }
    };
    let port = entry.value.port.as_ref();
    if let Some(port) = port.filter(|port| port.value == 0) {
        checker.fail(
            port.referenced,
            "port 0 is no port; leave `port` out for all of them",
        );
        return None;
    }
    let opens = match &entry.value.opens {
        Some(opens) => Some(closed(checker, opens)?),
        None => None,
    };
    Some(Allow {
        to: to?,
        protocol,
        port: port.map(|port| port.value),
        opens,
    })
}

fn closed(checker: &mut Checker<'_>, word: &At<String>) -> Option<Closed> {
    let known = CLOSED.iter().find(|(name, _)| *name == word.value);
    if known.is_none() {
        let message = format!(
            "opens {:?} is not known; write `metadata`, `podIdentity`, `kubelet` or `otherCluster`",
            word.value
        );
        checker.fail(word.referenced, message);
    }
    known.map(|(_, closed)| *closed)
}
