//! Packets of a guarded socket on their way out: whatever brought them past the other hooks, they do not reach the API server.
//! The hook stands before fragmentation and after the rewriting of destinations, so only a forged packet is a fragment here.

use aya_ebpf::helpers::generated::bpf_skb_ancestor_cgroup_id;
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::address::{self, Form, LOOPBACK4, LOOPBACK6, Words};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::transport::{Ports, ports};
use eks_guard_ebpf::{Class, POD_AGENT, Pod, class};

use crate::judge::{class_of, config, pod_by};

const OFFSET_BITS_V4: u16 = 0x1fff;
const OFFSET_BITS_V6: u16 = 0xfff8;
const HEADER_V6: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers that are followed. No stack sends as many.
const MAX_HEADERS: usize = 8;

/// A packet that does not leave.
pub(crate) struct Dropped {
    /// Where it would have gone; IPv4 mapped.
    pub(crate) addr: Words,
    pub(crate) refusal: Refusal,
}

/// What the header of a packet says.
struct Header {
    addr: Words,
    form: Form,
    payload: Payload,
}

/// What follows the headers of IP. Every field always has a value: the verifier refuses to copy one that has none, as the
/// halves of a `Result` would.
#[derive(Clone, Copy)]
struct Payload {
    protocol: u8,
    at: usize,
    /// Why `protocol` and `at` cannot be relied on.
    unknown: Option<Refusal>,
}

/// Passes or drops a packet.
#[inline(always)]
pub(crate) fn leave(packet: &SkBuff) -> Result<(), Dropped> {
    let Some(header) = header(packet) else {
        return Err(Dropped {
            addr: [0; 4],
            refusal: Refusal::Unreadable,
        });
    };
    judge(packet, &header).map_err(|refusal| Dropped {
        addr: header.addr,
        refusal,
    })
}

#[inline(always)]
fn judge(packet: &SkBuff, header: &Header) -> Result<(), Refusal> {
    let config = config()?;
    let found = class_of(header.form, header.addr);
    let routed = header.payload.unknown == Some(Refusal::RoutingHeader);
    if found.is_none() && !routed {
        return Ok(());
    }
    // The socket's cgroup, not the caller's: packets also leave from timers and interrupts.
    // SAFETY: the context of this program; the helper answers 0 where there is no ancestor.
    let pod = pod_by(config, |level| unsafe {
        bpf_skb_ancestor_cgroup_id(packet.skb, level)
    });
    let (_, pod) = pod.ok_or(Refusal::Unclassified)?;
    if pod.flags & POD_AGENT == 0 {
        return Ok(());
    }
    if routed {
        return Err(Refusal::RoutingHeader);
    }
    match found {
        Some(found) => towards(packet, header, found, pod),
        None => Ok(()),
    }
}

/// The rule of connect(), for packets that were not redirected.
#[inline(always)]
fn towards(packet: &SkBuff, header: &Header, found: &Class, pod: &Pod) -> Result<(), Refusal> {
    if found.class != class::API {
        return Err(Refusal::UnknownClass);
    }
    if found.port_only != 1 {
        return Err(Refusal::NotRedirected);
    }
    let payload = header.payload;
    if let Some(refusal) = payload.unknown {
        return Err(refusal);
    }
    match ports(payload.protocol) {
        Ports::None => Ok(()),
        Ports::Unknown => Err(Refusal::Unreadable),
        Ports::Second => {
            let port = packet
                .load::<u16>(payload.at + 2)
                .map_err(|_short| Refusal::Unreadable)?;
            let port = u16::from_be(port);
            if port != found.port || is_listener(header, port, pod) {
                Ok(())
            } else {
                Err(Refusal::NotRedirected)
            }
        }
    }
}

/// An API server on one address of this host leaves its port free on others, and the guard may have got it on loopback.
#[inline(always)]
fn is_listener(header: &Header, port: u16, pod: &Pod) -> bool {
    let loopback = match header.form {
        Form::Mapped(v4) => v4 == LOOPBACK4,
        Form::Native => header.addr == LOOPBACK6,
        Form::Nat64(_) => false,
    };
    loopback && port == pod.listener_port
}

#[inline(always)]
fn header(packet: &SkBuff) -> Option<Header> {
    let first = packet.load::<u8>(0).ok()?;
    match first >> 4 {
        4 => header_v4(packet, first),
        6 => header_v6(packet),
        _ => None,
    }
}

#[inline(always)]
fn header_v4(packet: &SkBuff, first: u8) -> Option<Header> {
    let offset = packet.load::<u16>(6).ok()?;
    let protocol = packet.load::<u8>(9).ok()?;
    let v4 = packet.load::<u32>(16).ok()?;
    let later = u16::from_be(offset) & OFFSET_BITS_V4 != 0;
    let payload = Payload {
        protocol,
        at: usize::from(first & 0xf) * 4,
        unknown: later.then_some(Refusal::Unreadable),
    };
    Some(Header {
        addr: address::mapped(v4),
        form: Form::Mapped(v4),
        payload,
    })
}

#[inline(always)]
fn header_v6(packet: &SkBuff) -> Option<Header> {
    let next = packet.load::<u8>(6).ok()?;
    let addr = packet.load::<Words>(24).ok()?;
    Some(Header {
        addr,
        form: address::form(&addr),
        payload: payload_v6(packet, next),
    })
}

/// Follows the extension headers. A chain that is longer than any real one hides something: it counts as a routing header.
#[inline(always)]
fn payload_v6(packet: &SkBuff, first: u8) -> Payload {
    let mut payload = Payload {
        protocol: first,
        at: HEADER_V6,
        unknown: None,
    };
    for _ in 0..MAX_HEADERS {
        let length = match payload.protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => (length(packet, payload.at) + 1) * 8,
            AUTHENTICATION => (length(packet, payload.at) + 2) * 4,
            FRAGMENT => 8,
            ROUTING => break,
            _ => return payload,
        };
        if payload.protocol == FRAGMENT {
            let offset = packet.load::<u16>(payload.at + 2).unwrap_or(u16::MAX);
            if u16::from_be(offset) & OFFSET_BITS_V6 != 0 {
                payload.unknown = Some(Refusal::Unreadable);
                return payload;
            }
        }
        let Ok(next) = packet.load::<u8>(payload.at) else {
            payload.unknown = Some(Refusal::Unreadable);
            return payload;
        };
        payload.protocol = next;
        payload.at += length;
    }
    payload.unknown = Some(Refusal::RoutingHeader);
    payload
}

/// The length field of an extension header; one that is cut off leads beyond the packet, where nothing can be read.
#[inline(always)]
fn length(packet: &SkBuff, at: usize) -> usize {
    usize::from(packet.load::<u8>(at + 1).unwrap_or(u8::MAX))
}
