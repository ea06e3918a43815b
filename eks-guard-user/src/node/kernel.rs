//! What the daemon asks of the kernel side, in the daemon's own words.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use crate::ebpf::Stats;
use crate::ebpf::node::{Events, ListenerPlace};
use crate::ebpf::original_dst::FlowTable;
use crate::node::api_ports::ApiPorts;
use crate::node::config::{Allow, EgressMode, Prefix};
use crate::node::older::Owner;

/// Destinations by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// The API server: redirected for agents.
    pub api: BTreeSet<SocketAddr>,
    /// Ports of nodes that are the API server's, too.
    pub api_ports: ApiPorts,
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
        /// Its listener; none: it reaches nothing.
        listener: Option<ListenerPlace>,
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

/// What becomes of interfaces that are not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay closed: not all agents are known.
    Stay,
    /// They are opened: they are no agent's.
    Open,
}

/// What became of the layers when they were looked at, one sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What had been taken off, and is back.
    pub repaired: Vec<String>,
    /// What does not hold.
    pub faults: Vec<String>,
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

/// The node's ends of agents' cables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Of agents to whom everything closed is closed.
    pub closed: BTreeSet<u32>,
    /// Of agents whose list opens something of it.
    pub opened: BTreeSet<u32>,
}

/// The kernel side of a node.
pub trait Kernel: Send + 'static {
    /// Replaces the classes. What finds no room leaves those before; the API server is the first to be let in.
    ///
    /// # Errors
    /// The API set is empty, or a map is full: not everything is closed that should be.
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
    /// The kernel is too old for it, or refuses; or the agent or the interface has found no room in a map, and the interface
    /// passes nothing.
    fn guard_interface(&mut self, interface: u32, cgroup: u64) -> Result<(), KernelError>;

    /// Opens an interface that is no agent's any more, or forgets one that is gone.
    ///
    /// # Errors
    /// The pin or the entry cannot be removed.
    fn unguard_interface(&mut self, interface: u32) -> Result<(), KernelError>;

    /// Closes what the node forwards for these interfaces, behind every rewriting of destinations. Those of agents whose list
    /// opens something are closed to the API server only: which of the rest is open to them, the other layers know.
    ///
    /// # Errors
    /// The kernel refuses: what was closed still is.
    fn guard_forwarding(&mut self, interfaces: &Interfaces, others: Others) -> Result<(), KernelError>;

    /// Packets that were dropped there, as far as was looked.
    fn forwarding_dropped(&self) -> u64;

    /// Whether that is in force. Where it is not, an address that the node rewrites leads past the other layers, so nobody may
    /// go to addresses that nothing names.
    fn is_forwarding_closed(&self) -> bool;

    /// Looks whether all layers hold, and puts back those that do not. `below` are cgroups that they must hold for.
    fn repair(&mut self, below: &[&Path]) -> Health;

    /// What the programs tell of refusals, for one reader.
    ///
    /// # Errors
    /// They cannot be watched.
    fn events(&self) -> Result<Option<Events>, KernelError>;

    /// What the programs have counted, exactly, whoever reads the events.
    ///
    /// # Errors
    /// The map is not readable.
    fn stats(&self) -> Result<Stats, KernelError>;

    /// Ends connections that an agent, of this standing and with a network in this namespace, has and may not have; how many.
    ///
    /// # Errors
    /// The kernel cannot: their packets are dropped all the same.
    fn end_older(
        &self,
        netns: BorrowedFd<'_>,
        owner: Owner,
        standing: &Standing,
    ) -> Result<usize, KernelError>;

    /// Takes off what older versions of the guard have pinned; how many there were. Call it when every pod is on record.
    ///
    /// # Errors
    /// The pins cannot be removed.
    fn retire_others(&mut self) -> Result<usize, KernelError>;

    /// The flows of connections that arrive in the network namespace of a socket.
    ///
    /// # Errors
    /// The namespace has no name.
    fn flows(&self, socket: BorrowedFd<'_>) -> Result<Arc<dyn FlowTable>, KernelError>;
}
