//! A TCP handshake without the kernel: the way out of a pod, the first packet, and how its answer is known.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Both ends of the way out of the pod's network.
pub(crate) struct Link {
    /// The interface.
    pub(crate) index: u32,
    name: String,
    /// Its hardware address.
    pub(crate) hardware: [u8; 6],
    /// Its IPv4 address.
    pub(crate) address: Ipv4Addr,
    /// Where everything goes first.
    pub(crate) router: Ipv4Addr,
    asks_nobody: bool,
}

const TCP: u8 = 6;
/// A port that no program of the pod uses while it is not asked for one.
const SOURCE_PORT: u16 = 0x9999;
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;

impl Link {
    /// The default route of the calling process's network; none without IPv4.
    pub(crate) fn out() -> io::Result<Option<Link>> {
        let table = fs::read_to_string("/proc/self/net/route")?;
        let mut routes = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let &[name, destination, router, _, _, _, _, mask, ..] = fields.as_slice() else {
                return None;
            };
            let router = u32::from_str_radix(router, 16).ok()?;
            (destination == "00000000" && mask == "00000000").then(|| (name.to_owned(), router))
        });
        let Some((name, router)) = routes.next() else {
            return Ok(None);
        };
        let own = || getifaddrs().map(|all| all.filter(|entry| entry.interface_name == name));
        let hardware = own()?.find_map(|entry| entry.address?.as_link_addr()?.addr());
        let address = own()?.find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()));
        let asks_nobody = own()?.any(|entry| entry.flags.contains(InterfaceFlags::IFF_NOARP));
        let (Some(hardware), Some(address)) = (hardware, address.or_else(any_address)) else {
            return Ok(None);
        };
        Ok(Some(Link {
            index: nix::net::if_::if_nametoindex(name.as_str())?,
            name,
            hardware,
            address,
            // The table is in the machine's byte order.
            router: Ipv4Addr::from(router.to_ne_bytes()),
            asks_nobody,
        }))
    }

    /// The router's hardware address, where the kernel has it. On an interface that asks nobody it takes its own.
    pub(crate) fn known_neighbour(&self) -> io::Result<Option<[u8; 6]>> {
        if self.asks_nobody {
            return Ok(Some(self.hardware));
        }
        let table = fs::read_to_string("/proc/self/net/arp")?;
        let mut known = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let &[address, _, _, hardware, _, device] = fields.as_slice() else {
                return None;
            };
            let is_router = address == self.router.to_string() && device == self.name;
            let bytes: Option<Vec<u8>> = hardware
                .split(':')
                .map(|byte| u8::from_str_radix(byte, 16).ok())
                .collect();
            let bytes = <[u8; 6]>::try_from(bytes?).ok()?;
            (is_router && bytes != [0; 6]).then_some(bytes)
        });
        Ok(known.next())
    }
}

/// The address of an interface that has none itself.
fn any_address() -> Option<Ipv4Addr> {
    let all = getifaddrs().ok()?;
    let mut addresses = all.filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()));
    addresses.find(|address| !address.is_loopback())
}

/// An IPv4 packet that opens a connection, with both checksums.
pub(crate) fn syn(from: Ipv4Addr, to: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(to) = to else {
        return Vec::new();
    };
    let mut segment = SOURCE_PORT.to_be_bytes().to_vec();
    segment.extend(to.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let length = u8::try_from(segment.len()).unwrap_or_default();
    let pseudo = [
        &from.octets()[..],
        &to.ip().octets(),
        &[0, TCP, 0, length],
        &segment,
    ]
    .concat();
    put(&mut segment, 16, checksum(&pseudo));
    let mut packet = vec![0x45, 0, 0, 20 + length, 0x12, 0x34, 0x40, 0, 64, TCP, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.ip().octets());
    let sum = checksum(&packet);
    put(&mut packet, 10, sum);
    packet.extend(segment);
    packet
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *slot = byte;
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Whether a packet accepts what [`syn`] asked for.
pub(crate) fn is_answer(packet: &[u8], from: SocketAddr) -> bool {
    let SocketAddr::V4(from) = from else {
        return false;
    };
    let Some(&first) = packet.first() else {
        return false;
    };
    let segment = packet.get(usize::from(first & 0xf) * 4..).unwrap_or_default();
    let ports = [from.port().to_be_bytes(), SOURCE_PORT.to_be_bytes()].concat();
    packet.get(9) == Some(&TCP)
        && packet.get(12..16) == Some(&from.ip().octets()[..])
        && segment.get(..4) == Some(&ports[..])
        && segment.get(13) == Some(&SYN_ACK)
}

#[cfg(test)]
mod tests {
    use crate::tries::handshake::{checksum, is_answer, syn};

    #[test]
    fn a_packet_has_good_sums_and_its_answer_is_known() {
        let to = "192.0.2.1:443".parse().unwrap();
        let packet = syn("198.51.100.7".parse().unwrap(), to);
        assert_eq!(checksum(&packet[..20]), 0, "a sum over itself is nothing");
        let pseudo = [&packet[12..20], &[0, 6, 0, 20], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert!(!is_answer(&packet, to));
        let mut answer = packet;
        answer[12..20].rotate_left(4);
        answer[20..24].rotate_left(2);
        answer[33] = 0x12;
        assert!(is_answer(&answer, to));
        answer[33] = 0x14;
        assert!(!is_answer(&answer, to), "a reset");
    }
}
