//! The `NodeConfig` document (`eks-guard.dev/v1alpha1`): read, and checked as a whole, before anything is touched.

mod check;
mod egress;
mod nri;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eks_guard_core::yaml::{self, DocumentError, Origin};
use serde::Deserialize;

pub use egress::{AgentEgress, Allow, Closed, EgressMode, Protocol};
pub use nri::{NriConfig, NriMode};

/// The kind of the document.
pub const KIND: &str = "NodeConfig";

/// Bytes that are read at most; more than a document may have.
const READ_LIMIT: u64 = 8 << 20;

/// Everything a node's guard needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Name of the Node object this machine is.
    pub node_name: String,
    /// Root of the pods' cgroups; found when not given.
    pub cgroup_root: Option<PathBuf>,
    /// Folder in a bpffs for pinned links and maps.
    pub pins: PathBuf,
    /// Folder of what outlives the daemon: the authority's key, the last known state, the status socket.
    pub state: PathBuf,
    /// Where the policies are.
    pub policies: PolicySource,
    /// Folder of the records.
    pub records: PathBuf,
    /// How the guard reaches the API server.
    pub upstream: UpstreamConfig,
    /// Addresses of this cluster's API server that nothing else tells.
    pub api_servers: Vec<SocketAddr>,
    /// Addresses of other clusters' API servers and of what stands in for them.
    pub other_clusters: Vec<Prefix>,
    /// First and last port on nodes' addresses that is closed to agents.
    pub kubelet_ports: (u16, u16),
    /// NAT64 prefixes beyond the well-known one, each a /96.
    pub nat64_prefixes: Vec<Ipv6Addr>,
    /// Pods that are exempt.
    pub system_pods: Vec<SystemPod>,
    /// Label that makes a pod an agent; its value is the agent's name.
    pub agent_label: String,
    /// Whether and how the container runtime holds pods back.
    pub nri: Option<NriConfig>,
    /// Where agents may connect to when nothing else is said for them.
    pub egress: EgressMode,
    /// The same for single agents, by name.
    pub agents: BTreeMap<String, AgentEgress>,
    /// Whether and how agents are tried again and again.
    pub verify: Option<VerifyConfig>,
    /// Where `/metrics` and `/healthz` are answered; nowhere when not given.
    pub metrics: Option<SocketAddr>,
}

/// Where the policies of a node are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// In a folder: files `*.yaml` with `AgentPolicy` documents.
    Folder(PathBuf),
    /// In the cluster: the API server's `AgentPolicy` objects.
    Cluster,
}

/// How agents are tried again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyConfig {
    /// From the end of a round to the next.
    pub interval: Duration,
    /// The probe; beside this program when not given.
    pub probe: Option<PathBuf>,
}

/// How the guard reaches the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamConfig {
    /// A kubeconfig.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Its context; the current one when not given.
        context: Option<String>,
    },
    /// A ServiceAccount token.
    ServiceAccount {
        /// `https://host:port`.
        server: String,
        /// The token, read again as it is renewed.
        token_file: PathBuf,
        /// The cluster's CA.
        certificate_authority: PathBuf,
    },
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Its address; the bits behind the length are zero.
    pub address: IpAddr,
    /// Length in bits.
    pub length: u8,
}

/// Pods that the operator exempts: all of one ServiceAccount, or one by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPod {
    /// Their namespace.
    pub namespace: String,
    /// Which of that namespace.
    pub which: Which,
}

/// Which pods of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those with this ServiceAccount.
    ServiceAccount(String),
    /// The one with this name.
    Name(String),
}

/// Why there is no configuration. Displays one mistake per line.
#[derive(Debug, thiserror::Error)]
pub enum NodeConfigError {
    /// The file cannot be read.
    #[error("cannot read the node configuration {}: check the path", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The document has mistakes.
    #[error("{}", Lines(.0))]
    Document(Vec<DocumentError>),
}

struct Lines<'a>(&'a [DocumentError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, item)| {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{item}")
        })
    }
}

impl NodeConfig {
    /// Reads a configuration file. `node_name` is used when the document names no node: a DaemonSet's pods share one
    /// document.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it.
    pub fn load(path: &Path, node_name: Option<&str>) -> Result<Self, NodeConfigError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(READ_LIMIT).read_to_string(&mut text));
        read.map_err(|source| NodeConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text, node_name).map_err(NodeConfigError::Document)
    }

    /// The folder of the state, as a configuration names it that may have mistakes elsewhere; the default folder when it
    /// cannot be read at all. For questions to a daemon, which goes on with its last good configuration.
    #[must_use]
    pub fn state_of(path: &Path) -> PathBuf {
        #[derive(Default, Deserialize)]
        struct Loose {
            #[serde(default)]
            spec: LooseSpec,
        }
        #[derive(Default, Deserialize)]
        struct LooseSpec {
            state: Option<PathBuf>,
        }
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(READ_LIMIT).read_to_string(&mut text));
        let document = read
            .ok()
            .and_then(|_| serde_saphyr::from_str::<Loose>(&text).ok());
        let named = document.and_then(|document| document.spec.state);
        named.unwrap_or_else(|| check::STATE.into())
    }

    /// Reads the text of a configuration; `file` is only used in messages.
    ///
    /// # Errors
    /// Every mistake that can be told apart.
    pub fn parse(file: &str, text: &str, node_name: Option<&str>) -> Result<Self, Vec<DocumentError>> {
        let file = file.into();
        let mut documents = yaml::documents::<wire::Document>(&file, text, KIND)?;
        match (documents.pop(), documents.is_empty()) {
            (Some(document), true) => check::check(&file, &document, node_name),
            (Some(second), false) => Err(vec![DocumentError {
                origin: Origin::at(&file, second.referenced),
                message: "more than one document; a node has one configuration".to_owned(),
            }]),
            (None, _) => Err(Vec::new()),
        }
    }

    /// Whether going on with `other` needs a restart: what was opened at the start would have to be opened anew.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> bool {
        let fixed = |config: &Self| {
            (
                config.node_name.clone(),
                config.cgroup_root.clone(),
                [&config.pins, &config.state, &config.records].map(Clone::clone),
                config.upstream.clone(),
                config.nat64_prefixes.clone(),
                (config.verify.clone(), config.metrics, config.policies.clone()),
                // The plugin looks at the label.
                config.nri.clone().map(|nri| (nri, config.agent_label.clone())),
            )
        };
        fixed(self) != fixed(other)
    }
}
