//! Sockets with limits on their waits, and the addresses of the API server in all their forms.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::Duration;

use eks_guard_core::catalogue::probe::Plan;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, connect, socket_with};

use crate::answer::judge;
use crate::found::Attempt;

pub(crate) const INET: u16 = 2;
pub(crate) const INET6: u16 = 10;
pub(crate) const STREAM: u32 = 1;
pub(crate) const DATAGRAM: u32 = 2;
pub(crate) const RAW: u32 = 3;

/// socket() with the numbers of any family; nothing waits longer than the plan says.
pub(crate) fn any(plan: &Plan, family: u16, kind: u32, protocol: u32) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::from_raw(family), SocketType::from_raw(kind));
    let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    let patience = Some(Duration::from_millis(plan.patience_ms.max(1)));
    set_socket_timeout(&socket, Timeout::Send, patience)?;
    set_socket_timeout(&socket, Timeout::Recv, patience)?;
    Ok(socket)
}

pub(crate) fn family_of(to: SocketAddr) -> u16 {
    if to.is_ipv4() { INET } else { INET6 }
}

/// A TCP socket for such an address.
pub(crate) fn tcp(plan: &Plan, to: SocketAddr) -> io::Result<OwnedFd> {
    any(plan, family_of(to), STREAM, 0)
}

/// Connects and judges who answers.
pub(crate) fn dial(plan: &Plan, to: SocketAddr) -> Attempt {
    dial_with(plan, tcp(plan, to)?, to)
}

/// The same with a socket that was prepared.
pub(crate) fn dial_with(plan: &Plan, socket: OwnedFd, to: SocketAddr) -> Attempt {
    connect(&socket, &to)?;
    judge(socket, plan)
}

/// The API server's IPv4 addresses.
pub(crate) fn v4(plan: &Plan) -> Vec<SocketAddr> {
    plan.api.iter().copied().filter(SocketAddr::is_ipv4).collect()
}

/// As IPv4-mapped IPv6 addresses.
pub(crate) fn mapped(plan: &Plan) -> Vec<SocketAddr> {
    translated(plan, |addr| addr.to_ipv6_mapped())
}

/// Behind the well-known NAT64 prefix.
pub(crate) fn nat64(plan: &Plan) -> Vec<SocketAddr> {
    translated(plan, |addr| {
        let [a, b, c, d] = addr.octets();
        let pair = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, pair(a, b), pair(c, d))
    })
}

fn translated(plan: &Plan, by: impl Fn(Ipv4Addr) -> Ipv6Addr) -> Vec<SocketAddr> {
    let translate = |to: &SocketAddr| match to.ip() {
        IpAddr::V4(addr) => Some(SocketAddr::new(by(addr).into(), to.port())),
        IpAddr::V6(_) => None,
    };
    plan.api.iter().filter_map(translate).collect()
}

/// A socket address as the kernel reads it, for calls that take any family.
pub(crate) fn raw_address(to: SocketAddr) -> Vec<u8> {
    let mut bytes = family_of(to).to_ne_bytes().to_vec();
    bytes.extend(to.port().to_be_bytes());
    match to.ip() {
        IpAddr::V4(addr) => {
            bytes.extend(addr.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(addr) => {
            bytes.extend([0; 4]);
            bytes.extend(addr.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}
