//! What the headers of a packet say about where it goes.

use core::ptr::addr_of;

use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::address::{self, Words};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::transport::{Ports, ports};

use crate::context::Destination;
use crate::judge::Target;

const OFFSET_BITS_V4: u16 = 0x1fff;
const OFFSET_BITS_V6: u16 = 0xfff8;
/// Of a header without options.
const WORDS_V4: usize = 5;
const HEADER_V6: usize = 40;
/// The first byte of one.
const PLAIN_V4: u32 = 0x45;
const SOURCE_V4: usize = 12;
const DESTINATION_V4: usize = 16;
const SOURCE_V6: usize = 8;
const DESTINATION_V6: usize = 24;

const TCP: u8 = 6;
/// Of the fourth word of a TCP header.
const SYN: u32 = 1 << 17;
const ACK: u32 = 1 << 20;

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
    /// Host order; 0 where it is not known.
    pub(crate) port: u16,
    /// Of IP; 0 where it is not known.
    pub(crate) protocol: u8,
    /// Why.
    pub(crate) refusal: Refusal,
}

/// What the headers of IP say.
pub(crate) struct Header {
    pub(crate) addr: Words,
    base: usize,
    version: u32,
    /// Whether IPv4 options follow, which may send the packet by way of others.
    pub(crate) has_options: bool,
    pub(crate) payload: Payload,
    /// The first word of the payload where it was read in place: ports, of protocols that have some. 0: not read.
    ports: u32,
}

/// What follows the headers of IP. Every field always has a value: the verifier refuses to copy one that has none, as the
/// halves of a `Result` would.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) protocol: u8,
    pub(crate) at: usize,
    /// Why `protocol` and `at` cannot be relied on.
    pub(crate) unknown: Option<Refusal>,
}

/// The first packet of a connection: where it comes from, IPv4 mapped, and the number its bytes are counted from.
pub(crate) struct Syn {
    pub(crate) addr: Words,
    pub(crate) port: u16,
    pub(crate) isn: u32,
}

impl Dropped {
    /// Nothing is known about it.
    #[inline(always)]
    pub(crate) fn unread(refusal: Refusal) -> Self {
        Self {
            addr: [0; 4],
            port: 0,
            protocol: 0,
            refusal,
        }
    }

    /// It was going there.
    #[inline(always)]
    pub(crate) fn towards(target: &Target, refusal: Refusal) -> Self {
        Self {
            addr: target.addr,
            port: target.port,
            protocol: target.protocol,
            refusal,
        }
    }
}

impl Header {
    /// Reads the headers that begin at `base`.
    #[inline(always)]
    pub(crate) fn read(packet: &SkBuff, base: usize) -> Option<Self> {
        let begin = words::<WORDS_V4>(packet, base)?.map(u32::from_be);
        match begin[0] >> 28 {
            4 => Some(read_v4(packet, &begin, base)),
            6 => read_v6(packet, base, (begin[1] >> 8) as u8),
            _ => None,
        }
    }

    /// Whether others are to send the packet on to where its header does not say.
    #[inline(always)]
    pub(crate) fn is_routed(&self) -> bool {
        matches!(self.payload.unknown, Some(Refusal::RoutingHeader))
    }

    /// The beginning of a TCP connection, if the packet is one.
    #[inline(always)]
    pub(crate) fn syn(&self, packet: &SkBuff) -> Option<Syn> {
        if self.payload.protocol != TCP || self.payload.unknown.is_some() {
            return None;
        }
        let begin = packet.load::<[u32; 4]>(self.payload.at).ok()?;
        let [ports, isn, _acknowledged, flags] = begin.map(u32::from_be);
        if flags & (SYN | ACK) != SYN {
            return None;
        }
        let addr = match self.version {
            4 => address::mapped(words::<1>(packet, self.base + SOURCE_V4)?[0]),
            _ => words::<4>(packet, self.base + SOURCE_V6)?,
        };
        let port = (ports >> 16) as u16;
        Some(Syn { addr, port, isn })
    }

    /// Where the packet goes, its port included where there is one to read.
    #[inline(always)]
    pub(crate) fn target(&self, packet: &SkBuff, nat64: &[[u32; 3]]) -> Target {
        let mut target = Target {
            addr: self.addr,
            form: address::form_among(&self.addr, nat64),
            protocol: self.payload.protocol,
            port: 0,
            unknown: self.payload.unknown,
        };
        if target.unknown.is_some() {
            return target;
        }
        match ports(self.payload.protocol) {
            Ports::None => {}
            Ports::Unknown => target.unknown = Some(Refusal::Unreadable),
            Ports::Second if self.ports != 0 => target.port = self.ports as u16,
            Ports::Second => match packet.load::<u16>(self.payload.at + 2) {
                Ok(port) => target.port = u16::from_be(port),
                Err(_short) => target.unknown = Some(Refusal::Unreadable),
            },
        }
        target
    }
}

/// Brings a packet into the kernel's own memory, unless its headers are there: the pages of a packet socket's ring stay its
/// owner's to change, between this look and the next one.
#[inline(always)]
pub(crate) fn settle(packet: &SkBuff, base: usize) -> Result<(), Refusal> {
    let (data, end) = bounds(packet);
    if end - data >= packet.len() as usize || has_plain_headers(packet, base) {
        return Ok(());
    }
    packet.pull_data(packet.len()).map_err(|_| Refusal::Unreadable)
}

/// Whether the header of IP and the ports stand in one piece, nothing between them.
#[inline(always)]
fn has_plain_headers(packet: &SkBuff, base: usize) -> bool {
    let Some([first, second]) = in_place::<2>(packet, base) else {
        return false;
    };
    let payload = match (u32::from_be(first) >> 24, (u32::from_be(second) >> 8) as u8) {
        (PLAIN_V4, _) => base + WORDS_V4 * 4,
        (first, next) if first >> 4 == 6 && ports(next) == Ports::Second => base + HEADER_V6,
        _ => return false,
    };
    in_place::<1>(packet, payload).is_some()
}

/// Where a packet goes whose header of IP and ports stand in one piece, nothing between them: most do. `None` says nothing.
#[inline(always)]
pub(crate) fn plain(packet: &SkBuff, base: usize) -> Option<Destination> {
    let [first, second, third] = in_place::<3>(packet, base)?.map(u32::from_be);
    let (addr, ports_word, protocol) = match first >> 24 {
        PLAIN_V4 if second as u16 & OFFSET_BITS_V4 == 0 => {
            let [v4, ports] = in_place::<2>(packet, base + DESTINATION_V4)?;
            (address::mapped(v4), ports, (third >> 16) as u8)
        }
        first if first >> 4 == 6 => {
            let [a, b, c, d, ports] = in_place::<5>(packet, base + DESTINATION_V6)?;
            ([a, b, c, d], ports, (second >> 8) as u8)
        }
        _ => return None,
    };
    (ports(protocol) == Ports::Second).then_some(Destination {
        addr,
        port: u32::from_be(ports_word) as u16,
        protocol,
    })
}

/// Some words of the packet, in network order.
#[inline(always)]
fn words<const N: usize>(packet: &SkBuff, at: usize) -> Option<[u32; N]> {
    in_place(packet, at).or_else(|| packet.load(at).ok())
}

/// Some words of the packet where they stand in one piece, as headers do: a helper's call costs more than all that is done with
/// them. For places known beforehand only: others multiply what the verifier walks.
#[inline(always)]
fn in_place<const N: usize>(packet: &SkBuff, at: usize) -> Option<[u32; N]> {
    let (data, end) = bounds(packet);
    let first = data + at;
    if first + N * size_of::<u32>() > end {
        return None;
    }
    let first = first as *const u32;
    let mut words = [0; N];
    for (i, word) in words.iter_mut().enumerate() {
        // SAFETY: compared with the end of the packet above. Its processors read words from any address.
        *word = unsafe { first.add(i).read_volatile() };
    }
    Some(words)
}

/// Where the packet begins, and where what stands in one piece ends.
#[inline(always)]
fn bounds(packet: &SkBuff) -> (usize, usize) {
    // SAFETY: fields of the context, which the verifier knows for the bounds of the packet.
    unsafe {
        (
            addr_of!((*packet.skb).data).read_volatile() as usize,
            addr_of!((*packet.skb).data_end).read_volatile() as usize,
        )
    }
}

/// The word at a place known beforehand, in host order; 0 where it cannot be read in place.
#[inline(always)]
fn word(packet: &SkBuff, at: usize) -> u32 {
    in_place::<1>(packet, at).map_or(0, |[word]| u32::from_be(word))
}

/// From the words of the header, in host order.
#[inline(always)]
fn read_v4(packet: &SkBuff, header: &[u32; WORDS_V4], base: usize) -> Header {
    let [first, second, third, _source, destination] = *header;
    let words = (first >> 24 & 0xf) as usize;
    let later = second as u16 & OFFSET_BITS_V4 != 0;
    Header {
        addr: address::mapped(destination.to_be()),
        base,
        version: 4,
        has_options: words > WORDS_V4,
        payload: Payload {
            protocol: (third >> 16) as u8,
            at: base + words * 4,
            unknown: later.then_some(Refusal::Unreadable),
        },
        ports: if words == WORDS_V4 {
            word(packet, base + WORDS_V4 * 4)
        } else {
            0
        },
    }
}

#[inline(always)]
fn read_v6(packet: &SkBuff, base: usize, next: u8) -> Option<Header> {
    let addr = words::<4>(packet, base + DESTINATION_V6)?;
    Some(Header {
        addr,
        base,
        version: 6,
        has_options: false,
        payload: payload_v6(packet, base + HEADER_V6, next),
        // No extension headers, then.
        ports: if ports(next) == Ports::Second {
            word(packet, base + HEADER_V6)
        } else {
            0
        },
    })
}

/// Follows the extension headers. A chain that is longer than any real one hides something: it counts as a routing header.
#[inline(always)]
fn payload_v6(packet: &SkBuff, at: usize, first: u8) -> Payload {
    let mut payload = Payload {
        protocol: first,
        at,
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
