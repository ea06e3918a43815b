//! Datagrams. The packet filter tells the sender of IPv4 and UDP messages that they were dropped; what was not refused counts as
//! sent.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use eks_guard_core::catalogue::probe::{Place, Plan};
use rustix::net::{RecvFlags, SendFlags, connect, recv, send, sendto};

use crate::found::{Attempt, Found, forms};
use crate::tries::socket::{DATAGRAM, INET, INET6, any, family_of, mapped, v4};

const UDP_LITE: u32 = 136;
const ICMP: u32 = 1;
const ICMPV6: u32 = 58;
const MESSAGE: &[u8] = b"eks-guard-probe";
/// Discard: a port on which nobody answers.
const DISCARD: u16 = 9;

type Form = (&'static str, fn(&Plan, SocketAddr) -> Attempt);

const UDP: [Form; 3] = [
    ("connected", connected),
    ("unconnected", unconnected),
    ("addressed anew", anew),
];

/// Three forms on every address, the first two again on mapped ones, an IPv4 address on an IPv6 socket, and one connected anew.
pub(crate) fn udp(plan: &Plan) -> Found {
    let plain = plan.api.iter().flat_map(|to| UDP.map(|form| (form, *to)));
    let mapped = mapped(plan)
        .into_iter()
        .flat_map(|to| [UDP[0], UDP[1]].map(|form| (form, to)));
    let other: [Form; 2] = [("on an IPv6 socket", on_ipv6), ("connected anew", connected_anew)];
    let others = v4(plan).into_iter().flat_map(|to| other.map(|form| (form, to)));
    let all = plain.chain(mapped).chain(others);
    forms(all.map(|((name, form), to)| (format!("{name} {to}"), form(plan, to))))
}

fn socket_for(plan: &Plan, to: SocketAddr) -> io::Result<OwnedFd> {
    any(plan, family_of(to), DATAGRAM, 0)
}

fn connected(plan: &Plan, to: SocketAddr) -> Attempt {
    let socket = socket_for(plan, to)?;
    connect(&socket, &to)?;
    send(&socket, MESSAGE, SendFlags::empty())?;
    Ok(Found::sent())
}

fn unconnected(plan: &Plan, to: SocketAddr) -> Attempt {
    sendto(socket_for(plan, to)?, MESSAGE, SendFlags::empty(), &to)?;
    Ok(Found::sent())
}

/// A socket that is connected to nobody of interest and given another destination with the message.
fn anew(plan: &Plan, to: SocketAddr) -> Attempt {
    let socket = socket_for(plan, to)?;
    connect(&socket, &harmless(to))?;
    sendto(&socket, MESSAGE, SendFlags::empty(), &to)?;
    Ok(Found::sent())
}

fn connected_anew(plan: &Plan, to: SocketAddr) -> Attempt {
    let socket = socket_for(plan, to)?;
    connect(&socket, &harmless(to))?;
    connect(&socket, &to)?;
    send(&socket, MESSAGE, SendFlags::empty())?;
    Ok(Found::sent())
}

fn on_ipv6(plan: &Plan, to: SocketAddr) -> Attempt {
    sendto(any(plan, INET6, DATAGRAM, 0)?, MESSAGE, SendFlags::empty(), &to)?;
    Ok(Found::sent())
}

fn harmless(to: SocketAddr) -> SocketAddr {
    if to.is_ipv4() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, DISCARD))
    } else {
        SocketAddr::from((Ipv6Addr::LOCALHOST, DISCARD))
    }
}

pub(crate) fn udp_lite(plan: &Plan) -> Found {
    forms(plan.api.iter().map(|to| {
        let attempt = any(plan, family_of(*to), DATAGRAM, UDP_LITE).and_then(|socket| {
            connect(&socket, to)?;
            send(&socket, MESSAGE, SendFlags::empty())?;
            Ok(Found::sent())
        });
        (to.to_string(), attempt)
    }))
}

/// An echo request counts as sent once it is answered or, over IPv4, once nobody has refused it.
pub(crate) fn ping(plan: &Plan) -> Found {
    if plan.place == Place::ThisHost {
        return Found::not_applicable(
            "this host's kernel answers pings itself; the API server does not read them",
        );
    }
    forms(plan.api.iter().map(|to| (to.ip().to_string(), echo(plan, *to))))
}

fn echo(plan: &Plan, to: SocketAddr) -> Attempt {
    let (protocol, request) = if to.is_ipv4() { (ICMP, 8) } else { (ICMPV6, 128) };
    let socket = any(plan, if to.is_ipv4() { INET } else { INET6 }, DATAGRAM, protocol)?;
    let message = [request, 0, 0, 0, 0, 0, 0, 1];
    sendto(
        &socket,
        &message,
        SendFlags::empty(),
        &SocketAddr::new(to.ip(), 0),
    )?;
    if to.is_ipv6() {
        // The kernel does not tell the sender of an ICMPv6 message that it was dropped: only the answer does.
        let mut answer = [0; 64];
        recv(&socket, &mut answer, RecvFlags::empty())?;
    }
    Ok(Found::sent())
}
