//! `hammer MAC ADDRESS...`: tries for ever to reach addresses without anybody's leave, by every means that is fast, and says
//! after each round how many there were. What comes of it is not its affair: packets are counted where they would arrive.

#![allow(clippy::print_stdout, reason = "standard output is its log")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::time::Duration;
use std::{env, io};

use anyhow::{Context, Result};
use nix::sys::socket::{LinkAddr, MsgFlags};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType};

/// Where somebody answers, it is at once.
const PATIENCE: Duration = Duration::from_millis(200);
const IPPROTO_RAW: u32 = 255;
const UDP: u8 = 17;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let gateway = mac(&args.next().context("hammer MAC ADDRESS...")?)?;
    let targets: Vec<SocketAddr> = args.map(|text| Ok(text.parse()?)).collect::<Result<_>>()?;
    let wire = Wire::of(gateway)?;
    for round in 1_u64.. {
        for target in &targets {
            // Every one of these is meant to fail.
            TcpStream::connect_timeout(target, PATIENCE).ok();
            disguised(*target).ok();
            datagram(*target).ok();
            raw(*target).ok();
            wire.frame(*target).ok();
        }
        println!("round {round}");
    }
    Ok(())
}

/// An IPv4 address as a socket of IPv6 names it.
fn disguised(target: SocketAddr) -> io::Result<TcpStream> {
    let IpAddr::V4(v4) = target.ip() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    TcpStream::connect_timeout(
        &SocketAddr::new(v4.to_ipv6_mapped().into(), target.port()),
        PATIENCE,
    )
}

fn datagram(target: SocketAddr) -> io::Result<usize> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0))?.send_to(b"hammer", target)
}

fn raw(target: SocketAddr) -> io::Result<usize> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let protocol = NonZeroU32::new(IPPROTO_RAW).map(Protocol::from_raw);
    let socket = rustix::net::socket(family, SocketType::RAW, protocol)?;
    let to = SocketAddr::new(target.ip(), 0);
    Ok(rustix::net::sendto(&socket, b"hammer", SendFlags::empty(), &to)?)
}

/// The cable to the node, for frames that no socket layer sees.
struct Wire {
    link: LinkAddr,
    gateway: [u8; 6],
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Wire {
    fn of(gateway: [u8; 6]) -> Result<Self> {
        let interfaces: Vec<_> = nix::ifaddrs::getifaddrs()?
            .filter(|interface| interface.interface_name == "eth0")
            .filter_map(|interface| interface.address)
            .collect();
        let v6 = |address: &nix::sys::socket::SockaddrStorage| address.as_sockaddr_in6().map(|v6| v6.ip());
        let find = interfaces.iter();
        Ok(Self {
            link: *find
                .clone()
                .find_map(|address| address.as_link_addr())
                .context("no eth0")?,
            gateway,
            v4: find
                .clone()
                .find_map(|address| address.as_sockaddr_in().map(|v4| v4.ip())),
            v6: find.clone().filter_map(v6).find(|v6| !v6.is_unicast_link_local()),
        })
    }

    fn frame(&self, target: SocketAddr) -> io::Result<usize> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, sendto, socket};
        let none = || io::Error::from(io::ErrorKind::Unsupported);
        let own = self.link.addr().ok_or_else(none)?;
        let (kind, packet) = match target.ip() {
            IpAddr::V4(to) => (0x0800_u16, packet4(self.v4.ok_or_else(none)?, to)),
            IpAddr::V6(to) => (0x86dd, packet6(self.v6.ok_or_else(none)?, to)),
        };
        let frame = [&self.gateway[..], &own, &kind.to_be_bytes(), &packet].concat();
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)?;
        Ok(sendto(socket.as_raw_fd(), &frame, &self.link, MsgFlags::empty())?)
    }
}

/// A datagram to port 443, with nothing in it.
const DATAGRAM: [u8; 8] = [0x99, 0x99, 0x01, 0xbb, 0, 8, 0, 0];

fn packet4(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, UDP, 0, 0];
    header.extend(from.octets());
    header.extend(to.octets());
    let pairs = header
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    header[10..12].copy_from_slice(&[high, low]);
    [&header[..], &DATAGRAM].concat()
}

fn packet6(from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    [
        &[0x60, 0, 0, 0, 0, 8, UDP, 64][..],
        &from.octets(),
        &to.octets(),
        &DATAGRAM,
    ]
    .concat()
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<_, _>>()?;
    bytes.as_slice().try_into().context("a MAC address has six bytes")
}
