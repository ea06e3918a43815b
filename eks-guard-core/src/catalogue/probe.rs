//! What a probe is told and what it answers: one JSON document on its standard input, one JSON line on its standard output.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::catalogue::Boundary;

/// What a probe needs to know: where the API server is, and how to tell who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whose boundary is tried.
    pub boundary: Boundary,
    /// Every known address of the API server, at least one.
    pub api: Vec<SocketAddr>,
    /// Whether those are addresses of this host.
    pub place: Place,
    /// Common name of the authority that signs the guard's certificates: the answer of anybody else counts as reached.
    pub guard: String,
    /// Addresses that the node is known to rewrite to the API server's.
    pub aliases: Vec<SocketAddr>,
    /// Whoever listens there could pass something on to the API server.
    pub relays: Vec<SocketAddr>,
    /// Ports of kubelets.
    pub kubelets: Vec<SocketAddr>,
    /// API servers of other clusters.
    pub other_clusters: Vec<SocketAddr>,
    /// A TCP listener outside the boundary, or on the agent's own loopback, that takes connections and says nothing.
    pub witness: Option<SocketAddr>,
    /// Name of an abstract UNIX socket outside the boundary.
    pub abstract_socket: Option<String>,
    /// Number of a TCP socket that was made outside the boundary and is handed to the first process inside.
    pub unconnected_fd: Option<i32>,
    /// The same, connected to the API server.
    pub connected_fd: Option<i32>,
    /// Whether the probe is started before the boundary stands; it then says `ready`, and waits for a second line.
    pub older: bool,
    /// Files that hold credentials outside the boundary.
    pub credentials: Vec<PathBuf>,
    /// Where the cgroup2 file system is mounted.
    pub cgroup2: Option<PathBuf>,
    /// Milliseconds to wait for an answer. Who does not answer in time counts as blocked only where the kernel drops packets
    /// without a word.
    pub patience_ms: u64,
}

/// Where the API server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On an address of this host: its port alone is guarded.
    ThisHost,
    /// On another machine: its address as a whole is guarded.
    Elsewhere,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Verdict {
    /// The route leads out: the boundary does not hold.
    Reached,
    /// The guard answered in place of the API server.
    Redirected,
    /// Refused, dropped, or closed without an answer.
    Blocked,
    /// The route does not exist here, for this reason.
    NotApplicable(String),
}

impl Verdict {
    /// The word for tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Reached => "REACHED",
            Self::Redirected => "REDIRECTED",
            Self::Blocked => "BLOCKED",
            Self::NotApplicable(_) => "N/A",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// The kernel's word, as in errno(3): `ECONNREFUSED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Whom the socket believes to be connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Packets or bytes that were seen to leave or to arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// In words, one part for each form of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The line a probe prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Which row was tried.
    pub id: String,
    /// What became of it.
    pub result: Tried,
    /// What that rests on.
    pub evidence: Evidence,
}

/// Whether an attempt could be made at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// It could not, for this reason: nothing is known about the route, which counts as a failure.
    NotRun(String),
    /// It was made.
    Verdict(Verdict),
}

impl Tried {
    /// The word for tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotRun(_) => "NOT-RUN",
            Self::Verdict(verdict) => verdict.word(),
        }
    }

    /// Why there is no verdict, or why the route does not exist here.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::NotRun(reason) | Self::Verdict(Verdict::NotApplicable(reason)) => Some(reason),
            Self::Verdict(Verdict::Reached | Verdict::Redirected | Verdict::Blocked) => None,
        }
    }
}
