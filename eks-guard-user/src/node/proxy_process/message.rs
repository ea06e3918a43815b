//! What the loader and the proxy process say to each other.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use eks_guard_core::principal::{Labels, Principal};
use serde::{Deserialize, Serialize};

use crate::metrics::Counts;
use crate::node::policies::PolicyTexts;
use crate::recording::writer::SessionFacts;
use crate::run::channel::Channel;
use crate::tls::ca::Leaf;
use crate::upstream::{HandedCredential, HandedEndpoint};

/// Whose a workload or a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Resident {
    /// The agent with this cgroup.
    Agent(u64),
    /// The node itself: it takes the connections that nobody vouches for in its own network namespace.
    Node,
}

/// What a proxy must know before anything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The API server.
    pub(crate) endpoint: HandedEndpoint,
    /// Filter of its log lines.
    pub(crate) log: Option<String>,
    /// Threads that serve.
    pub(crate) workers: usize,
}

/// Loader to proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ToProxy {
    /// The first message. With the socket that origins are asked on.
    Setup(Setup),
    /// The certificate that agents see.
    Leaf(Leaf),
    /// What the guard presents to the API server.
    Credential(HandedCredential),
    /// What decides.
    Policies(PolicyTexts),
    /// The labels of the namespaces that are known.
    Namespaces(BTreeMap<String, Labels>),
    /// Where the API server is now.
    Addresses(Vec<SocketAddr>),
    /// Somebody whose connections may come. With the socket that takes the lines of the record.
    Workload(Resident, SessionFacts),
    /// Nobody's connections are that one's any more.
    Gone(Resident),
    /// A listener. With its sockets.
    Listen {
        /// Its number.
        listener: u32,
        /// Whose record takes the connections that nobody vouches for.
        resident: Resident,
    },
    /// Stop accepting there.
    Close(u32),
    /// Finish what is under way, close the records, and end.
    Drain,
}

impl ToProxy {
    /// Whether descriptors come behind it.
    pub(crate) fn carries_descriptors(&self) -> bool {
        match self {
            Self::Setup(_) | Self::Workload(..) | Self::Listen { .. } => true,
            Self::Leaf(_)
            | Self::Credential(_)
            | Self::Policies(_)
            | Self::Namespaces(_)
            | Self::Addresses(_)
            | Self::Gone(_)
            | Self::Close(_)
            | Self::Drain => false,
        }
    }
}

/// Proxy to loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromProxy {
    /// It has given everything up, and found that it has.
    Confined,
    /// The API server refused the credential.
    CredentialRefused,
    /// What it has counted since it started.
    Counts(Box<Counts>),
}

/// Longest message of a proxy: counts with every name there is are a tenth of it.
pub(super) const LONGEST: usize = 64 << 10;

/// The way to the loader, which says one thing after the other.
pub(super) struct ToLoader(Mutex<Channel>);

impl ToLoader {
    pub(super) fn on(channel: Channel) -> Arc<Self> {
        Arc::new(Self(Mutex::new(channel)))
    }

    pub(super) fn say(&self, message: &FromProxy) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(message)
    }
}

/// The principal of a session's requests.
pub(super) fn principal(facts: &SessionFacts) -> Principal {
    Principal {
        agent: facts.agent.clone(),
        model_claimed: facts.model_claimed.clone(),
        pod: facts.pod.clone(),
        labels: facts.labels.clone(),
        ..Principal::default()
    }
}
