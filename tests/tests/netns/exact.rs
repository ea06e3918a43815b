//! What of an allow list one look decides: the map of it says what the other maps say, whatever comes and goes.

use aya::maps::{HashMap, Map, MapData};
use eks_guard::ebpf::node::{
    AllowEntry, Destination, Egress, Infrastructure, NodeConfig, NodeLimits, PodKind, Unknown,
};
use eks_guard::ebpf::{NodeDatapath, NodeRequest, Prefix, Refusal};

use crate::node_world::{API, Layer, Node, Who, destinations};
use crate::probe::Probe;
use crate::wire::{FRAGMENT, IPV4, IPV6, assert_counted, frame, summed, v4, v6, v6_behind};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Of nobody's concern.
const LISTED: &str = "203.0.113.99";
const LISTED6: &str = "2001:db8::99";

/// Where the fragment field of an IPv4 header stands.
const FRAGMENT_V4: usize = 6;

fn entry(address: &str, protocol: u8, port: u16) -> AllowEntry {
    AllowEntry {
        prefix: Prefix::host(address.parse().unwrap()),
        protocol: Some(protocol),
        port: Some(port),
        opens: None,
    }
}

/// What one look finds.
fn exact(node: &Node) -> usize {
    let pinned = MapData::from_pin(node.abi_pins().join("maps/exact")).unwrap();
    let map = HashMap::<_, [u32; 6], u32>::try_from(Map::HashMap(pinned)).unwrap();
    map.iter().filter(|entry| matches!(entry, Ok((_, 1)))).count()
}

/// A process of an agent whose socket is older than that: only its packets are looked at.
fn early(node: &Node, what: &str, list: &[AllowEntry]) -> Probe {
    node.put(Who::Ordinary, PodKind::Ordinary);
    let mut probe = node.probe(Who::Ordinary, what);
    assert_eq!(probe.line(), "ready");
    node.put(Who::Ordinary, node.agent(Egress::AllowList));
    node.datapath.set_allowed(node.id(Who::Ordinary), list).unwrap();
    probe
}

#[test]
fn a_class_that_comes_closes_what_a_list_names_exactly() {
    let node = Node::allow_list();
    let list = [LISTED, LISTED6].map(|to| [entry(to, TCP, 443), entry(to, UDP, 53)]);
    let list = list.as_flattened();
    node.datapath.set_allowed(node.id(Who::Agent), list).unwrap();
    assert_eq!(exact(&node), 4);
    let (to, to6) = (format!("{LISTED}:443"), format!("[{LISTED6}]:443"));
    let mut packets = early(&node, &format!("early-datagram 17 {LISTED}:53"), list);
    let mut frames = node.probe(Who::Agent, "frames");
    assert_eq!(frames.line(), "ready");
    let wire = node.guard_wire();
    let datagrams = [frame(IPV4, &v4(LISTED, 53, &[])), frame(IPV6, &v6(LISTED6, 53))];
    let open = |packets: &mut Probe, frames: &mut Probe| {
        node.assert_reaches(Who::Agent, &to);
        node.assert_reaches(Who::Agent, &to6);
        assert_eq!(packets.ask("x"), "sent");
        assert_eq!(node.far.datagram(), b"x");
        assert_eq!(frames.ask(&datagrams[0]), "sent");
        assert_eq!(node.far.datagram(), b"raw");
    };
    open(&mut packets, &mut frames);

    let mut closed = destinations();
    closed.extend([
        Destination::OtherCluster(Prefix::new("203.0.113.96".parse().unwrap(), 29).unwrap()),
        Destination::Api(to6.parse().unwrap()),
    ]);
    node.datapath.sync_destinations(&closed).unwrap();
    assert_eq!(exact(&node), 0);
    node.assert_refused(Who::Agent, &format!("tcp {to}"));
    node.assert_refused(Who::Agent, &format!("udp-send {LISTED}:53"));
    node.assert_redirected(&format!("tcp {to6}"));
    assert_eq!(packets.ask("x"), "error EPERM");
    if wire == Layer::Present {
        for datagram in &datagrams {
            assert_eq!(frames.ask(datagram), "sent");
        }
        assert_counted(&node, Refusal::Infrastructure, 1);
        assert_counted(&node, Refusal::NotRedirected, 1);
    }
    node.far.assert_untouched("what has become a class's");

    node.datapath.sync_destinations(&destinations()).unwrap();
    assert_eq!(exact(&node), 8);
    open(&mut packets, &mut frames);

    // Gone entries are gone, and so are a pod's.
    node.datapath
        .set_allowed(node.id(Who::Agent), &list[..1])
        .unwrap();
    node.datapath.remove_pod(node.id(Who::Ordinary)).unwrap();
    assert_eq!(exact(&node), 1);
    node.assert_refused(Who::Agent, &format!("tcp {to6}"));
    node.assert_reaches(Who::Agent, &to);
}

#[test]
fn only_a_host_with_a_port_that_no_class_has_is_exact() {
    let node = Node::allow_list();
    let wide = AllowEntry {
        prefix: Prefix::new("203.0.113.96".parse().unwrap(), 29).unwrap(),
        ..entry(LISTED, TCP, 443)
    };
    let any_port = AllowEntry {
        port: None,
        ..entry("203.0.113.90", TCP, 443)
    };
    let node_itself = entry("192.0.2.7", TCP, 8080);
    let kubelet = AllowEntry {
        opens: Some(Infrastructure::Kubelet),
        ..entry("192.0.2.7", TCP, 10_250)
    };
    let loopback = entry("127.0.0.1", TCP, node.guard.port());
    let api = entry("192.0.2.1", TCP, 443);
    let list = [wide, any_port, node_itself, kubelet, loopback, api];
    node.datapath.set_allowed(node.id(Who::Agent), &list).unwrap();
    assert_eq!(exact(&node), 0);
    for to in [
        "203.0.113.98:443",
        "203.0.113.90:8080",
        "192.0.2.7:8080",
        "192.0.2.7:10250",
    ] {
        node.assert_reaches(Who::Agent, to);
    }
    node.assert_refused(Who::Agent, "tcp 192.0.2.7:10257");
    node.assert_redirected(&format!("tcp {API}"));
}

#[test]
fn a_gateways_prefix_that_comes_is_understood_in_lists_that_are_older() {
    let mut node = Node::allow_list();
    let to = "[2001:db8:65::192.0.2.1]:443";
    let list = [entry("2001:db8:65::192.0.2.1", TCP, 443)];
    node.datapath.set_allowed(node.id(Who::Agent), &list).unwrap();
    node.assert_reaches(Who::Agent, to);
    let config = NodeConfig {
        levels: (1..=8).collect(),
        unknown: Unknown::NoClasses,
        nat64: vec!["2001:db8:65::".parse().unwrap()],
    };
    node.datapath = NodeDatapath::open(&NodeRequest {
        cgroup: node.cgroup.path(),
        pins: &node.pins,
        destinations: &destinations(),
        config: &config,
        limits: NodeLimits::default(),
    })
    .unwrap();
    node.assert_redirected(&format!("tcp {to}"));
    assert_eq!(exact(&node), 0);
}

#[test]
fn what_finds_no_room_for_one_look_is_allowed_all_the_same() {
    let two = NodeLimits {
        allowed: 2,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::AllowList, two, Unknown::NoClasses);
    let list = [LISTED, LISTED6].map(|to| [entry(to, TCP, 443), entry(to, TCP, 80)]);
    let list = list.as_flattened();
    node.datapath.set_allowed(node.id(Who::Agent), list).unwrap();
    assert_eq!(exact(&node), 2);
    for port in [443, 80] {
        node.assert_reaches(Who::Agent, &format!("{LISTED}:{port}"));
        node.assert_reaches(Who::Agent, &format!("[{LISTED6}]:{port}"));
    }
}

#[test]
fn headers_that_hide_the_port_are_read_to_the_end() {
    let node = Node::allow_list();
    let list = [entry(LISTED, UDP, 53), entry(LISTED6, UDP, 53)];
    node.datapath.set_allowed(node.id(Who::Agent), &list).unwrap();
    let routed = v4(LISTED, 53, &[131, 3, 4, 0]);
    let mut later = v4(LISTED, 53, &[]);
    later[FRAGMENT_V4..][..2].copy_from_slice(&[0, 1]);
    let later = summed(later);
    let raw = |packet: &[u8]| {
        packet
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let mut packets = early(&node, "packets 2", &list);
    let mut frames = node.probe(Who::Agent, "frames");
    assert_eq!(frames.line(), "ready");
    if node.guard_wire() == Layer::Absent {
        return;
    }
    let mut later6 = v6_behind(FRAGMENT, LISTED6, 53);
    later6[42..44].copy_from_slice(&[0, 8]);
    for packet in [frame(IPV4, &routed), frame(IPV4, &later), frame(IPV6, &later6)] {
        assert_eq!(frames.ask(&packet), "sent");
    }
    assert_counted(&node, Refusal::RoutingHeader, 1);
    assert_counted(&node, Refusal::NotAllowed, 2);
    assert_eq!(packets.ask(&format!("{LISTED} {}", raw(&later))), "error EPERM");
    node.far.assert_untouched("a packet whose port is not known");
    assert_eq!(
        packets.ask(&format!("{LISTED} {}", raw(&v4(LISTED, 53, &[])))),
        "sent"
    );
    assert_eq!(node.far.datagram(), b"raw");
}
