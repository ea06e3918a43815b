//! Packets written by hand. What the kernel takes counts as sent: nobody here can see how far it goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use eks_guard_core::catalogue::probe::Plan;
use rustix::net::{SendFlags, sendto};

use crate::found::{Attempt, Found, forms};
use crate::tries::socket::{RAW, any, family_of};

const IPPROTO_RAW: u32 = 255;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const MORE_FRAGMENTS: u16 = 0x2000;
/// A loose source route with no hop left, padded to a word.
const SOURCE_ROUTE: [u8; 4] = [131, 3, 4, 0];
/// A routing header (type 0, no segments left) in front of TCP.
const ROUTING_HEADER: [u8; 8] = [TCP, 0, 0, 0, 0, 0, 0, 0];

/// The header of a SYN to this port.
fn syn(port: u16) -> [u8; 20] {
    let [high, low] = port.to_be_bytes();
    [
        0x99, 0x99, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ]
}

/// An IPv4 packet; the kernel fills in length and checksum of the header.
fn ipv4(to: Ipv4Addr, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap_or(15);
    let length = u16::try_from(20 + options.len() + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0x40 | words, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, TCP, 0, 0]);
    bytes.extend(Ipv4Addr::LOCALHOST.octets());
    bytes.extend(to.octets());
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet with this next header.
fn ipv6(to: Ipv6Addr, next: u8, payload: &[&[u8]]) -> Vec<u8> {
    let payload = payload.concat();
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(Ipv6Addr::LOCALHOST.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

pub(crate) fn plain(to: SocketAddr) -> Vec<u8> {
    match to.ip() {
        IpAddr::V4(addr) => ipv4(addr, 0, &[], &syn(to.port())),
        IpAddr::V6(addr) => ipv6(addr, TCP, &[&syn(to.port())]),
    }
}

fn send_raw(plan: &Plan, to: SocketAddr, packet: &[u8]) -> Attempt {
    let socket = any(plan, family_of(to), RAW, IPPROTO_RAW)?;
    sendto(&socket, packet, SendFlags::empty(), &SocketAddr::new(to.ip(), 0))?;
    Ok(Found::sent())
}

pub(crate) fn raw(plan: &Plan) -> Found {
    let crafted = plan
        .api
        .iter()
        .map(|to| (format!("crafted {to}"), send_raw(plan, *to, &plain(*to))));
    let connected = plan.api.iter().map(|to| {
        let attempt = any(plan, family_of(*to), RAW, TCP.into()).and_then(|socket| dial_raw(&socket, *to));
        (format!("connected {to}"), attempt)
    });
    forms(crafted.chain(connected))
}

fn dial_raw(socket: &std::os::fd::OwnedFd, to: SocketAddr) -> Attempt {
    rustix::net::connect(socket, &to)?;
    rustix::io::write(socket, &syn(to.port()))?;
    Ok(Found::sent())
}

/// Fragments that hide the port, options, routing headers.
pub(crate) fn disguised(plan: &Plan) -> Found {
    let tried = plan.api.iter().flat_map(|to| {
        let syn = syn(to.port());
        let forms: Vec<(&str, Vec<u8>)> = match to.ip() {
            IpAddr::V4(addr) => vec![
                ("source route", ipv4(addr, 0, &SOURCE_ROUTE, &syn)),
                ("first fragment", ipv4(addr, MORE_FRAGMENTS, &[], &syn)),
                ("later fragment", ipv4(addr, 1, &[], &syn)),
            ],
            IpAddr::V6(addr) => vec![("routing header", ipv6(addr, ROUTING, &[&ROUTING_HEADER, &syn]))],
        };
        forms
            .into_iter()
            .map(move |(name, packet)| (format!("{name} {to}"), send_raw(plan, *to, &packet)))
    });
    forms(tried)
}
