//! What the connect and send hooks did not see: packets of sockets that are older than the guard stand for all of it.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use eks_guard::ebpf::{Hook, Refusal};

use crate::probe::Probe;
use crate::world::{API_PORT, OWN_V4, OWN_V6, PATIENCE, Side, World};

const LOCAL: &str = "127.0.0.1:6443";
const REMOTE: &str = "192.0.2.1:443";
const PASSES: &str = "sent";
const DROPPED: &str = "error EPERM";

const ICMP: u8 = 1;
const IP_IN_IP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NOTHING: u8 = 59;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

/// Twenty bytes that begin as a header of TCP or UDP to this port.
fn to_port(port: u16) -> Vec<u8> {
    let mut bytes = vec![0x99, 0x99];
    bytes.extend(port.to_be_bytes());
    bytes.resize(20, 0);
    bytes[12] = 0x50;
    bytes
}

/// An IPv4 packet; `fragment` is the field of that name, `options` are put before the payload.
fn v4(to: &str, protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> String {
    let addr: Ipv4Addr = to.parse().unwrap();
    let words = 5 + options.len() / 4;
    let length = words * 4 + payload.len();
    let mut bytes = vec![0x40 | u8::try_from(words).unwrap(), 0];
    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(Ipv4Addr::LOCALHOST.octets());
    bytes.extend(addr.octets());
    bytes.extend(options);
    bytes.extend(payload);
    packet(IpAddr::V4(addr), &bytes)
}

/// An IPv6 packet with extension headers.
fn v6(to: &str, extensions: &[(u8, [u8; 8])], protocol: u8, payload: &[u8]) -> String {
    let addr: Ipv6Addr = to.parse().unwrap();
    let next: Vec<u8> = extensions
        .iter()
        .map(|(kind, _)| *kind)
        .chain([protocol])
        .collect();
    let length = extensions.len() * 8 + payload.len();
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
    bytes.extend([next[0], 64]);
    bytes.extend(Ipv6Addr::LOCALHOST.octets());
    bytes.extend(addr.octets());
    for ((_, header), following) in extensions.iter().zip(&next[1..]) {
        bytes.push(*following);
        bytes.extend(&header[1..]);
    }
    bytes.extend(payload);
    packet(IpAddr::V6(addr), &bytes)
}

fn packet(to: IpAddr, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{to} {hex}")
}

/// Padding, as hop-by-hop and destination options.
const PADDING: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
/// More fragments follow the first.
const FIRST: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const LATER: [u8; 8] = [0, 0, 0, 8, 0, 0, 0, 1];
const MORE_V4: u16 = 0x2000;
const LATER_V4: u16 = 1;

fn assert_all(probe: &mut Probe, cases: impl IntoIterator<Item = (&'static str, String, &'static str)>) {
    for (what, packet, expected) in cases {
        assert_eq!(probe.ask(&packet), expected, "{what}: {packet}");
    }
}

#[test]
fn forged_ipv4_packets_do_not_reach_the_port_of_a_local_api_server() {
    let (world, mut probe) = World::around(&[LOCAL], "packets 2");
    let api = to_port(API_PORT);
    let other = to_port(7000);
    let to = "127.0.0.1";
    let nop = [1, 1, 1, 1];
    assert_all(
        &mut probe,
        [
            ("TCP", v4(to, TCP, 0, &[], &api), DROPPED),
            ("UDP", v4(to, UDP, 0, &[], &api), DROPPED),
            ("loopback network", v4("127.9.9.9", TCP, 0, &[], &api), DROPPED),
            ("own address", v4(OWN_V4, TCP, 0, &[], &api), DROPPED),
            ("options", v4(to, TCP, 0, &nop, &api), DROPPED),
            ("first fragment", v4(to, TCP, MORE_V4, &[], &api), DROPPED),
            ("later fragment", v4(to, TCP, LATER_V4, &[], &other), DROPPED),
            ("no port", v4(to, TCP, MORE_V4, &[], &[0x99, 0x99, 0]), DROPPED),
            ("tunnel", v4(to, IP_IN_IP, 0, &[], &api), DROPPED),
            ("TCP elsewhere", v4(to, TCP, 0, &[], &other), PASSES),
            ("UDP elsewhere", v4(to, UDP, 0, &[], &other), PASSES),
            ("options elsewhere", v4(to, TCP, 0, &nop, &other), PASSES),
            ("fragment elsewhere", v4(to, TCP, MORE_V4, &[], &other), PASSES),
            ("ping", v4(to, ICMP, 0, &[], &api), PASSES),
            ("others' API port", v4("203.0.113.9", TCP, 0, &[], &api), PASSES),
            (
                "others' fragments",
                v4("203.0.113.9", TCP, LATER_V4, &[], &api),
                PASSES,
            ),
        ],
    );
    let stats = world.datapath.stats();
    assert_eq!(stats.refused_by(Hook::Packet, Refusal::NotRedirected), 6);
    assert_eq!(stats.refused_by(Hook::Packet, Refusal::Unreadable), 3);
    assert_eq!((stats.refused(), stats.failed()), (9, 0));
    world.assert_api_untouched();
}

#[test]
fn forged_ipv6_packets_do_not_reach_the_port_of_a_local_api_server() {
    let (world, mut probe) = World::around(&[LOCAL], "packets 10");
    let api = to_port(API_PORT);
    let other = to_port(7000);
    let to = "::1";
    let far = "2001:db8:5::9";
    let options = [(HOP_BY_HOP, PADDING), (OPTIONS, PADDING)];
    let endless = [(OPTIONS, PADDING); 9];
    assert_all(
        &mut probe,
        [
            ("TCP", v6(to, &[], TCP, &api), DROPPED),
            ("UDP", v6(to, &[], UDP, &api), DROPPED),
            ("own address", v6(OWN_V6, &[], TCP, &api), DROPPED),
            ("options", v6(to, &options, TCP, &api), DROPPED),
            ("first fragment", v6(to, &[(FRAGMENT, FIRST)], TCP, &api), DROPPED),
            (
                "later fragment",
                v6(to, &[(FRAGMENT, LATER)], TCP, &other),
                DROPPED,
            ),
            ("no port", v6(to, &[], TCP, &[0x99, 0x99, 0]), DROPPED),
            ("nothing known", v6(to, &[], NOTHING, &api), DROPPED),
            ("routing", v6(far, &[(ROUTING, PADDING)], TCP, &other), DROPPED),
            (
                "hidden routing",
                v6(far, &[(OPTIONS, PADDING), (ROUTING, PADDING)], TCP, &other),
                DROPPED,
            ),
            ("endless headers", v6(far, &endless, TCP, &other), DROPPED),
            ("TCP elsewhere", v6(to, &[], TCP, &other), PASSES),
            ("options elsewhere", v6(to, &options, TCP, &other), PASSES),
            (
                "fragment elsewhere",
                v6(to, &[(FRAGMENT, FIRST)], TCP, &other),
                PASSES,
            ),
            ("ping", v6(to, &[], ICMPV6, &api), PASSES),
            ("others' API port", v6(far, &options, TCP, &api), PASSES),
            (
                "others' fragments",
                v6(far, &[(FRAGMENT, LATER)], TCP, &api),
                PASSES,
            ),
        ],
    );
    let stats = world.datapath.stats();
    assert_eq!(stats.refused_by(Hook::Packet, Refusal::RoutingHeader), 3);
    assert_eq!((stats.refused(), stats.failed()), (11, 0));
    world.assert_api_untouched();
}

#[test]
fn nothing_at_all_reaches_the_address_of_a_remote_api_server() {
    let (world, mut probe) = World::around(&[REMOTE], "packets 2");
    let (api, other) = (to_port(443), to_port(7000));
    let to = "192.0.2.1";
    assert_all(
        &mut probe,
        [
            ("TCP", v4(to, TCP, 0, &[], &api), DROPPED),
            ("another port", v4(to, TCP, 0, &[], &other), DROPPED),
            ("UDP", v4(to, UDP, 0, &[], &api), DROPPED),
            ("ping", v4(to, ICMP, 0, &[], &api), DROPPED),
            ("later fragment", v4(to, TCP, LATER_V4, &[], &other), DROPPED),
            ("tunnel", v4(to, IP_IN_IP, 0, &[], &api), DROPPED),
            ("neighbour", v4("192.0.2.2", TCP, 0, &[], &api), PASSES),
            ("loopback", v4("127.0.0.1", TCP, 0, &[], &api), PASSES),
        ],
    );
    assert_eq!(
        world
            .datapath
            .stats()
            .refused_by(Hook::Packet, Refusal::NotRedirected),
        6
    );
}

#[test]
fn ipv6_and_nat64_packets_do_not_reach_a_remote_api_server() {
    let (world, mut probe) = World::around(&[REMOTE, "[2001:db8::a]:443"], "packets 10");
    let api = to_port(443);
    assert_all(
        &mut probe,
        [
            ("TCP", v6("2001:db8::a", &[], TCP, &api), DROPPED),
            ("ping", v6("2001:db8::a", &[], ICMPV6, &api), DROPPED),
            ("NAT64", v6("64:ff9b::192.0.2.1", &[], TCP, &api), DROPPED),
            (
                "NAT64 neighbour",
                v6("64:ff9b::192.0.2.2", &[], TCP, &api),
                PASSES,
            ),
            ("neighbour", v6("2001:db8::b", &[], TCP, &api), PASSES),
        ],
    );
    assert_eq!(world.datapath.stats().refused(), 3);
}

#[test]
fn a_connection_older_than_the_guard_stalls() {
    for to in ["127.0.0.1:6443", "[::1]:6443", "[::ffff:127.0.0.1]:6443"] {
        let (world, mut probe) = World::around(&[LOCAL], &format!("early-tcp {to}"));
        let (mut stream, _) = world.api.accept();
        assert_eq!(probe.ask("late"), "written", "{to}");
        let deadline = Instant::now() + PATIENCE;
        while world
            .datapath
            .stats()
            .refused_by(Hook::Packet, Refusal::NotRedirected)
            < 2
        {
            assert!(Instant::now() < deadline, "{to}: nothing was dropped");
            assert!(silent(&mut stream), "{to}: a byte reached the API server");
        }
        assert!(silent(&mut stream), "{to}: a byte reached the API server");
    }
}

/// Nothing to read for a moment.
fn silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    stream.read(&mut [0]).is_err()
}

#[test]
fn datagram_sockets_older_than_the_guard_are_cut_off() {
    const UDP: u32 = 17;
    const UDP_LITE: u32 = 136;
    for (api, protocol, to) in [
        (LOCAL, UDP, "127.0.0.1:6443"),
        (LOCAL, UDP, "[::1]:6443"),
        (LOCAL, UDP_LITE, "127.0.0.1:6443"),
        (LOCAL, UDP_LITE, "[::1]:6443"),
        (REMOTE, UDP, "192.0.2.1:53"),
        (REMOTE, UDP_LITE, "192.0.2.1:53"),
        (REMOTE, UDP, "[64:ff9b::192.0.2.1]:53"),
        (REMOTE, UDP_LITE, "192.0.2.1:443"),
    ] {
        let (world, mut probe) = World::around(&[api], &format!("early-datagram {protocol} {to}"));
        assert_eq!(probe.ask("late"), DROPPED, "{protocol} {to}");
        assert_eq!(world.datapath.stats().refused(), 1);
    }
    // A mapped destination is told to the send hook once more.
    let (world, mut probe) = World::around(&[REMOTE], "early-datagram 136 [::ffff:192.0.2.1]:53");
    assert_eq!(probe.ask("late"), "error ECONNREFUSED");
    assert_eq!(world.datapath.stats().refused(), 1);
    drop(world);
    for protocol in [UDP, UDP_LITE] {
        let (world, mut probe) = World::around(&[LOCAL], &format!("early-datagram {protocol} 127.0.0.1:53"));
        let _receiver = UdpSocket::bind("127.0.0.1:53").unwrap();
        assert_eq!(probe.ask("late"), PASSES, "{protocol}");
        assert_eq!(world.datapath.stats().refused(), 0);
    }
}

#[test]
fn large_datagrams_to_other_ports_arrive_whole() {
    const SIZE: usize = 20_000;
    let world = World::local();
    let status = Command::new("ip")
        .args(["link", "set", "lo", "mtu", "1500"])
        .status()
        .unwrap();
    assert!(status.success());
    for to in ["127.0.0.1:7000", "[::1]:7000"] {
        let receiver = UdpSocket::bind(to).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let probe = world.probe(Side::Inside, &format!("datagram-of {SIZE} {to}"));
        assert_eq!(probe.finish(), "sent", "{to}");
        let mut buffer = vec![0; SIZE + 1];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), SIZE, "{to}");
    }
    assert_eq!(world.datapath.stats().refused(), 0);
}

#[test]
fn ping_reaches_this_host_and_not_a_remote_api_server() {
    let world = World::remote(&[REMOTE, "[2001:db8::a]:443"]);
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    for to in ["127.0.0.1:0", "[::1]:0", "192.0.2.2:0"] {
        assert_eq!(
            world.probe(Side::Inside, &format!("ping {to}")).finish(),
            PASSES,
            "{to}"
        );
    }
    for (to, dropped) in [("192.0.2.1:0", 1), ("[2001:db8::a]:0", 2)] {
        // The kernel does not tell the sender of an ICMPv6 message what became of it.
        let _told_or_not = world.probe(Side::Inside, &format!("ping {to}")).finish();
        let outside = world.probe(Side::Outside, &format!("ping {to}"));
        assert_eq!(outside.finish(), PASSES, "{to}");
        let stats = world.datapath.stats();
        assert_eq!(
            stats.refused_by(Hook::Packet, Refusal::NotRedirected),
            dropped,
            "{to}"
        );
        assert_eq!(stats.refused(), dropped, "{to}");
    }
}

/// A limit, on record here so that a change of it is noticed: a socket belongs to the cgroup it was made in, for good.
#[test]
fn a_socket_made_outside_the_cgroup_is_not_seen() {
    let world = World::remote(&[REMOTE]);
    let procs = world.cgroup.path().join("cgroup.procs");
    let probe = world.probe(Side::Outside, &format!("enter {} 192.0.2.1:53", procs.display()));
    assert_eq!(probe.finish(), PASSES);
    assert_eq!(world.datapath.stats().refused(), 0);
}
