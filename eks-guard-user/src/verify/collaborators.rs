//! What stands outside the boundary and would help a process inside: listeners, and sockets that are handed on. Gone when dropped.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::time::Duration;

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Place, Plan};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, socket};
use uuid::Uuid;

use crate::ebpf::find_cgroup2;
use crate::ebpf::loader::host_addresses;
use crate::tls::ca::COMMON_NAME;
use crate::upstream::Upstream;
use crate::verify::error::VerifyError;

/// Descriptors that are handed on get numbers that nothing else has.
const FIRST_NUMBER: i32 = 200;
/// Where a pod has its ServiceAccount's token: a run started in a pod must not see that one either.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything outside, and the plan that names it.
pub(crate) struct Collaborators {
    pub(crate) plan: Plan,
    /// Its backlog takes the connections of the probe; nobody accepts them.
    _witness: TcpListener,
    _abstract_socket: UnixListener,
    _handed_on: Vec<OwnedFd>,
}

impl Collaborators {
    /// Starts them.
    ///
    /// # Errors
    /// The machine has no sockets left, or the API server cannot be reached.
    pub(crate) fn start(upstream: &Upstream) -> Result<Collaborators, VerifyError> {
        let api = upstream.endpoint.addresses.clone();
        let first = api.first().copied().ok_or(VerifyError::NoApiServer)?;
        let step = VerifyError::step("listen outside the boundary");
        let witness = TcpListener::bind(loopback(first)).map_err(&step)?;
        let name = format!("eks-guard-verify-{}", Uuid::now_v7());
        let address = UnixAddr::from_abstract_name(&name).map_err(&step)?;
        let abstract_socket = UnixListener::bind_addr(&address).map_err(&step)?;
        let step = VerifyError::step("make sockets to hand on");
        let family = if first.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let unconnected = socket(family, SocketType::STREAM, None)
            .map_err(io::Error::from)
            .map_err(&step)?;
        let connected = TcpStream::connect(first).map_err(VerifyError::step("connect to the API server"))?;
        let handed_on = [hand_on(unconnected), hand_on(connected)];
        let [unconnected, connected] = handed_on.map(|handed| handed.map_err(&step));
        let (unconnected, connected) = (unconnected?, connected?);
        let kubeconfig = &upstream.kubeconfig;
        let plan = Plan {
            boundary: Boundary::Run,
            aliases: Vec::new(),
            relays: Vec::new(),
            kubelets: Vec::new(),
            other_clusters: Vec::new(),
            place: place(&api)?,
            api,
            guard: COMMON_NAME.to_owned(),
            witness: Some(witness.local_addr().map_err(&step)?),
            abstract_socket: Some(name),
            unconnected_fd: Some(unconnected.as_raw_fd()),
            connected_fd: Some(connected.as_raw_fd()),
            older: false,
            credentials: kubeconfig
                .covered
                .iter()
                .chain(&kubeconfig.hidden)
                .cloned()
                .chain([TOKEN.into()])
                .collect(),
            cgroup2: find_cgroup2().ok(),
            patience_ms: u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Collaborators {
            plan,
            _witness: witness,
            _abstract_socket: abstract_socket,
            _handed_on: vec![unconnected, connected],
        })
    }
}

fn loopback(like: SocketAddr) -> SocketAddr {
    let addr: IpAddr = if like.is_ipv4() {
        [127, 0, 0, 1].into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    SocketAddr::new(addr, 0)
}

/// A copy that programs started from here inherit.
fn hand_on(socket: impl AsFd) -> io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(socket, FIRST_NUMBER)?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}

fn place(api: &[SocketAddr]) -> Result<Place, VerifyError> {
    let own = host_addresses()?;
    let here = |to: &SocketAddr| to.ip().is_loopback() || own.contains(&to.ip());
    Ok(if api.iter().all(here) {
        Place::ThisHost
    } else {
        Place::Elsewhere
    })
}
