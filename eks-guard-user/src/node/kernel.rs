//! What the daemon asks of the kernel side, in the daemon's own words.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use crate::ebpf::original_dst::FlowTable;
use crate::node::config::{Allow, EgressMode, Prefix};

/// Destinations by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// The API server: redirected for agents.
    pub api: BTreeSet<SocketAddr>,
    /// Addresses of nodes, whose kubelet ports are closed to agents.
    pub nodes: BTreeSet<IpAddr>,
    /// First and last of these ports.
    pub kubelet_ports: (u16, u16),
    /// Other clusters, closed to agents.
    pub other_clusters: Vec<Prefix>,
}

/// What the processes of a cgroup may do. A cgroup that has none may not reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Guarded.
    Agent {
        /// Port of its listener; none: it reaches nothing.
        port: Option<u16>,
        /// What else it may reach.
        mode: EgressMode,
        /// Addresses, in that mode.
        allow: Vec<Allow>,
        /// Its own addresses, which its redirected sockets name as their own.
        own: Vec<IpAddr>,
    },
    /// Exempt by configuration.
    System,
    /// Known not to be an agent.
    Ordinary,
}

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct KernelError {
    /// What was being done.
    pub doing: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The kernel side of a node.
pub trait Kernel: Send + 'static {
    /// Replaces the classes. What is refused leaves those before.
    ///
    /// # Errors
    /// The API set is empty, or a map is full.
    fn classify(&mut self, destinations: &Destinations) -> Result<(), KernelError>;

    /// Says what a cgroup may do.
    ///
    /// # Errors
    /// A map is full: the cgroup keeps what it may do, and a new one may not reach the API server.
    fn set_pod(&mut self, cgroup: u64, standing: &Standing) -> Result<(), KernelError>;

    /// Forgets a cgroup that is gone.
    ///
    /// # Errors
    /// The map is not writable.
    fn remove_pod(&mut self, cgroup: u64) -> Result<(), KernelError>;

    /// Cgroups that it knows, from before this daemon too.
    ///
    /// # Errors
    /// The map is not readable.
    fn pods(&self) -> Result<BTreeSet<u64>, KernelError>;

    /// Closes the node's end of an agent's cable to what the agent may not reach.
    ///
    /// # Errors
    /// The kernel is too old for it, or refuses.
    fn guard_interface(&mut self, interface: u32, cgroup: u64) -> Result<(), KernelError>;

    /// Opens an interface that is no agent's any more, or forgets one that is gone.
    ///
    /// # Errors
    /// The pin or the entry cannot be removed.
    fn unguard_interface(&mut self, interface: u32) -> Result<(), KernelError>;

    /// Which layers do not hold, one sentence each; none when all do. `below` are cgroups that they must hold for.
    fn faults(&self, below: &[&Path]) -> Vec<String>;

    /// The flows of connections that arrive in the network namespace of a socket.
    ///
    /// # Errors
    /// The namespace has no name.
    fn flows(&self, socket: BorrowedFd<'_>) -> Result<Arc<dyn FlowTable>, KernelError>;
}
