//! Frames that an agent's pod has put on the wire to its node: the one place where those of packet sockets, and of sockets
//! that came from elsewhere, are seen. Whose they are, is the interface's to say: nothing in a frame is believed.

use core::mem::MaybeUninit;
use core::ptr::addr_of;

use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::address::{self, Words};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{Link, POD_AGENT};

use crate::header::{self, Dropped, Header};
use crate::judge::{self, Judgement, Payload, config};
use crate::maps::LINKS;
use crate::reply;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Whoever believes it sends what it has for others to where the message says.
const REDIRECT_V4: u8 = 5;
const REDIRECT_V6: u8 = 137;
/// Sent by routers only, which no pod is: nodes have been led to send everything to a pod by them.
const ROUTER_ADVERTISEMENT: u8 = 134;
/// What the members of a multicast group say (131, 132, 143), and what finds routers and neighbours.
const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_V2: u8 = 143;

/// Passes or drops a frame. Tagged ones count as unknown: the kernel has taken the tag off and would hand them to another
/// interface, where nobody looks.
#[inline(always)]
pub(crate) fn arrive(packet: &SkBuff) -> Result<(), Dropped> {
    config().map_err(Dropped::unread)?;
    if is_tagged(packet) {
        return Err(Dropped::unread(Refusal::UnknownProtocol));
    }
    match ethertype(packet) {
        ARP => return Ok(()),
        IPV4 | IPV6 => {}
        _ => return Err(Dropped::unread(Refusal::UnknownProtocol)),
    }
    let link = link(packet);
    if let Some(link) = link
        && let Some(target) = header::plain(packet, header::ETHERNET_HEADER)
        && judge::is_exact(link.index, link.egress.into(), &target)
    {
        return Ok(());
    }
    header::settle(packet).map_err(Dropped::unread)?;
    let mut memory = MaybeUninit::uninit();
    let Some(header) = Header::of_frame(packet, &mut memory) else {
        return Err(Dropped::unread(Refusal::Unreadable));
    };
    let outcome = match message(packet, header) {
        REDIRECT_V4 | REDIRECT_V6 | ROUTER_ADVERTISEMENT => Err(Refusal::Martian),
        kind if finds_neighbours(kind) && is_link_local(&header.target.addr) => Ok(()),
        _ => judge(packet, link, header),
    };
    outcome.map_err(|refusal| Dropped::towards(&header.target, refusal))
}

#[inline(always)]
fn judge(packet: &SkBuff, link: Option<&Link>, header: &Header) -> Result<(), Refusal> {
    let link = link.ok_or(Refusal::Unclassified)?;
    if header.is_routed() || header.options != 0 {
        return Err(Refusal::RoutingHeader);
    }
    // Before the rule, which passes loopback: a node that routes it would take the frame for its own.
    if address::is_loopback(address::form(&header.target.addr), &header.target.addr) {
        return Err(Refusal::Martian);
    }
    match judge::of_agent(link.index, link.egress.into(), &header.target) {
        Ok(Judgement::Pass) => Ok(()),
        Ok(Judgement::ApiPort | Judgement::OwnApiPort | Judgement::OwnApiAddress) => {
            Err(Refusal::NotRedirected)
        }
        Err(Refusal::NotAllowed) if reply::is_reply(packet) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// Whose interface the frame came in through: an agent's, or nobody's.
#[inline(always)]
fn link(packet: &SkBuff) -> Option<&'static Link> {
    // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
    let link = unsafe { LINKS.get(ifindex(packet)) };
    link.filter(|link| link.flags & POD_AGENT != 0)
}

/// The type of an ICMP message that matters here; 0, which is none that does, of any other packet.
#[inline(always)]
fn message(packet: &SkBuff, header: &Header) -> u8 {
    let protocol = header.target.protocol as u8;
    if header.target.payload != Payload::Known || !matches!(protocol, ICMP | ICMPV6) {
        return 0;
    }
    let kind = packet.load::<u8>(header.payload as usize).unwrap_or(0);
    match (protocol, kind) {
        (ICMP, REDIRECT_V4) => kind,
        (ICMPV6, LISTENER_REPORT..=REDIRECT_V6 | LISTENER_REPORT_V2) => kind,
        _ => 0,
    }
}

/// What finds the next hop, and goes no further than that: without it a pod has no IPv6.
#[inline(always)]
fn finds_neighbours(kind: u8) -> bool {
    matches!(
        kind,
        LISTENER_REPORT
            | LISTENER_DONE
            | ROUTER_SOLICITATION
            | NEIGHBOUR_SOLICITATION
            | NEIGHBOUR_ADVERTISEMENT
            | LISTENER_REPORT_V2
    )
}

/// `fe80::/10` or `ff02::/16`.
#[inline(always)]
fn is_link_local(addr: &Words) -> bool {
    let first = u32::from_be(addr[0]);
    first >> 22 == 0xfe80 >> 6 || first >> 16 == 0xff02
}

/// Index of the interface the frame came in through.
#[inline(always)]
pub(crate) fn ifindex(packet: &SkBuff) -> u32 {
    // SAFETY: a field of the context.
    unsafe { addr_of!((*packet.skb).ifindex).read_volatile() }
}

/// What the kernel will take the frame for.
#[inline(always)]
fn ethertype(packet: &SkBuff) -> u16 {
    // SAFETY: a field of the context: a big-endian u16 in the low half of the word.
    u16::from_be(unsafe { addr_of!((*packet.skb).protocol).read_volatile() } as u16)
}

#[inline(always)]
fn is_tagged(packet: &SkBuff) -> bool {
    // SAFETY: a field of the context.
    unsafe { addr_of!((*packet.skb).vlan_present).read_volatile() != 0 }
}
