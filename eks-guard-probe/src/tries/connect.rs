//! TCP in every form a program can ask for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Place, Plan};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::socket_error;
use rustix::net::{SendFlags, bind, connect, connect_unspec, getsockname, sendto};

use crate::answer::{hello, judge, judge_asked};
use crate::found::{Attempt, Found, forms};
use crate::sys::uring::{self, Form};
use crate::sys::{set_loopback_flags, set_option};
use crate::tries::listener::real_peer;
use crate::tries::socket::{
    DATAGRAM, INET, any, dial, dial_with, mapped as mapped_api, nat64 as nat64_api, raw_address, tcp, v4,
};

const IPPROTO_TCP: i32 = 6;
const IPPROTO_IP: i32 = 0;
const SOL_SOCKET: i32 = 1;
const TCP_REPAIR: i32 = 19;
const TCP_FASTOPEN_CONNECT: i32 = 30;
const IP_FREEBIND: i32 = 15;
const SO_BINDTODEVICE: i32 = 25;
const SO_MARK: i32 = 36;
const MSG_FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);
/// An address of nobody (RFC 5737).
const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// How many processes connect with their first act.
const AT_ONCE: usize = 20;

/// Every one of these addresses, in the same way.
fn each(to: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> Attempt) -> Found {
    forms(to.into_iter().map(|to| (to.to_string(), attempt(to))))
}

pub(crate) fn ipv4(plan: &Plan) -> Found {
    each(v4(plan), |to| dial(plan, to))
}

pub(crate) fn ipv6(plan: &Plan) -> Found {
    let mut to: Vec<SocketAddr> = plan.api.iter().copied().filter(SocketAddr::is_ipv6).collect();
    if plan.place == Place::ThisHost {
        to.extend(ports(plan).map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
    }
    each(to, |to| dial(plan, to))
}

pub(crate) fn ipv4_or_ipv6(plan: &Plan) -> Found {
    each(plan.api.clone(), |to| dial(plan, to))
}

pub(crate) fn mapped(plan: &Plan) -> Found {
    each(mapped_api(plan), |to| dial(plan, to))
}

pub(crate) fn nat64(plan: &Plan) -> Found {
    each(nat64_api(plan), |to| dial(plan, to))
}

/// What the node is known to rewrite to the API server, and what the cluster says of it itself.
pub(crate) fn aliases(plan: &Plan) -> Found {
    each([&plan.aliases[..], &plan.api].concat(), |to| dial(plan, to))
}

/// The network of the node is that of a pod which has asked for it.
pub(crate) fn in_the_nodes_network(plan: &Plan) -> Found {
    match plan.boundary {
        Boundary::Pod => Found::not_applicable("the pod has a network of its own"),
        Boundary::Run | Boundary::HostNetworkPod => ipv4_or_ipv6(plan),
    }
}

fn ports(plan: &Plan) -> impl Iterator<Item = u16> {
    plan.api.iter().map(SocketAddr::port)
}

pub(crate) fn unspecified(plan: &Plan) -> Found {
    if plan.place == Place::Elsewhere {
        return Found::not_applicable("they mean this host, and the API server is elsewhere");
    }
    let both = |port| {
        let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        [any4, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
    };
    each(ports(plan).flat_map(both).collect(), |to| dial(plan, to))
}

/// All addresses of this host, where the API server may listen as well.
pub(crate) fn other_addresses(plan: &Plan) -> Found {
    if plan.place == Place::Elsewhere {
        return each(plan.api.clone(), |to| dial(plan, to));
    }
    let own = own_addresses();
    let second = IpAddr::from([127, 0, 0, 2]);
    let to = ports(plan).flat_map(|port| {
        own.iter()
            .chain([&second])
            .map(move |addr| SocketAddr::new(*addr, port))
    });
    each(to.collect(), |to| dial(plan, to))
}

/// Without link-local addresses, which need an interface beside them.
fn own_addresses() -> Vec<IpAddr> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|addr| IpAddr::V4(addr.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|addr| IpAddr::V6(addr.ip())))
    };
    let plain = |addr: &IpAddr| !matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
    let all = getifaddrs().into_iter().flatten().filter_map(address);
    all.filter(plain).collect()
}

pub(crate) fn fast_open(plan: &Plan) -> Found {
    let to = [v4(plan), mapped_api(plan)].concat();
    each(to, |to| {
        let socket = tcp(plan, to)?;
        sendto(&socket, &hello(), MSG_FASTOPEN, &to)?;
        judge_asked(socket.into(), plan)
    })
}

pub(crate) fn deferred_fast_open(plan: &Plan) -> Found {
    each(plan.api.clone(), |to| {
        let socket = tcp(plan, to)?;
        set_option(&socket, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &1_i32.to_ne_bytes())?;
        dial_with(plan, socket, to)
    })
}

pub(crate) fn io_uring(plan: &Plan) -> Found {
    let Some(to) = plan.api.first().copied() else {
        return Found::not_run("the plan names no API server");
    };
    let forms_of = [Form::Plain, Form::Async, Form::Polled];
    forms(forms_of.map(|form| (format!("{form:?}"), by_ring(plan, to, form))))
}

fn by_ring(plan: &Plan, to: SocketAddr, form: Form) -> Attempt {
    let socket = tcp(plan, to)?;
    ioctl_fionbio(&socket, true)?;
    match uring::connect(socket.as_raw_fd(), &raw_address(to), form) {
        Err(error)
            if [Some(nix::libc::EINPROGRESS), Some(nix::libc::EINTR)].contains(&error.raw_os_error()) => {}
        outcome => outcome?,
    }
    let patience = Timespec::try_from(Duration::from_millis(plan.patience_ms)).map_err(io::Error::other)?;
    // What is left of the ring may interrupt the wait.
    let ready = loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&patience)) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => break outcome?,
        }
    };
    if ready == 0 {
        return Err(io::Error::from_raw_os_error(nix::libc::EINPROGRESS));
    }
    socket_error(&socket)??;
    ioctl_fionbio(&socket, false)?;
    judge(socket, plan)
}

/// Somewhere harmless first, then the API server, then both the other way round.
pub(crate) fn reconnected(plan: &Plan) -> Found {
    let Some(witness) = plan.witness else {
        return Found::not_run("the plan names no witness");
    };
    let to = plan
        .api
        .iter()
        .copied()
        .filter(|to| to.is_ipv4() == witness.is_ipv4());
    each(to.collect(), |to| {
        let socket = tcp(plan, to)?;
        for stop in [witness, to, witness] {
            connect(&socket, &stop)?;
            connect_unspec(&socket)?;
        }
        dial_with(plan, socket, to)
    })
}

pub(crate) fn bound(plan: &Plan) -> Found {
    each(plan.api.clone(), |to| {
        let own = own_addresses()
            .into_iter()
            .filter(|own| own.is_ipv4() == to.is_ipv4());
        let own = own
            .max_by_key(|own| !own.is_loopback())
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = tcp(plan, to)?;
        bind(&socket, &SocketAddr::new(own, 0))?;
        dial_with(plan, socket, to)
    })
}

pub(crate) fn bound_to_interface(plan: &Plan) -> Found {
    let mut names: Vec<String> = getifaddrs()
        .into_iter()
        .flatten()
        .map(|interface| interface.interface_name)
        .collect();
    names.sort();
    names.dedup();
    let Some(to) = plan.api.first().copied() else {
        return Found::not_run("the plan names no API server");
    };
    forms(names.into_iter().map(|name| {
        let attempt = || {
            let socket = tcp(plan, to)?;
            set_option(&socket, SOL_SOCKET, SO_BINDTODEVICE, name.as_bytes())?;
            dial_with(plan, socket, to)
        };
        let outcome = attempt();
        (name, outcome)
    }))
}

/// With an address of nobody as the source: an answer could not come back, but the guard's could.
pub(crate) fn foreign_source(plan: &Plan) -> Found {
    each(v4(plan), |to| {
        let socket = tcp(plan, to)?;
        set_option(&socket, IPPROTO_IP, IP_FREEBIND, &1_i32.to_ne_bytes())?;
        bind(&socket, &SocketAddr::from((NOBODY, 0)))?;
        dial_with(plan, socket, to)
    })
}

pub(crate) fn marked(plan: &Plan) -> Found {
    each(plan.api.clone(), |to| {
        let socket = tcp(plan, to)?;
        set_option(&socket, SOL_SOCKET, SO_MARK, &7_i32.to_ne_bytes())?;
        dial_with(plan, socket, to)
    })
}

/// Declares the connection to be established: there is no SYN, and what is written goes out at once. Whoever gets it knows no
/// such connection, so a reset from the API server's address is as good as an arrival.
pub(crate) fn repaired(plan: &Plan) -> Found {
    each(plan.api.clone(), |to| {
        let socket = tcp(plan, to)?;
        set_option(&socket, IPPROTO_TCP, TCP_REPAIR, &1_i32.to_ne_bytes())?;
        connect(&socket, &to)?;
        // Before anything goes out: the answer ends the socket.
        let is_direct = real_peer(SocketAddr::try_from(getsockname(&socket)?)?)? == to;
        set_option(&socket, IPPROTO_TCP, TCP_REPAIR, &0_i32.to_ne_bytes())?;
        if !is_direct {
            return Ok(Found::blocked(
                "it leads to the guard, which knows no such connection",
            ));
        }
        let mut stream = TcpStream::from(socket);
        let answered = stream.write_all(&hello()).and_then(|()| stream.read(&mut [0]));
        match answered {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Found::blocked("what was written did not arrive: no answer"))
            }
            Ok(_) | Err(_) => Ok(Found::reached("what was written was answered")),
        }
    })
}

/// In a network of its own, made as root of a user namespace: the listener is not in there, and neither is the API server.
pub(crate) fn own_network(plan: &Plan) -> Found {
    let moved = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET);
    let up = moved.map_err(io::Error::from).and_then(|()| {
        let socket: OwnedFd = any(plan, INET, DATAGRAM, 0)?;
        set_loopback_flags(socket, 1)
    });
    match up {
        Ok(()) => each(plan.api.clone(), |to| dial(plan, to)),
        Err(error) => crate::found::conclude(Err(error)),
    }
}

/// Many processes, each with connect() as its first act.
pub(crate) fn at_once(plan: &Plan) -> Found {
    let first = if v4(plan).is_empty() { "N02" } else { "N01" };
    forms((1..=AT_ONCE).map(|number| (number.to_string(), child(plan, first))))
}

fn child(plan: &Plan, id: &str) -> Attempt {
    let mut child = Command::new("/proc/self/exe")
        .arg(id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        serde_json::to_writer(&mut stdin, plan)?;
        stdin.write_all(b"\n")?;
    }
    let output = child.wait_with_output()?;
    let answer: Answer = serde_json::from_slice(&output.stdout)?;
    Ok(Found {
        result: answer.result,
        evidence: answer.evidence,
    })
}
