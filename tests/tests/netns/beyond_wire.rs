//! Routes outside the catalogue that take power over the pod's network: the pod rewrites it as it likes, and the guard of the
//! wire is asked what comes through. Each is tried before the wire is guarded too, so that it is known to lead there.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Instant;

use eks_guard::ebpf::node::Egress;
use eks_guard::ebpf::{Hook, Refusal};
use rig::netns::{Netns, ip, nft};

use crate::barrier::Barrier;
use crate::node_world::{Layer, Node, Who};
use crate::wire::{IPV4, IPV6, assert_counted, frame, sum, summed, v4, v6, wire_count};
use crate::witness::{Witness, api};
use crate::world::PATIENCE;

/// Both ends of a wire have it, and whatever the pod puts in between.
const MAC: &str = "020000000001";
const BROADCAST: &str = "ffffffffffff";
const MULTICAST: &str = "01005e000001";
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Something the pod does to its network, and what it sends then.
struct Route {
    name: &'static str,
    /// Commands of ip(8).
    ip: &'static str,
    /// A script of nft(8).
    nft: &'static str,
    /// Values below `/proc/sys/net`.
    sysctl: &'static [(&'static str, &'static str)],
    attempt: Attempt,
}

/// What is sent.
#[derive(Clone, Copy)]
enum Attempt {
    /// A datagram of a socket to this address.
    Datagram(&'static str),
    /// A frame to the API server, by this interface to this hardware address.
    Frame(&'static str, &'static str),
}

const PLAIN: Route = Route {
    name: "",
    ip: "",
    nft: "",
    sysctl: &[],
    attempt: Attempt::Frame("wire", MAC),
};

const ROUTES: [Route; 7] = [
    Route {
        name: "own translation of destinations",
        nft: "table ip own { chain out { type nat hook output priority -100; ip daddr 203.0.113.99 dnat to 192.0.2.1; } }",
        attempt: Attempt::Datagram("203.0.113.99:443"),
        ..PLAIN
    },
    Route {
        name: "rewriting behind every socket",
        nft: "table netdev own { chain out { type filter hook egress device wire priority 0; \
              ip daddr 203.0.113.99 ip daddr set 192.0.2.1; } }",
        attempt: Attempt::Datagram("203.0.113.99:443"),
        ..PLAIN
    },
    Route {
        name: "a segment route of the kernel",
        ip: "route replace 2001:db8::99/128 encap seg6 mode inline segs 2001:db8::a dev wire",
        attempt: Attempt::Datagram("[2001:db8::99]:443"),
        ..PLAIN
    },
    Route {
        name: "a macvlan on the cable",
        ip: "link add own link wire type macvlan mode bridge\nlink set own up",
        attempt: Attempt::Frame("own", MAC),
        ..PLAIN
    },
    Route {
        name: "a bridge over the cable",
        ip: "link add own type bridge\nlink set wire master own\nlink set own up",
        attempt: Attempt::Frame("own", BROADCAST),
        ..PLAIN
    },
    Route {
        name: "a tunnel whose other end is the API server",
        ip: "link add own type vxlan id 7 local 198.51.100.7 remote 192.0.2.1 dstport 4789\nlink set own up",
        attempt: Attempt::Frame("own", BROADCAST),
        ..PLAIN
    },
    Route {
        name: "packets that the pod forwards and no socket sent",
        ip: "link add own type veth peer name own1\nlink set own1 address 02:00:00:00:00:01\nlink set own up\nlink set own1 up",
        sysctl: &[
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/own1/rp_filter", "0"),
            ("ipv4/conf/own1/accept_local", "1"),
        ],
        attempt: Attempt::Frame("own", MAC),
        ..PLAIN
    },
];

/// An IPv4 frame to a hardware address.
fn to_mac(mac: &str, packet: &[u8]) -> String {
    format!("{mac}{}", &frame(IPV4, packet)[12..])
}

impl Route {
    /// Does it to this thread's network, which is the pod's; whether this kernel, and this machine, can.
    fn is_laid(&self) -> bool {
        let is_done = ip(self.ip).is_ok() && (self.nft.is_empty() || nft(self.nft).is_ok());
        if is_done {
            for (name, value) in self.sysctl {
                fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
            }
        }
        is_done
    }

    fn send(&self, node: &Node, who: Who) {
        match self.attempt {
            // Refused or not: the witness says what came of it.
            Attempt::Datagram(to) => drop(node.probe(who, &format!("udp-send {to}")).finish()),
            Attempt::Frame(interface, mac) => {
                let mut probe = node.probe(who, &format!("frames-on {interface}"));
                assert_eq!(probe.line(), "ready", "{}", self.name);
                probe.ask(&to_mac(mac, &v4("192.0.2.1", 443, &[])));
                probe.finish();
            }
        }
    }
}

#[test]
fn whatever_a_pod_makes_of_its_network_the_wire_is_its_end() {
    let mut laid = 0;
    for route in ROUTES {
        let node = Node::block_list();
        let witness = Witness::of(&node);
        if !route.is_laid() {
            println!("this machine cannot: {}", route.name);
            continue;
        }
        laid += 1;
        route.send(&node, Who::Ordinary);
        witness.wait_for(&api(), route.name);
        witness.all();
        let mut barrier = Barrier::close(&node);
        route.send(&node, Who::Agent);
        barrier.assert_api_untouched(&node, &witness, route.name);
    }
    assert!(laid > 0, "nothing was tried");
}

#[test]
fn an_address_of_the_api_server_on_the_pods_own_loopback_leads_nowhere() {
    let node = Node::block_list();
    let witness = Witness::of(&node);
    ip("addr add 192.0.2.1/32 dev lo").unwrap();
    node.assert_redirected("tcp 192.0.2.1:443");
    node.assert_refused(Who::Agent, "udp-send 192.0.2.1:443");
    witness.assert_api_untouched("an address of its own");
}

#[test]
fn a_cable_moved_to_another_network_stays_guarded() {
    let node = Node::block_list();
    let mut barrier = Barrier::close(&node);
    let witness = Witness::of(&node);
    let other = Netns::create().unwrap();
    ip(&format!("link set wire netns {}", other.path().display())).unwrap();
    other.ip("link set wire up").unwrap();
    other
        .enter(|| {
            PLAIN.send(&node, Who::Agent);
            Ok(())
        })
        .unwrap();
    barrier.assert_stopped(&node, &[(Refusal::NotRedirected, 1)]);
    // It would have seen what the table drops.
    assert!(!barrier.is_program() || api().iter().all(|api| !witness.seen().contains(api)));
}

#[test]
fn frames_in_every_disguise_are_read_as_what_they_are() {
    let node = Node::block_list();
    let mut barrier = Barrier::close(&node);
    let witness = Witness::of(&node);
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    let to_api = v4("192.0.2.1", 443, &[]);
    let mut spoofed = to_api.clone();
    // The address of another pod, and the header's sum with it.
    spoofed[12..16].copy_from_slice(&[198, 51, 100, 8]);
    let spoofed = summed(spoofed);
    let mut jumbo = v6("2001:db8::a", 443);
    // No length, and a hop-by-hop header with the jumbo option (RFC 2675).
    jumbo[4..7].copy_from_slice(&[0, 0, 0]);
    jumbo.splice(40..40, [17, 0, 0xc2, 4, 0, 1, 0, 0]);
    let mut atomic = v6("2001:db8::a", 443);
    atomic[4..7].copy_from_slice(&[0, 19, 44]);
    atomic.splice(40..40, [17, 0, 0, 0, 0, 0, 0, 7]);
    let mut frames = vec![
        ("another pod's address", frame(IPV4, &spoofed)),
        ("broadcast", to_mac(BROADCAST, &to_api)),
        ("multicast", to_mac(MULTICAST, &to_api)),
        ("atomic fragment", frame(IPV6, &atomic)),
    ];
    if barrier.is_program() {
        // Before the table sees a jumbogram, the kernel finds it too short.
        frames.push(("jumbogram", frame(IPV6, &jumbo)));
    }
    for (count, (name, bytes)) in (1..).zip(&frames) {
        assert_eq!(probe.ask(bytes), "sent", "{name}");
        barrier.assert_stopped(&node, &[(Refusal::NotRedirected, count)]);
    }
    barrier.assert_api_untouched(&node, &witness, "disguised frames");
}

#[test]
fn a_later_fragment_does_not_rewrite_the_port_of_the_first() {
    let node = Node::block_list();
    let mut barrier = Barrier::close(&node);
    let witness = Witness::of(&node);
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    let fragment = |field: [u8; 2], port| {
        let mut packet = v4("192.0.2.7", port, &[]);
        packet[6..8].copy_from_slice(&field);
        frame(IPV4, &summed(packet))
    };
    // More follow the first, to a port that is open; the next one covers it.
    assert_eq!(probe.ask(&fragment([0x20, 0], 8080)), "sent");
    witness.wait_for(&["192.0.2.7".parse().unwrap()], "the first fragment");
    for (count, field) in [(1, [0x20, 0]), (2, [0x20, 0])] {
        assert_eq!(probe.ask(&fragment(field, 10_250)), "sent");
        barrier.assert_stopped(&node, &[(Refusal::Infrastructure, count)]);
    }
    assert_eq!(probe.ask(&fragment([0, 1], 10_250)), "sent");
    barrier.assert_stopped(&node, &[(Refusal::Infrastructure, 2), (Refusal::Unreadable, 1)]);
    let all = witness.all();
    assert!(!barrier.is_program() || !all.contains(&"192.0.2.7".parse::<IpAddr>().unwrap()));
}

/// A tunnel that ends outside carries anything: an allow list is what keeps a pod from its other end.
#[test]
fn a_tunnel_to_a_cooperating_host_is_closed_by_the_allow_list_alone() {
    let node = Node::block_list();
    let witness = Witness::of(&node);
    let end = |local, remote| {
        format!(
            "link add own type vxlan id 7 local {local} remote {remote} dstport 4789\n\
             link set own up"
        )
    };
    let far = node.far.run(|| ip(&end("203.0.113.99", "198.51.100.7")));
    if far.is_err() || ip(&end("198.51.100.7", "203.0.113.99")).is_err() {
        return;
    }
    let tunnel = Route {
        name: "tunnel",
        attempt: Attempt::Frame("own", BROADCAST),
        ..PLAIN
    };
    let layer = node.guard_wire();
    tunnel.send(&node, Who::Agent);
    witness.wait_for(&api(), "a tunnel without an allow list");
    if layer == Layer::Absent {
        return;
    }
    witness.all();
    node.put(Who::Agent, node.agent(Egress::AllowList));
    // The tunnel says things of its own, too: all are refused alike.
    let refused = || wire_count(&node, Refusal::NotAllowed);
    let before = refused();
    tunnel.send(&node, Who::Agent);
    let deadline = Instant::now() + PATIENCE;
    while refused() == before {
        assert!(Instant::now() < deadline, "the tunnel's packets are not refused");
    }
    let seen = witness.seen();
    let outer: IpAddr = "203.0.113.99".parse().unwrap();
    assert!(
        !seen.contains(&outer) && api().iter().all(|api| !seen.contains(api)),
        "{seen:?}"
    );
}

/// The beginning of a TCP connection.
fn syn((from, from_port): ([u8; 4], u16), (to, to_port): ([u8; 4], u16)) -> Vec<u8> {
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let ports = [from_port.to_be_bytes(), to_port.to_be_bytes()].concat();
    let mut segment = [
        &ports[..],
        &[0, 0, 0, 7, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0],
    ]
    .concat();
    let check = sum(&[&from[..], &to, &[0, TCP, 0, 20], &segment].concat()).to_be_bytes();
    segment[16..18].copy_from_slice(&check);
    let mut header = [&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, TCP, 0, 0][..], &from, &to].concat();
    let check = sum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&check);
    [header, segment].concat()
}

/// A limit, on record here so that a change of it is noticed: with `NET_RAW` an agent begins a connection to itself in the
/// name of somebody outside, and what its listener answers counts as a reply. It reaches who is in no class and cooperates.
#[test]
fn an_answer_to_a_connection_that_the_pod_has_forged_leaves() {
    let node = Node::allow_list();
    if node.guard_wire() == Layer::Absent {
        return;
    }
    let witness = Witness::of(&node);
    let mut server = node.probe(Who::Agent, "serve 7000");
    assert_eq!(server.line(), "ready");
    let mut probe = node.probe(Who::Agent, "frames-on lo");
    assert_eq!(probe.line(), "ready");
    let own = ([198, 51, 100, 7], 7000);
    let mut forge = |from| {
        let forged = to_mac("000000000000", &syn((from, 443), own));
        assert_eq!(probe.ask(&forged), "sent");
    };
    // In the name of the API server it ends in the pod.
    let refused = || {
        let stats = node.datapath.stats().unwrap();
        stats.refused_by(Hook::Packet, Refusal::NotRedirected)
    };
    forge([192, 0, 2, 1]);
    let deadline = Instant::now() + PATIENCE;
    while refused() == 0 {
        assert!(Instant::now() < deadline, "nobody answers");
    }
    assert!(api().iter().all(|api| !witness.seen().contains(api)));
    forge([203, 0, 113, 99]);
    witness.wait_for(&["203.0.113.99".parse().unwrap()], "the limit is gone");
}

/// A message of neighbour discovery from a pod, to all nodes of its wire.
fn discovery(kind: u8, body: &[u8]) -> String {
    let from = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let length = u8::try_from(message.len()).unwrap();
    let pseudo = [&from[..], &to, &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    let check = sum(&pseudo).to_be_bytes();
    message[2..4].copy_from_slice(&check);
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    frame(IPV6, &[&header[..], &from, &to, &message].concat())
}

#[test]
fn a_pod_does_not_become_the_nodes_router() {
    /// Hop limit, no flags, a lifetime, no timers.
    const ADVERTISEMENT: [u8; 12] = [64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    const ROUTER_SOLICITATION: u8 = 133;
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const REDIRECT: u8 = 137;
    const REDIRECT_V4: u8 = 5;
    let node = Node::block_list();
    let routes = || {
        let shown = node.far.run(|| {
            let mut ip = Command::new("ip");
            ip.args(["-6", "route", "show", "default"]).output().unwrap()
        });
        String::from_utf8(shown.stdout).unwrap()
    };
    // As the interfaces of nodes are: one without neighbours hears no advertisements.
    node.far.run(|| ip("link set far-end arp on").unwrap());
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    assert_eq!(
        probe.ask(&discovery(ROUTER_ADVERTISEMENT, &ADVERTISEMENT)),
        "sent"
    );
    let deadline = Instant::now() + PATIENCE;
    while !routes().contains("via fe80::7") {
        assert!(
            Instant::now() < deadline,
            "the node is not led astray: {}",
            routes()
        );
    }
    node.far
        .run(|| ip("route del default via fe80::7 dev far-end").unwrap());
    if node.guard_wire() == Layer::Absent {
        return;
    }
    for (count, kind) in [(1, ROUTER_ADVERTISEMENT), (2, REDIRECT)] {
        assert_eq!(probe.ask(&discovery(kind, &ADVERTISEMENT)), "sent");
        assert_counted(&node, Refusal::Martian, count);
    }
    // What routers say in IPv4.
    let mut redirect = v4("203.0.113.99", 0, &[]);
    (redirect[9], redirect[20]) = (ICMP, REDIRECT_V4);
    assert_eq!(probe.ask(&frame(IPV4, &summed(redirect))), "sent");
    assert_counted(&node, Refusal::Martian, 3);
    assert_eq!(routes(), "");
    let refused = node.datapath.stats().unwrap().refused();
    assert_eq!(probe.ask(&discovery(ROUTER_SOLICITATION, &[0; 4])), "sent");
    Witness::of(&node).all();
    assert_eq!(node.datapath.stats().unwrap().refused(), refused);
}

/// A limit, on record here so that a change of it is noticed: who administers networks in the node's user namespace reaches
/// the node's network by the number that every cable's end shows, and lays another cable there.
#[test]
fn a_pod_that_may_administer_networks_lays_a_cable_of_its_own() {
    let node = Node::block_list();
    let _barrier = Barrier::close(&node);
    let witness = Witness::of(&node);
    ip("link show wire").unwrap();
    let made = node.probe(Who::Agent, "cable 0").finish();
    assert_eq!(made, "made");
    ip("link set inner up").unwrap();
    let cable = Route {
        name: "a cable of its own",
        attempt: Attempt::Frame("inner", BROADCAST),
        ..PLAIN
    };
    cable.send(&node, Who::Agent);
    witness.wait_for(&api(), "a cable that nobody guards");
}
