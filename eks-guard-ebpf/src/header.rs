//! What the headers of a packet say about where it goes.

use core::mem::MaybeUninit;
use core::ptr::addr_of;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::address::{self, Words};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::transport::{Ports, ports};

use crate::apart::{self, Plain};
use crate::judge::{Payload, Target};

/// What a frame begins with.
pub(crate) const ETHERNET_HEADER: usize = 14;
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

/// Extension headers that are followed: as many as RFC 8200 (4.1) knows beside the routing header. No stack sends as many.
const MAX_HEADERS: usize = 6;

/// A packet that does not leave.
#[repr(C)]
pub(crate) struct Dropped {
    /// Where it would have gone; all zeros where that is not known.
    pub(crate) target: Target,
    /// Why.
    pub(crate) refusal: Refusal,
}

/// What the headers of a packet say.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) target: Target,
    /// Where the payload begins.
    pub(crate) payload: u32,
    version: u32,
    /// How many words of IPv4 options follow, which may send the packet by way of others.
    pub(crate) options: u32,
}

// SAFETY: ten halves of words, of which zeros are a value.
unsafe impl Plain for Header {}

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
        let target = Target {
            addr: [0; 4],
            protocol: 0,
            port: 0,
            payload: Payload::Unreadable,
        };
        Self { target, refusal }
    }

    /// It was going there.
    #[inline(always)]
    pub(crate) fn towards(target: &Target, refusal: Refusal) -> Self {
        Self {
            target: *target,
            refusal,
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_packet(packet: *mut __sk_buff, header: *mut Header) -> u32 {
    read_into(packet, 0, header)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_frame(frame: *mut __sk_buff, header: *mut Header) -> u32 {
    read_into(frame, ETHERNET_HEADER, header)
}

/// Answers 1 where there was a header to read.
#[inline(always)]
fn read_into(packet: *mut __sk_buff, base: usize, header: *mut Header) -> u32 {
    // SAFETY: the caller's memory, unless it is null.
    match (read(&SkBuff::new(packet), base), unsafe { header.as_mut() }) {
        (Some(found), Some(header)) => {
            *header = found;
            1
        }
        _ => 0,
    }
}

/// Reads the headers that begin at `base`.
#[inline(always)]
fn read(packet: &SkBuff, base: usize) -> Option<Header> {
    let begin = words::<WORDS_V4>(packet, base)?.map(u32::from_be);
    match begin[0] >> 28 {
        4 => Some(read_v4(packet, &begin, base)),
        6 => read_v6(packet, base, (begin[1] >> 8) as u8),
        _ => None,
    }
}

impl Header {
    /// Of a packet that begins with them.
    #[inline(always)]
    pub(crate) fn of_packet<'a>(packet: &SkBuff, memory: &'a mut MaybeUninit<Self>) -> Option<&'a Self> {
        let is_read = read_packet(packet.skb, apart::clear(memory)) == 1;
        // SAFETY: all of it was written, and zeros are a value.
        is_read.then(|| unsafe { memory.assume_init_ref() })
    }

    /// Of a frame.
    #[inline(always)]
    pub(crate) fn of_frame<'a>(frame: &SkBuff, memory: &'a mut MaybeUninit<Self>) -> Option<&'a Self> {
        let is_read = read_frame(frame.skb, apart::clear(memory)) == 1;
        // SAFETY: as above.
        is_read.then(|| unsafe { memory.assume_init_ref() })
    }

    /// Whether others are to send the packet on to where its header does not say.
    #[inline(always)]
    pub(crate) fn is_routed(&self) -> bool {
        self.target.payload == Payload::Routed
    }

    /// The beginning of a TCP connection, if the packet, which begins with this header, is one.
    #[inline(always)]
    pub(crate) fn syn(&self, packet: &SkBuff) -> Option<Syn> {
        if self.target.protocol != u32::from(TCP) || self.target.payload != Payload::Known {
            return None;
        }
        let begin = packet.load::<[u32; 4]>(self.payload as usize).ok()?;
        let [ports, isn, _acknowledged, flags] = begin.map(u32::from_be);
        if flags & (SYN | ACK) != SYN {
            return None;
        }
        let addr = match self.version {
            4 => address::mapped(words::<1>(packet, SOURCE_V4)?[0]),
            _ => words::<4>(packet, SOURCE_V6)?,
        };
        let port = (ports >> 16) as u16;
        Some(Syn { addr, port, isn })
    }
}

/// Brings a frame into the kernel's own memory, unless its headers are there: the pages of a packet socket's ring stay its
/// owner's to change, between this look and the next one.
#[inline(always)]
pub(crate) fn settle(frame: &SkBuff) -> Result<(), Refusal> {
    let (data, end) = bounds(frame);
    if end - data >= frame.len() as usize || has_plain_headers(frame, ETHERNET_HEADER) {
        return Ok(());
    }
    frame.pull_data(frame.len()).map_err(|_| Refusal::Unreadable)
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
pub(crate) fn plain(packet: &SkBuff, base: usize) -> Option<Target> {
    let [first, second, third] = in_place::<3>(packet, base)?.map(u32::from_be);
    let (addr, word, protocol) = match first >> 24 {
        PLAIN_V4 if second as u16 & OFFSET_BITS_V4 == 0 => {
            let [v4, word] = in_place::<2>(packet, base + DESTINATION_V4)?;
            (address::mapped(v4), word, third >> 16 & 0xff)
        }
        first if first >> 4 == 6 => {
            let [a, b, c, d, word] = in_place::<5>(packet, base + DESTINATION_V6)?;
            ([a, b, c, d], word, second >> 8 & 0xff)
        }
        _ => return None,
    };
    (ports(protocol as u8) == Ports::Second).then_some(Target {
        addr,
        protocol,
        port: u32::from_be(word) & 0xffff,
        payload: Payload::Known,
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

/// From the words of the header, in host order.
#[inline(always)]
fn read_v4(packet: &SkBuff, header: &[u32; WORDS_V4], base: usize) -> Header {
    let [first, second, third, _source, destination] = *header;
    let words = (first >> 24 & 0xf) as usize;
    let end = End {
        protocol: (third >> 16) as u8,
        at: base + words * 4,
        payload: if second as u16 & OFFSET_BITS_V4 == 0 {
            Payload::Known
        } else {
            Payload::Unreadable
        },
    };
    let begin = if words == WORDS_V4 {
        in_place(packet, base + WORDS_V4 * 4)
    } else {
        None
    };
    Header {
        target: end.target(packet, address::mapped(destination.to_be()), begin),
        payload: end.at as u32,
        version: 4,
        options: words.saturating_sub(WORDS_V4) as u32,
    }
}

#[inline(always)]
fn read_v6(packet: &SkBuff, base: usize, next: u8) -> Option<Header> {
    let addr = words::<4>(packet, base + DESTINATION_V6)?;
    let end = follow(packet, base + HEADER_V6, next);
    // No extension headers, then.
    let begin = if ports(next) == Ports::Second {
        in_place(packet, base + HEADER_V6)
    } else {
        None
    };
    Some(Header {
        target: end.target(packet, addr, begin),
        payload: end.at as u32,
        version: 6,
        options: 0,
    })
}

/// Where the headers of IP end.
#[derive(Clone, Copy)]
struct End {
    protocol: u8,
    at: usize,
    payload: Payload,
}

impl End {
    /// Where the packet goes, its port included where there is one to read. `begin` is the first word of the payload, where it
    /// could be read in place.
    #[inline(always)]
    fn target(&self, packet: &SkBuff, addr: Words, begin: Option<[u32; 1]>) -> Target {
        let protocol = u32::from(self.protocol);
        let mut target = Target {
            addr,
            protocol,
            port: 0,
            payload: self.payload,
        };
        if target.payload != Payload::Known {
            return target;
        }
        match ports(self.protocol) {
            Ports::None => {}
            Ports::Unknown => target.payload = Payload::Unreadable,
            Ports::Second => match begin.or_else(|| packet.load(self.at).ok()) {
                Some([word]) => target.port = u32::from_be(word) & 0xffff,
                None => target.payload = Payload::Unreadable,
            },
        }
        target
    }
}

/// Follows the extension headers. A chain that is longer than any real one hides something: it counts as a routing header.
#[inline(always)]
fn follow(packet: &SkBuff, at: usize, first: u8) -> End {
    let mut end = End {
        protocol: first,
        at,
        payload: Payload::Known,
    };
    for _ in 0..MAX_HEADERS {
        if !matches!(
            end.protocol,
            HOP_BY_HOP | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT | ROUTING
        ) {
            return end;
        }
        if end.protocol == ROUTING {
            break;
        }
        // Next header, length, and the offset of a fragment.
        let Ok(begin) = packet.load::<u32>(end.at) else {
            end.payload = Payload::Unreadable;
            return end;
        };
        let begin = u32::from_be(begin);
        let length = begin >> 16 & 0xff;
        let length = match end.protocol {
            FRAGMENT if begin as u16 & OFFSET_BITS_V6 != 0 => {
                end.payload = Payload::Unreadable;
                return end;
            }
            FRAGMENT => 8,
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        end.protocol = (begin >> 24) as u8;
        end.at += length as usize;
    }
    end.payload = Payload::Routed;
    end
}
