//! The datapath of a node: every class at every hook, who is exempt, what an allow list opens, and what outlives the daemon.

use std::net::SocketAddr;

use eks_guard::ebpf::node::{
    AllowEntry, Destination, Egress, Fault, Infrastructure, NodeConfig, NodeLimits, PodEntry, PodKind,
    Problem, Unknown,
};
use eks_guard::ebpf::{Hook, NodeDatapath, NodeError, NodeRequest, Prefix, Refusal};

use crate::node_world::{API, API6, Node, Who, destinations};
use crate::probe::Probe;
use crate::world::chain;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// One destination of each class, the API server aside, in every form it can be written in.
const INFRASTRUCTURE: [&str; 8] = [
    "169.254.169.254:80",
    "[::ffff:169.254.169.254]:80",
    "[64:ff9b::169.254.169.254]:80",
    "[2001:db8:64::169.254.169.254]:80",
    "[fd00:ec2::254]:80",
    "169.254.170.23:80",
    "192.0.2.7:10250",
    "203.0.113.1:443",
];
/// Of nobody's concern.
const ELSEWHERE: [&str; 4] = [
    "203.0.113.99:443",
    "[2001:db8::99]:443",
    "[64:ff9b::10.9.9.9]:443",
    "192.0.2.7:8080",
];

fn entry(prefix: &str, len: u32) -> AllowEntry {
    AllowEntry {
        prefix: Prefix::new(prefix.parse().unwrap(), len).unwrap(),
        protocol: None,
        port: None,
        opens: None,
    }
}

#[test]
fn an_agent_reaches_the_api_server_through_the_guard_in_every_form() {
    let node = Node::allow_list();
    for (to, original) in [
        (API, API),
        (API6, API6),
        ("[::ffff:192.0.2.1]:443", API),
        ("[64:ff9b::192.0.2.1]:443", "[64:ff9b::192.0.2.1]:443"),
        ("[2001:db8:64::192.0.2.1]:443", "[2001:db8:64::192.0.2.1]:443"),
    ] {
        let flow = node.assert_redirected(&format!("tcp {to}"));
        assert_eq!(flow.original_dst.0, original.parse::<SocketAddr>().unwrap());
        assert_eq!(flow.cgroup, node.id(Who::Agent));
    }
    for to in [
        "192.0.2.1:80",
        "[::ffff:192.0.2.1]:80",
        "[2001:db8:64::192.0.2.1]:80",
    ] {
        node.assert_refused(Who::Agent, &format!("tcp {to}"));
        node.assert_refused(Who::Agent, &format!("udp-send {to}"));
    }
    let stats = node.datapath.stats().unwrap();
    assert_eq!((stats.redirected, stats.flows, stats.failed()), (5, 5, 0));
    assert_eq!(stats.refused_by(Hook::Connect, Refusal::OtherPort), 3);
    assert_eq!(stats.refused_by(Hook::Send, Refusal::NotTcp), 3);
}

#[test]
fn infrastructure_is_refused_to_agents_whatever_their_mode() {
    for node in [Node::allow_list(), Node::block_list()] {
        for to in INFRASTRUCTURE {
            node.assert_refused(Who::Agent, &format!("tcp {to}"));
            node.assert_refused(Who::Agent, &format!("udp-connect {to}"));
            node.assert_refused(Who::Agent, &format!("udp-send {to}"));
        }
        let stats = node.datapath.stats().unwrap();
        assert_eq!(stats.refused_by(Hook::Connect, Refusal::Infrastructure), 16);
        assert_eq!(stats.refused_by(Hook::Send, Refusal::Infrastructure), 8);
    }
}

#[test]
fn an_allow_list_is_all_an_agent_has_and_a_block_list_all_it_has_not() {
    let node = Node::block_list();
    for to in ELSEWHERE {
        node.assert_reaches(Who::Agent, to);
    }
    node.put(Who::Agent, node.agent(Egress::AllowList));
    for to in ELSEWHERE {
        node.assert_refused(Who::Agent, &format!("tcp {to}"));
        node.assert_refused(Who::Agent, &format!("udp-send {to}"));
    }
    node.assert_redirected(&format!("tcp {API}"));
    // Loopback is the pod's own.
    assert_eq!(node.probe(Who::Agent, "udp-send 127.0.0.1:53").finish(), "sent");
}

#[test]
fn pods_that_are_no_agents_reach_what_they_would_without_a_guard() {
    let node = Node::allow_list();
    for who in [Who::System, Who::Ordinary] {
        for to in INFRASTRUCTURE.iter().chain(&ELSEWHERE).chain(&[API, API6]) {
            node.assert_reaches(who, to);
        }
        assert_eq!(node.probe(who, &format!("udp-send {API}")).finish(), "sent");
        assert_eq!(node.far.datagram(), b"x");
        assert_eq!(node.probe(who, "socket 2 3 255").finish(), "made");
    }
    assert_eq!(node.datapath.stats().unwrap().refused(), 0);
}

#[test]
fn a_cgroup_nobody_has_classified_reaches_everything_but_the_classes() {
    let node = Node::allow_list();
    for to in ELSEWHERE {
        node.assert_reaches(Who::Unknown, to);
    }
    for to in INFRASTRUCTURE.iter().chain(&[API, API6]) {
        node.assert_refused(Who::Unknown, &format!("tcp {to}"));
        node.assert_refused(Who::Unknown, &format!("udp-send {to}"));
    }
    let stats = node.datapath.stats().unwrap();
    assert_eq!(stats.refused_by(Hook::Connect, Refusal::Unclassified), 10);
    node.datapath.remove_pod(node.id(Who::Agent)).unwrap();
    node.assert_refused(Who::Agent, &format!("tcp {API}"));

    let lenient = Node::with(Egress::AllowList, NodeLimits::default(), Unknown::Pass);
    lenient.assert_reaches(Who::Unknown, API);
    lenient.assert_redirected(&format!("tcp {API}"));
}

#[test]
fn an_allow_entry_opens_its_address_its_protocol_and_its_port() {
    let node = Node::allow_list();
    let id = node.id(Who::Agent);
    let dns = AllowEntry {
        protocol: Some(UDP),
        port: Some(53),
        ..entry("203.0.113.99", 32)
    };
    let web = AllowEntry {
        protocol: Some(TCP),
        ..entry("10.1.0.0", 16)
    };
    let v6 = entry("2001:db8::", 64);
    assert_eq!(node.datapath.set_allowed(id, &[dns, web, v6]).unwrap(), 3);
    assert_eq!(
        node.probe(Who::Agent, "udp-send 203.0.113.99:53").finish(),
        "sent"
    );
    assert_eq!(node.far.datagram(), b"x");
    for what in [
        "tcp 203.0.113.99:53",
        "udp-send 203.0.113.99:443",
        "udp-send 203.0.113.98:53",
        "udp-send 10.1.2.3:53",
        "tcp 10.2.2.3:443",
    ] {
        node.assert_refused(Who::Agent, what);
    }
    for to in [
        "10.1.2.3:443",
        "[::ffff:10.1.2.3]:8080",
        "[64:ff9b::10.1.2.3]:443",
        "[2001:db8::99]:53",
    ] {
        node.assert_reaches(Who::Agent, to);
    }
    // An entry as wide as the world opens no class, and the API server never.
    let all = [entry("0.0.0.0", 0), entry("::", 0)];
    node.datapath.set_allowed(id, &all).unwrap();
    for to in INFRASTRUCTURE {
        node.assert_refused(Who::Agent, &format!("tcp {to}"));
    }
    node.assert_redirected(&format!("tcp {API}"));
    node.assert_reaches(Who::Agent, ELSEWHERE[0]);
    // Gone entries are gone, and another pod's are another pod's.
    node.put(Who::Unknown, node.agent(Egress::AllowList));
    node.assert_refused(Who::Unknown, &format!("tcp {}", ELSEWHERE[0]));
    node.datapath.set_allowed(id, &[]).unwrap();
    node.assert_refused(Who::Agent, &format!("tcp {}", ELSEWHERE[0]));
}

#[test]
fn infrastructure_is_open_to_whom_its_entry_names_it() {
    let node = Node::block_list();
    let identity = AllowEntry {
        protocol: Some(TCP),
        port: Some(80),
        opens: Some(Infrastructure::PodIdentity),
        ..entry("169.254.0.0", 16)
    };
    node.datapath
        .set_allowed(node.id(Who::Agent), &[identity])
        .unwrap();
    node.assert_reaches(Who::Agent, "169.254.170.23:80");
    node.assert_refused(Who::Agent, "tcp 169.254.170.23:443");
    node.assert_refused(Who::Agent, "tcp 169.254.169.254:80");
}

#[test]
fn the_kubelet_is_its_ports_and_the_rest_of_its_node_is_not() {
    let node = Node::block_list();
    for port in [10_250, 10_257] {
        node.assert_refused(Who::Agent, &format!("tcp 192.0.2.7:{port}"));
    }
    node.assert_reaches(Who::Agent, "192.0.2.7:8080");
}

#[test]
fn ports_of_a_node_that_are_the_api_servers_are_redirected_and_the_rest_is_the_nodes() {
    let node = Node::block_list();
    let ports = |address: &str, len| Destination::ApiPorts {
        nodes: Prefix::new(address.parse().unwrap(), len).unwrap(),
        ports: (8080, 8080),
    };
    let mut known = destinations();
    known.extend([ports("192.0.2.7", 32), ports("127.0.0.0", 8)]);
    node.datapath.sync_destinations(&known).unwrap();
    for to in [
        "192.0.2.7:8080",
        "[::ffff:192.0.2.7]:8080",
        "127.0.0.1:8080",
        "127.0.0.9:8080",
    ] {
        node.assert_redirected(&format!("tcp {to}"));
        node.assert_refused(Who::Agent, &format!("udp-send {to}"));
    }
    // The kubelet's ports are one range with them.
    node.assert_redirected("tcp 192.0.2.7:10250");
    for to in ["192.0.2.7:443", "192.0.2.7:80"] {
        node.assert_reaches(Who::Agent, to);
    }
    node.assert_reaches(Who::Ordinary, "192.0.2.7:8080");
    node.assert_refused(Who::Unknown, "tcp 192.0.2.7:8080");
}

#[test]
fn connections_from_another_network_than_the_listeners_take_no_flows() {
    let limits = NodeLimits {
        flows: 4,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::BlockList, limits, Unknown::NoClasses);
    let mut probe = node.probe(Who::Agent, &format!("from-another-network 8 {API}"));
    assert_eq!(probe.line(), "refused 8");
    // Their sockets are there still, and so is the room for those of others.
    node.assert_redirected(&format!("tcp {API}"));
    let stats = node.datapath.stats().unwrap();
    assert_eq!(stats.refused_by(Hook::Connect, Refusal::NoListener), 8);
    assert_eq!(probe.finish(), "closed");
}

#[test]
fn what_is_closed_beside_the_api_server_leaves_it_room() {
    let limits = NodeLimits {
        prefixes: 6,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::BlockList, limits, Unknown::NoClasses);
    // One of the two fits, and the other comes first in the order of addresses.
    let cluster = Prefix::new("198.18.0.0".parse().unwrap(), 15).unwrap();
    let mut known = destinations();
    known.extend([
        Destination::OtherCluster(cluster),
        Destination::Api("203.0.113.240:443".parse().unwrap()),
    ]);
    assert!(node.datapath.sync_destinations(&known).is_err());
    node.assert_redirected("tcp 203.0.113.240:443");
    node.assert_redirected(&format!("tcp {API}"));
}

#[test]
fn a_redirected_socket_names_its_pod_as_a_direct_one_would() {
    let node = Node::allow_list();
    for (to, own) in [
        (API, "198.51.100.7"),
        (API6, "2001:db8::7"),
        ("[::ffff:192.0.2.1]:443", "::ffff:198.51.100.7"),
    ] {
        let mut probe = node.probe(Who::Agent, &format!("own-name {to}"));
        assert_eq!(probe.line(), format!("own {own}"), "{to}");
        drop(node.guard.accept());
    }
}

#[test]
fn destinations_change_without_a_gap_and_never_to_none() {
    let node = Node::block_list();
    let mut more = destinations();
    more.push(Destination::Api("10.0.0.1:443".parse().unwrap()));
    node.assert_reaches(Who::Agent, "10.0.0.1:443");
    assert_eq!(node.datapath.sync_destinations(&more).unwrap(), 1);
    node.assert_redirected("tcp 10.0.0.1:443");
    assert_eq!(node.datapath.sync_destinations(&more).unwrap(), 0);
    for none in [&[][..], &more[2..5]] {
        let refused = node.datapath.sync_destinations(none).unwrap_err();
        assert!(matches!(refused, NodeError::NoApiAddress));
    }
    node.assert_redirected("tcp 10.0.0.1:443");
    assert_eq!(node.datapath.sync_destinations(&destinations()).unwrap(), 1);
    node.assert_reaches(Who::Agent, "10.0.0.1:443");
    node.assert_redirected(&format!("tcp {API}"));
}

#[test]
fn a_full_map_leaves_a_pod_unclassified_and_a_list_short() {
    let small = NodeLimits {
        pods: 3,
        allowed: 1,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::AllowList, small, Unknown::NoClasses);
    let ordinary = PodEntry {
        kind: PodKind::Ordinary,
        addr4: None,
        addr6: None,
    };
    let full = node
        .datapath
        .put_pod(node.id(Who::Unknown), &ordinary)
        .unwrap_err();
    assert_eq!(chain(&full), "no room is left in the eBPF map pods");
    node.assert_refused(Who::Unknown, &format!("tcp {API}"));
    let two = [entry("10.1.0.0", 16), entry("10.2.0.0", 16)];
    assert!(node.datapath.set_allowed(node.id(Who::Agent), &two).is_err());
    node.assert_refused(Who::Agent, "tcp 10.2.0.1:443");
    node.assert_redirected(&format!("tcp {API}"));
}

#[test]
fn what_is_pinned_outlives_the_daemon_until_it_is_uninstalled() {
    let mut node = Node::allow_list();
    let id = node.id(Who::Agent);
    node.datapath
        .set_allowed(id, &[entry("203.0.113.99", 32)])
        .unwrap();
    node.reopen();
    assert_eq!(node.datapath.pods().unwrap().len(), 3);
    assert_eq!(node.datapath.verify_attached(&[]).unwrap(), []);
    assert_eq!(
        node.datapath
            .set_allowed(id, &[entry("203.0.113.99", 32)])
            .unwrap(),
        0,
        "what is there is known"
    );
    node.assert_redirected(&format!("tcp {API}"));
    node.assert_reaches(Who::Agent, "203.0.113.99:443");
    node.assert_refused(Who::Agent, "tcp 203.0.113.98:443");
    let refused = NodeDatapath::uninstall(&node.pins).unwrap_err();
    assert!(matches!(refused, NodeError::AgentsPresent(1)));
    node.datapath.remove_pod(id).unwrap();
    NodeDatapath::uninstall(&node.pins).unwrap();
    let faults = node.datapath.verify_attached(&[]).unwrap();
    assert_eq!(unpinned(&faults), (11, MAPS));
    assert_eq!(faults.len(), 11 + MAPS);
    let Node {
        datapath,
        cgroup,
        far,
        ..
    } = node;
    drop(datapath);
    let procs = cgroup.path().join("agent/cgroup.procs");
    let probe = Probe::start(Some(&procs), &format!("tcp {API}"));
    far.answer();
    assert!(probe.finish().ends_with("answer far"), "nothing is guarded");
}

/// Maps that are pinned.
const MAPS: usize = 13;

/// How many programs and how many maps have lost their pins.
fn unpinned(faults: &[Fault]) -> (usize, usize) {
    let count = |problem| faults.iter().filter(|fault| fault.problem == problem).count();
    (count(Problem::NotPinned), count(Problem::MapNotPinned))
}

#[test]
fn without_its_pins_the_node_is_guarded_while_the_daemon_lives() {
    let node = Node::block_list();
    node.guard_wire();
    node.unmount();
    node.assert_refused(Who::Agent, "tcp 169.254.169.254:80");
    node.assert_redirected(&format!("tcp {API}"));
    let faults = node.far.run(|| node.datapath.verify_attached(&[]).unwrap());
    assert_eq!(unpinned(&faults), (12, MAPS), "{faults:?}");
    assert_eq!(faults.len(), 12 + MAPS, "{faults:?}");
    // What is in the place of a bpffs is none.
    let again = NodeDatapath::open(&NodeRequest {
        cgroup: node.cgroup.path(),
        pins: &node.pins,
        destinations: &destinations(),
        config: &NodeConfig {
            levels: vec![1],
            ..NodeConfig::default()
        },
        limits: NodeLimits::default(),
    });
    let error = again.err().map(|error| chain(&error)).unwrap();
    assert!(error.contains("must be on a writable bpffs"), "{error}");
    assert!(!node.pins.exists());
}
