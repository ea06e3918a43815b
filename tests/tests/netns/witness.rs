//! What comes through a wire: every IP packet that is left behind the guard of its node's end, whatever its protocol.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use crate::node_world::{API, API6, Node};
use crate::world::PATIENCE;

const ETHERTYPES: [u16; 2] = [0x0800, 0x86dd];
/// Room for all packets of a test that nobody has looked at yet.
const ROOM: usize = 64 << 20;
/// Where a packet is sent that must arrive, so that whatever was sent before it has arrived too or never will.
const MARK: &str = "203.0.113.250:9";

/// Sees what arrives in one network namespace, on whichever interface.
pub(crate) struct Witness([OwnedFd; 2]);

impl Witness {
    /// At the node's end of the wire.
    pub(crate) fn of(node: &Node) -> Self {
        // A socket for one protocol is handed a frame after the traffic classes, where the wire is guarded.
        let open = |ethertype: u16| {
            let protocol = NonZeroU32::new(u32::from(ethertype.to_be())).map(Protocol::from_raw);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol).unwrap();
            set_socket_recv_buffer_size_force(&socket, ROOM).unwrap();
            socket
        };
        Self(node.far.run(|| ETHERTYPES.map(open)))
    }

    /// Where packets went that have arrived since the last look.
    pub(crate) fn seen(&self) -> BTreeSet<IpAddr> {
        let mut seen = BTreeSet::new();
        let mut packet = [0; 2048];
        for socket in &self.0 {
            while let Ok((length, _)) = recv(socket, &mut packet[..], RecvFlags::empty()) {
                seen.extend(destination(&packet[..length]));
            }
        }
        seen
    }

    /// Waits until a packet to this address has arrived.
    pub(crate) fn wait_for(&self, addresses: &[IpAddr], what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().iter().any(|seen| addresses.contains(seen)) {
            assert!(Instant::now() < deadline, "{what}: nothing arrived");
            std::thread::yield_now();
        }
    }

    /// Everything that has arrived and will: a packet of this thread, which nobody guards, goes behind it.
    pub(crate) fn all(&self) -> BTreeSet<IpAddr> {
        let mark: SocketAddr = MARK.parse().unwrap();
        UdpSocket::bind("198.51.100.7:0")
            .unwrap()
            .send_to(b"mark", mark)
            .unwrap();
        let mut all = BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        while !all.contains(&mark.ip()) {
            assert!(Instant::now() < deadline, "the mark does not arrive");
            all.extend(self.seen());
        }
        all
    }

    /// No packet to the API server has arrived, nor will any of those that were sent.
    pub(crate) fn assert_api_untouched(&self, what: &str) {
        let all = self.all();
        assert!(
            api().iter().all(|api| !all.contains(api)),
            "{what}: packets to {all:?}"
        );
    }
}

/// The API server's addresses.
pub(crate) fn api() -> [IpAddr; 2] {
    [API, API6].map(|text| text.parse::<SocketAddr>().unwrap().ip())
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(bytes)))
        }
        6 => {
            let bytes: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}
