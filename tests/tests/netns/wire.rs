//! The wire of an agent's pod: what no hook of a socket sees is stopped on the node's side of it. And what a node's datapath
//! tells, and does while it is opened again.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::time::Instant;

use eks_guard::ebpf::node::{AllowEntry, Egress, NodeLimits, Problem, Unknown};
use eks_guard::ebpf::{Hook, NodeError, Prefix, Refusal};

use crate::barrier::Barrier;
use crate::node_world::{API, Layer, Node, Who};
use crate::world::PATIENCE;

pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const IPV6: [u8; 2] = [0x86, 0xdd];
const TAGGED: [u8; 2] = [0x81, 0x00];
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;

pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

pub(crate) fn datagram(port: u16) -> Vec<u8> {
    let mut bytes = vec![0x99, 0x99];
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 11, 0, 0]);
    bytes.extend(*b"raw");
    bytes
}

pub(crate) fn v4(to: &str, port: u16, options: &[u8]) -> Vec<u8> {
    let addr: Ipv4Addr = to.parse().unwrap();
    let payload = datagram(port);
    let words = 5 + options.len() / 4;
    let mut bytes = vec![0x40 | u8::try_from(words).unwrap(), 0];
    bytes.extend(u16::try_from(words * 4 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, UDP, 0, 0]);
    bytes.extend([198, 51, 100, 7]);
    bytes.extend(addr.octets());
    bytes.extend(options);
    let check = sum(&bytes).to_be_bytes();
    bytes[10..12].copy_from_slice(&check);
    bytes.extend(payload);
    bytes
}

pub(crate) fn v6(to: &str, port: u16) -> Vec<u8> {
    let from: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let to: Ipv6Addr = to.parse().unwrap();
    let payload = datagram(port);
    let mut bytes = vec![0x60, 0, 0, 0, 0, 11, UDP, 64];
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

/// Writes the sum of an IPv4 header without options that was changed.
pub(crate) fn summed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].copy_from_slice(&[0, 0]);
    let check = sum(&packet[..20]).to_be_bytes();
    packet[10..12].copy_from_slice(&check);
    packet
}

/// An IPv6 packet with an extension header of eight bytes, zeros behind the first.
pub(crate) fn v6_behind(extension: u8, to: &str, port: u16) -> Vec<u8> {
    let mut packet = v6(to, port);
    packet[4..7].copy_from_slice(&[0, 19, extension]);
    packet.splice(40..40, [UDP, 0, 0, 0, 0, 0, 0, 0]);
    packet
}

/// Both ends of the wire have this address.
pub(crate) fn frame(ethertype: [u8; 2], payload: &[u8]) -> String {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1];
    bytes.extend(ethertype);
    bytes.extend(payload);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn wire_count(node: &Node, refusal: Refusal) -> u64 {
    node.datapath.stats().unwrap().refused_by(Hook::Wire, refusal)
}

/// A frame that has been sent is not always looked at yet.
pub(crate) fn assert_counted(node: &Node, refusal: Refusal, expected: u64) {
    let deadline = Instant::now() + PATIENCE;
    while wire_count(node, refusal) < expected {
        assert!(
            Instant::now() < deadline,
            "{refusal:?} is not counted {expected} times"
        );
        std::thread::yield_now();
    }
    assert_eq!(wire_count(node, refusal), expected, "{refusal:?}");
}

fn allow(node: &Node, to: &str) {
    let entry = AllowEntry {
        prefix: Prefix::host(to.parse().unwrap()),
        protocol: Some(UDP),
        port: Some(53),
        opens: None,
    };
    node.datapath.set_allowed(node.id(Who::Agent), &[entry]).unwrap();
}

#[test]
fn a_forged_frame_reaches_the_api_server_until_the_wire_is_guarded() {
    let node = Node::block_list();
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    let to_api = frame(IPV4, &v4("192.0.2.1", 443, &[]));
    assert_eq!(probe.ask(&to_api), "sent");
    assert_eq!(node.far.datagram(), b"raw", "the other layers do not see it");
    let mut barrier = Barrier::close(&node);
    for to in ["192.0.2.1", "169.254.169.254", "169.254.170.23", "203.0.113.1"] {
        assert_eq!(probe.ask(&frame(IPV4, &v4(to, 443, &[]))), "sent");
    }
    assert_eq!(probe.ask(&frame(IPV4, &v4("192.0.2.7", 10_250, &[]))), "sent");
    for to in [
        "2001:db8::a",
        "64:ff9b::192.0.2.1",
        "2001:db8:64::192.0.2.1",
        "::ffff:192.0.2.1",
    ] {
        assert_eq!(probe.ask(&frame(IPV6, &v6(to, 443))), "sent");
    }
    barrier.assert_stopped(
        &node,
        &[(Refusal::NotRedirected, 5), (Refusal::Infrastructure, 4)],
    );
    assert_eq!(probe.ask(&frame(IPV4, &v4("203.0.113.99", 443, &[]))), "sent");
    assert_eq!(node.far.datagram(), b"raw", "the rest passes");
}

#[test]
fn what_is_not_plain_ip_does_not_leave_the_pod() {
    let node = Node::block_list();
    if node.guard_wire() == Layer::Absent {
        return;
    }
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    let packet = v4("203.0.113.99", 443, &[]);
    let tagged = [&[0, 7][..], &IPV4, &packet].concat();
    let neighbour = |to: &str| {
        let to: Ipv6Addr = to.parse().unwrap();
        let header = [0x60, 0, 0, 0, 0, 24, 58, 255];
        let from = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        frame(IPV6, &[&header[..], &from, &to.octets(), &[135; 24]].concat())
    };
    for (what, bytes, refusal) in [
        ("tagged", frame(TAGGED, &tagged), Refusal::UnknownProtocol),
        (
            "unknown",
            frame(LOCAL_EXPERIMENT, &packet),
            Refusal::UnknownProtocol,
        ),
        ("length", frame([0, 40], &packet), Refusal::UnknownProtocol),
        ("no header", frame(IPV4, &[0x40, 0]), Refusal::Unreadable),
        ("other version", frame(IPV4, &[0x50; 40]), Refusal::Unreadable),
        (
            "source route",
            frame(IPV4, &v4("203.0.113.99", 443, &[1; 4])),
            Refusal::RoutingHeader,
        ),
        (
            "routing header",
            frame(IPV6, &v6_behind(ROUTING, "2001:db8::99", 443)),
            Refusal::RoutingHeader,
        ),
        (
            "neighbours elsewhere",
            neighbour("2001:db8::a"),
            Refusal::NotRedirected,
        ),
        (
            "loopback",
            frame(IPV4, &v4("127.0.0.1", 443, &[])),
            Refusal::Martian,
        ),
        ("loopback", frame(IPV6, &v6("::1", 443)), Refusal::Martian),
    ] {
        let before = wire_count(&node, refusal);
        assert_eq!(probe.ask(&bytes), "sent", "{what}");
        assert_counted(&node, refusal, before + 1);
    }
    node.far.assert_untouched("what is not plain IP");
    let before = node.datapath.stats().unwrap().refused();
    assert_eq!(probe.ask(&neighbour("ff02::1:ff00:1")), "sent");
    assert_eq!(probe.ask(&frame([0x08, 0x06], &[0; 28])), "sent");
    assert_eq!(probe.ask(&frame(IPV4, &packet)), "sent");
    assert_eq!(node.far.datagram(), b"raw");
    assert_eq!(node.datapath.stats().unwrap().refused(), before);
}

#[test]
fn a_frame_is_held_to_the_agents_allow_list() {
    let node = Node::allow_list();
    allow(&node, "203.0.113.99");
    if node.guard_wire() == Layer::Absent {
        return;
    }
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    for (to, port) in [("203.0.113.99", 443), ("203.0.113.98", 53)] {
        assert_eq!(probe.ask(&frame(IPV4, &v4(to, port, &[]))), "sent");
    }
    assert_counted(&node, Refusal::NotAllowed, 2);
    node.far.assert_untouched("frames to what is not allowed");
    assert_eq!(probe.ask(&frame(IPV4, &v4("203.0.113.99", 53, &[]))), "sent");
    assert_eq!(node.far.datagram(), b"raw");
    // A change of mode reaches the wire.
    node.put(Who::Agent, node.agent(Egress::BlockList));
    assert_eq!(probe.ask(&frame(IPV4, &v4("203.0.113.98", 53, &[]))), "sent");
    assert_eq!(node.far.datagram(), b"raw");
}

#[test]
fn a_socket_from_elsewhere_is_stopped_on_the_wire() {
    let node = Node::block_list();
    // Of this process, which stands in no cgroup that is guarded: what an agent is handed looks like it.
    let foreign = UdpSocket::bind("198.51.100.7:0").unwrap();
    foreign.send_to(b"x", API).unwrap();
    assert_eq!(node.far.datagram(), b"x");
    let mut barrier = Barrier::close(&node);
    foreign.send_to(b"x", API).unwrap();
    barrier.assert_stopped(&node, &[(Refusal::NotRedirected, 1)]);
}

#[test]
fn a_guarded_wire_outlives_the_daemon_and_is_asked_for() {
    let mut node = Node::block_list();
    if node.guard_wire() == Layer::Absent {
        return;
    }
    node.reopen();
    let faults = |node: &Node| node.far.run(|| node.datapath.verify_attached(&[]).unwrap());
    assert_eq!(faults(&node), []);
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    let to_api = frame(IPV4, &v4("192.0.2.1", 443, &[]));
    assert_eq!(probe.ask(&to_api), "sent");
    assert_counted(&node, Refusal::NotRedirected, 1);
    node.far.assert_untouched("a frame after the daemon's death");
    // Without its pin the program is gone: that is what is asked for.
    let ifindex = node.ifindex();
    std::fs::remove_file(node.abi_pins().join(format!("wires/{ifindex}"))).unwrap();
    let found = faults(&node);
    assert_eq!(
        (found[0].ifindex, found[0].problem),
        (Some(ifindex), Problem::NotPinned)
    );
    assert_eq!(node.guard_wire(), Layer::Present);
    assert_eq!(faults(&node), []);
    for _again in 0..2 {
        node.datapath.unguard_interface(ifindex).unwrap();
    }
    assert_eq!(faults(&node), []);
    assert_eq!(probe.ask(&to_api), "sent");
    assert_eq!(node.far.datagram(), b"raw");
}

#[test]
fn only_the_wires_of_agents_are_guarded() {
    let node = Node::block_list();
    let ifindex = node.ifindex();
    let guard = |who| {
        node.far
            .run(|| node.datapath.guard_interface(ifindex, node.id(who)))
    };
    assert!(matches!(guard(Who::Ordinary), Err(NodeError::NotAgent(_))));
    assert!(matches!(guard(Who::Unknown), Err(NodeError::NoSuchPod(_))));
}

#[test]
fn an_agent_that_never_stops_trying_reaches_nothing_while_programs_are_replaced() {
    let mut node = Node::block_list();
    let mut probe = node.probe(Who::Agent, "udp-until-told 192.0.2.1:443");
    assert_eq!(probe.line(), "trying");
    for _ in 0..5 {
        node.reopen();
    }
    let line = probe.finish();
    assert!(line.starts_with("reached 0 refused "), "{line}");
    assert_ne!(line, "reached 0 refused 0");
    node.far
        .assert_untouched("an attempt while programs were replaced");
    assert_eq!(node.datapath.verify_attached(&[]).unwrap(), []);
}

#[test]
fn refusals_are_told_as_they_happen_and_counted_when_they_cannot_be() {
    let small = NodeLimits {
        event_bytes: 4096,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::AllowList, small, Unknown::NoClasses);
    let probe = node.probe(Who::Agent, "tcp 169.254.169.254:80");
    let pid = probe.pid();
    assert_eq!(probe.finish(), "error ECONNREFUSED");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let event = runtime.block_on(async {
        let mut events = node.datapath.events().unwrap().unwrap();
        events.next().await.unwrap()
    });
    assert_eq!(event.destination, "169.254.169.254:80".parse().unwrap());
    assert_eq!(
        (event.hook, event.refusal),
        (Hook::Connect, Refusal::Infrastructure)
    );
    assert_eq!((event.pid, event.protocol), (Some(pid), 6));
    assert_eq!(event.cgroup, Some(node.id(Who::Agent)));
    assert!(event.netns.is_some() && event.ifindex.is_none() && event.time > 0);
    assert!(!event.comm.is_empty());
    let flood = node.probe(Who::Agent, "udp-flood 203.0.113.99:53");
    assert_eq!(flood.finish(), "refused 200");
    let stats = node.datapath.stats().unwrap();
    assert_eq!(stats.refused_by(Hook::Send, Refusal::NotAllowed), 200);
    assert!(stats.events_lost > 0, "{stats:?}");
    assert!(node.datapath.events().unwrap().is_none(), "there is one reader");
}

#[test]
fn an_agent_answers_those_who_connect_to_it_and_no_others() {
    let node = Node::allow_list();
    for guarded in [false, true] {
        let _barrier = guarded.then(|| Barrier::close(&node));
        let mut probe = node.probe(Who::Agent, "serve 7000");
        assert_eq!(probe.line(), "ready");
        let answer = node.far.run(|| {
            let to = "198.51.100.7:7000".parse().unwrap();
            let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).unwrap();
            answer
        });
        assert_eq!(answer, "pod\n", "wire guarded: {guarded}");
        assert_eq!(probe.finish(), "served");
        node.assert_refused(Who::Agent, "tcp 203.0.113.99:443");
    }
    assert_eq!(
        node.datapath
            .stats()
            .unwrap()
            .refused_by(Hook::Packet, Refusal::NotAllowed),
        0
    );
}

#[test]
fn a_new_map_abi_is_complete_before_the_old_one_goes() {
    let mut node = Node::block_list();
    let (own, other) = (node.abi_pins(), node.pins.join("abi-0"));
    std::fs::rename(&own, &other).unwrap();
    node.reopen();
    assert!(own.join("links/connect4").exists() && other.join("links/connect4").exists());
    assert_eq!(node.datapath.pods().unwrap(), []);
    // Both judge: what one refuses is refused, and who is on record in the old one only is still guarded by it.
    node.assert_refused(Who::Agent, "tcp 169.254.169.254:80");
    node.assert_refused(Who::Unknown, &format!("tcp {API}"));
    node.put(Who::Agent, node.agent(Egress::BlockList));
    assert_eq!(node.datapath.retire_others().unwrap(), 1);
    assert!(own.exists() && !other.exists());
    node.assert_redirected(&format!("tcp {API}"));
    node.assert_refused(Who::Agent, "tcp 169.254.169.254:80");
    assert_eq!(node.datapath.retire_others().unwrap(), 0);
}
