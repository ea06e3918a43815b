//! Which flow a connection is: the kernel's word on who connected, and where to.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use aya::maps::MapData;
use eks_guard_ebpf::address::words;
use eks_guard_ebpf::{FlowKey, OriginalDst};
use serde::{Deserialize, Serialize};

use crate::ebpf::sys;

/// An accepted connection, as the listener sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downstream {
    /// Its source address.
    pub addr: SocketAddr,
    /// The number its SYN began with: no other connection from the address has the same.
    pub isn: u32,
}

impl Downstream {
    /// Of a connection just accepted, once. `None`: its listener was not told to keep SYNs ([`keep_syns`](crate::ebpf::keep_syns)), or
    /// it began without one.
    #[must_use]
    pub fn of(accepted: impl AsFd, addr: SocketAddr) -> Option<Self> {
        let isn = sys::syn::take_isn(accepted)?;
        Some(Self { addr, isn })
    }
}

/// Where the caller meant to go. Evidence only: the proxy never dials it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalDstAddr(pub SocketAddr);

/// What the kernel recorded before the SYN left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Where the caller meant to go.
    pub original_dst: OriginalDstAddr,
    /// Cgroup that classified the socket.
    pub cgroup: u64,
    /// Process that called connect(), in the initial PID namespace.
    pub pid: u32,
}

/// Looks a flow up and removes it.
pub trait FlowTable: Send + Sync + 'static {
    /// The flow of an accepted connection; `None` closes the connection.
    fn take(&self, downstream: Downstream) -> Option<Flow>;
}

/// The flow map of loaded programs, for listeners in one network namespace.
#[derive(Debug)]
pub(crate) struct KernelFlows {
    map: Arc<MapData>,
    netns: u64,
}

impl KernelFlows {
    /// For listeners in the network namespace with this cookie.
    pub(crate) fn of(map: Arc<MapData>, netns: u64) -> Self {
        Self { map, netns }
    }

    /// For listeners in the network namespace of the calling thread.
    pub(crate) fn here(map: Arc<MapData>) -> io::Result<Self> {
        Ok(Self {
            map,
            netns: own_netns()?,
        })
    }
}

impl FlowTable for KernelFlows {
    fn take(&self, downstream: Downstream) -> Option<Flow> {
        match sys::take_flow(self.map.fd().as_fd(), &key(self.netns, downstream)) {
            Ok(found) => found.map(|original| flow(&original)),
            Err(error) => {
                tracing::error!(%error, downstream = %downstream.addr, "flow map not readable; connection refused");
                None
            }
        }
    }
}

/// Any socket tells its namespace; which family the host has does not matter.
fn own_netns() -> io::Result<u64> {
    match UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) {
        Ok(socket) => sys::netns_cookie(&socket),
        Err(_) => sys::netns_cookie(&TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?),
    }
}

fn key(netns: u64, downstream: Downstream) -> FlowKey {
    let addr = match downstream.addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    FlowKey {
        netns,
        addr: words(&addr.octets()),
        port: u32::from(downstream.addr.port()),
        isn: downstream.isn,
    }
}

fn flow(original: &OriginalDst) -> Flow {
    let [a, b, c, d] = original.addr.map(u32::to_be);
    let bits = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
    let addr = IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical();
    Flow {
        original_dst: OriginalDstAddr(SocketAddr::new(addr, original.port)),
        cgroup: original.cgroup,
        pid: original.pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(addr: &str, isn: u32) -> Downstream {
        Downstream {
            addr: addr.parse().unwrap(),
            isn,
        }
    }

    #[test]
    fn a_mapped_source_and_a_plain_one_have_one_key() {
        let plain = key(7, from("10.1.2.3:4000", 1));
        assert_eq!(plain, key(7, from("[::ffff:10.1.2.3]:4000", 1)));
        assert_ne!(plain, key(8, from("10.1.2.3:4000", 1)));
        assert_ne!(plain, key(7, from("10.1.2.3:4001", 1)));
        assert_ne!(plain, key(7, from("10.1.2.3:4000", 2)));
    }

    #[test]
    fn a_flow_names_its_original_destination() {
        for text in ["10.0.0.1:443", "[2001:db8::7]:6443", "0.0.0.0:443", "[::]:443"] {
            let dst: SocketAddr = text.parse().unwrap();
            let recorded = key(0, from(text, 0));
            let original = OriginalDst {
                addr: recorded.addr,
                cgroup: 5,
                pid: 9,
                port: dst.port(),
                padding: 0,
            };
            assert_eq!(
                flow(&original),
                Flow {
                    original_dst: OriginalDstAddr(dst),
                    cgroup: 5,
                    pid: 9
                },
                "{text}"
            );
        }
    }
}
