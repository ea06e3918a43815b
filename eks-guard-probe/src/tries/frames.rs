//! Frames written by hand. On the loopback of a machine the kernel's word is all there is; a pod's leave by its cable, and only
//! a SYN-ACK of the API server shows that they arrived.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::Plan;
use nix::net::if_::if_nametoindex;
use rustix::net::{RecvFlags, recv};

use crate::found::{Attempt, Found, forms};
use crate::sys;
use crate::tries::handshake::{Link, is_answer, syn};
use crate::tries::packets::plain;
use crate::tries::socket::{DATAGRAM, RAW, any, v4};

const PACKET: u16 = 17;
const XDP: u16 = 44;
const SOL_PACKET: i32 = 263;
const PACKET_QDISC_BYPASS: i32 = 20;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Who answers does so at once; most of the wait is for answers that must not come.
const WAIT: Duration = Duration::from_secs(5);

pub(crate) fn by_hand(plan: &Plan) -> Found {
    by_link(plan, &[])
}

pub(crate) fn past_the_queue(plan: &Plan) -> Found {
    by_link(plan, &[(SOL_PACKET, PACKET_QDISC_BYPASS)])
}

fn by_link(plan: &Plan, options: &[(i32, i32)]) -> Found {
    let kinds = [(RAW, "frame"), (DATAGRAM, "packet")];
    match plan.boundary {
        Boundary::Run | Boundary::HostNetworkPod => forms(v4(plan).into_iter().flat_map(|to| {
            kinds.map(|(kind, name)| (format!("{name} {to}"), send_on_loopback(plan, kind, options, to)))
        })),
        Boundary::Pod => forms(kinds.map(|(kind, name)| (name.to_owned(), shake(plan, kind, options)))),
    }
}

fn send_on_loopback(plan: &Plan, kind: u32, options: &[(i32, i32)], to: SocketAddr) -> Attempt {
    let socket = prepared(plan, kind, options)?;
    let loopback = if_nametoindex("lo")?;
    send(
        &socket,
        kind,
        loopback,
        BROADCAST,
        [0; 6],
        ETHERTYPE_IPV4,
        &plain(to),
    )?;
    Ok(Found::sent())
}

/// A socket that receives IPv4 packets.
fn prepared(plan: &Plan, kind: u32, options: &[(i32, i32)]) -> io::Result<std::os::fd::OwnedFd> {
    let socket = any(plan, PACKET, kind, u32::from(ETHERTYPE_IPV4.to_be()))?;
    for (level, name) in options {
        sys::set_option(&socket, *level, *name, &1_i32.to_ne_bytes())?;
    }
    Ok(socket)
}

/// One packet, behind the head of a frame where the kernel writes none itself.
fn send(
    socket: &std::os::fd::OwnedFd,
    kind: u32,
    interface: u32,
    to: [u8; 6],
    from: [u8; 6],
    ethertype: u16,
    packet: &[u8],
) -> io::Result<()> {
    let mut bytes = Vec::new();
    if kind == RAW {
        bytes.extend(to);
        bytes.extend(from);
        bytes.extend(ethertype.to_be_bytes());
    }
    bytes.extend(packet);
    sys::send_to(socket, &bytes, &link_address(interface, to, ethertype)?)
}

/// A link-layer address: family, protocol, interface, and a hardware address.
fn link_address(interface: u32, to: [u8; 6], ethertype: u16) -> io::Result<Vec<u8>> {
    let mut bytes = PACKET.to_ne_bytes().to_vec();
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(i32::try_from(interface).map_err(io::Error::other)?.to_ne_bytes());
    bytes.extend([0, 0, 0, 6]);
    bytes.extend(to);
    bytes.extend([0; 2]);
    Ok(bytes)
}

/// SYNs to every address of the API server, and a wait for the first SYN-ACK.
fn shake(plan: &Plan, kind: u32, options: &[(i32, i32)]) -> Attempt {
    let to = v4(plan);
    let socket = prepared(plan, kind, options)?;
    let Some(link) = Link::out()?.filter(|_| !to.is_empty()) else {
        return Ok(Found::not_applicable("no IPv4 leads out of the pod"));
    };
    let Some(neighbour) = neighbour(plan, &link)? else {
        return Ok(Found::not_run(
            "the neighbour on the pod's cable does not say its address",
        ));
    };
    let (index, own) = (link.index, link.hardware);
    for to in &to {
        let packet = syn(link.address, *to);
        send(&socket, kind, index, neighbour, own, ETHERTYPE_IPV4, &packet)?;
    }
    let head = if kind == RAW { 14 } else { 0 };
    let answered = wait_for(plan, &socket, |packet| {
        let packet = packet.get(head..)?;
        to.iter().find(|to| is_answer(packet, **to)).copied()
    })?;
    Ok(match answered {
        Some(to) => Found::reached(format!("SYN-ACK of {to}")),
        None => Found::blocked("no SYN-ACK came back"),
    })
}

/// The first packet in which `look` finds something; none in time.
fn wait_for<T>(
    plan: &Plan,
    socket: &std::os::fd::OwnedFd,
    look: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let patience = Duration::from_millis(plan.patience_ms).min(WAIT);
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, Some(patience))?;
    let deadline = Instant::now() + patience;
    let mut bytes = [0; 2048];
    while Instant::now() < deadline {
        match recv(socket, &mut bytes, RecvFlags::empty()) {
            Ok((_, length)) => {
                if let Some(found) = look(bytes.get(..length).unwrap_or_default()) {
                    return Ok(Some(found));
                }
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The hardware address of the first router: known to the kernel, or asked for as it would ask (RFC 826).
fn neighbour(plan: &Plan, link: &Link) -> io::Result<Option<[u8; 6]>> {
    if let Some(known) = link.known_neighbour()? {
        return Ok(Some(known));
    }
    let socket = any(plan, PACKET, DATAGRAM, u32::from(ETHERTYPE_ARP.to_be()))?;
    let question = arp(link.hardware, link.address, link.router);
    send(
        &socket,
        DATAGRAM,
        link.index,
        BROADCAST,
        link.hardware,
        ETHERTYPE_ARP,
        &question,
    )?;
    let router = link.router.octets();
    wait_for(plan, &socket, |reply| {
        let is_reply = reply.get(7) == Some(&2) && reply.get(14..18) == Some(&router[..]);
        is_reply.then(|| reply.get(8..14)?.try_into().ok()).flatten()
    })
}

fn arp(own: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
    bytes.extend(own);
    bytes.extend(from.octets());
    bytes.extend([0; 6]);
    bytes.extend(to.octets());
    bytes
}

/// The socket is all that is tried: a ring to send from takes the same way as row P03.
pub(crate) fn xdp(plan: &Plan) -> Found {
    let made = any(plan, XDP, RAW, 0).map(|_| match plan.boundary {
        Boundary::Run | Boundary::HostNetworkPod => Found::reached("the socket was made"),
        Boundary::Pod => Found::not_applicable("made; what it sends passes the cable as in row P03"),
    });
    forms([("socket".to_owned(), made)])
}
