//! What stands around an agent and would help it: listeners on the node, and sockets made in its network by a process that is
//! not in its cgroup. Gone when dropped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use eks_guard_core::catalogue::probe::{Place, Plan};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, connect, socket};
use uuid::Uuid;

use crate::ebpf::{find_cgroup2, loader::host_addresses};
use crate::node::config::{NodeConfig, Prefix};
use crate::node::listener::in_netns;
use crate::node::status::Status;
use crate::node::trial::TrialError;
use crate::node::trial::target::Target;
use crate::tls::ca::COMMON_NAME;

/// Descriptors that are handed on get numbers that nothing else has.
const FIRST_NUMBER: i32 = 200;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most addresses of the API server that are tried: each in every form.
const MOST_ADDRESSES: usize = 16;
/// Ports of a kubelet: its API, the one without authentication, and its health.
const KUBELET: [u16; 3] = [10_250, 10_255, 10_248];
const HTTPS: u16 = 443;

/// What is known of the node, the same for all pods.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Addresses of the API server.
    pub api: Vec<SocketAddr>,
    /// Addresses that the node is known to rewrite to the API server's.
    pub aliases: Vec<SocketAddr>,
    /// Who could pass something on.
    pub relays: Vec<SocketAddr>,
    node: Vec<IpAddr>,
    other_clusters: Vec<SocketAddr>,
}

impl Surroundings {
    /// What the daemon's status and configuration say.
    ///
    /// # Errors
    /// The node's addresses are not known.
    pub fn of(status: &Status, config: &NodeConfig) -> Result<Surroundings, TrialError> {
        let is_plain = |addr: &IpAddr| match addr {
            IpAddr::V4(addr) => !addr.is_loopback() && !addr.is_link_local(),
            IpAddr::V6(addr) => !addr.is_loopback() && !addr.is_unicast_link_local(),
        };
        Ok(Surroundings {
            api: status.api.iter().copied().take(MOST_ADDRESSES).collect(),
            aliases: Vec::new(),
            relays: Vec::new(),
            node: host_addresses()?.into_iter().filter(is_plain).collect(),
            other_clusters: config.other_clusters.iter().map(first_host).collect(),
        })
    }
}

fn first_host(prefix: &Prefix) -> SocketAddr {
    let address = match prefix.address {
        IpAddr::V4(addr) if prefix.length < 31 => Ipv4Addr::from_bits(addr.to_bits() | 1).into(),
        IpAddr::V6(addr) if prefix.length < 127 => Ipv6Addr::from_bits(addr.to_bits() | 1).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => prefix.address,
    };
    SocketAddr::new(address, HTTPS)
}

/// Everybody around one probe, and the plan that names them.
pub(super) struct Collaborators {
    pub(super) plan: Plan,
    /// Their backlogs take the connections of the probe; nobody accepts them.
    _listeners: Vec<TcpListener>,
    _abstract_socket: UnixListener,
    _handed_on: Vec<OwnedFd>,
}

/// What is made in the network of the probe.
struct Within {
    witness: TcpListener,
    unconnected: OwnedFd,
    connected: OwnedFd,
}

impl Collaborators {
    /// Around a probe in the pod.
    pub(super) fn start(around: &Surroundings, target: &Target) -> io::Result<Collaborators> {
        let first = first(around)?;
        let within = match &target.namespaces.net {
            Some(netns) => in_netns(netns.as_fd(), || within(first))?,
            None => within(first)?,
        };
        Self::around(around, target, within, target.cgroup2.clone())
    }

    /// Around the same probe as a process of the node.
    pub(super) fn of_the_node(around: &Surroundings, target: &Target) -> io::Result<Collaborators> {
        let within = within(first(around)?)?;
        Self::around(around, target, within, find_cgroup2().ok())
    }

    fn around(
        around: &Surroundings,
        target: &Target,
        within: Within,
        cgroup2: Option<PathBuf>,
    ) -> io::Result<Collaborators> {
        let mut listeners = Vec::new();
        let mut relays = around.relays.clone();
        for address in &around.node {
            let listener = TcpListener::bind((*address, 0))?;
            relays.push(listener.local_addr()?);
            listeners.push(listener);
        }
        let name = format!("eks-guard-verify-{}", Uuid::now_v7());
        let abstract_socket = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name)?)?;
        let kubelet = |address: &IpAddr| KUBELET.map(|port| SocketAddr::new(*address, port));
        let plan = Plan {
            boundary: target.boundary,
            api: around.api.clone(),
            place: Place::Elsewhere,
            guard: COMMON_NAME.to_owned(),
            aliases: around.aliases.clone(),
            relays,
            kubelets: around.node.iter().flat_map(kubelet).collect(),
            other_clusters: around.other_clusters.clone(),
            witness: Some(within.witness.local_addr()?),
            abstract_socket: Some(name),
            unconnected_fd: Some(within.unconnected.as_raw_fd()),
            connected_fd: Some(within.connected.as_raw_fd()),
            older: false,
            credentials: Vec::new(),
            cgroup2,
            patience_ms: u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX),
        };
        listeners.push(within.witness);
        Ok(Collaborators {
            plan,
            _listeners: listeners,
            _abstract_socket: abstract_socket,
            _handed_on: vec![within.unconnected, within.connected],
        })
    }
}

fn first(around: &Surroundings) -> io::Result<SocketAddr> {
    let first = around.api.first().copied();
    first.ok_or_else(|| io::Error::other("the daemon knows no address of the API server"))
}

fn within(api: SocketAddr) -> io::Result<Within> {
    let (family, loopback): (_, IpAddr) = if api.is_ipv4() {
        (AddressFamily::INET, Ipv4Addr::LOCALHOST.into())
    } else {
        (AddressFamily::INET6, Ipv6Addr::LOCALHOST.into())
    };
    let connecting = socket(family, SocketType::STREAM, None)?;
    ioctl_fionbio(&connecting, true)?;
    match connect(&connecting, &api) {
        // Where the cable is closed it stays at that; who uses it waits, but not for ever.
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    ioctl_fionbio(&connecting, false)?;
    let unconnected = socket(family, SocketType::STREAM, None)?;
    for socket in [&connecting, &unconnected] {
        for timeout in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(socket, timeout, Some(PATIENCE))?;
        }
    }
    Ok(Within {
        witness: TcpListener::bind((loopback, 0))?,
        unconnected: hand_on(unconnected)?,
        connected: hand_on(connecting)?,
    })
}

/// A copy that programs started from here inherit.
fn hand_on(socket: impl AsFd) -> io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(socket, FIRST_NUMBER)?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}
