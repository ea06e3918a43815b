//! Maps without room: what finds none is refused or passes nothing, and it is said which map it was.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Instant;

use eks_guard::ebpf::node::{Destination, Egress, NodeLimits, Problem, Unknown, remembered};
use eks_guard::ebpf::{Hook, NodeError, Prefix, Refusal};
use socket2::{Domain, Socket, Type};

use crate::node_world::{API, API6, Node, TCX_SINCE, Who, destinations, kernel};
use crate::wire::{IPV4, assert_counted, frame, v4};
use crate::world::PATIENCE;

#[test]
fn the_interface_of_an_agent_that_finds_no_room_passes_nothing() {
    if kernel() < TCX_SINCE {
        return;
    }
    let one = NodeLimits {
        links: 1,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::BlockList, one, Unknown::NoClasses);
    let mut probe = node.probe(Who::Agent, "frames");
    assert_eq!(probe.line(), "ready");
    let elsewhere = frame(IPV4, &v4("203.0.113.99", 443, &[]));
    assert_eq!(probe.ask(&elsewhere), "sent");
    assert_eq!(node.far.datagram(), b"raw", "the frame leads there");
    let guard = |interface, who| {
        node.far
            .run(|| node.datapath.guard_interface(interface, node.id(who)))
    };
    let loopback = node.far.run(|| nix::net::if_::if_nametoindex("lo").unwrap());

    // Its pod is not on record, then its interface is not.
    let unknown = guard(node.ifindex(), Who::Unknown).unwrap_err();
    assert!(matches!(unknown, NodeError::NoSuchPod(_)), "{unknown}");
    assert_eq!(probe.ask(&elsewhere), "sent");
    assert_counted(&node, Refusal::Unclassified, 1);
    guard(loopback, Who::Agent).unwrap();
    let full = guard(node.ifindex(), Who::Agent).unwrap_err();
    assert!(matches!(full, NodeError::Full { name: "links" }), "{full}");
    assert_eq!(probe.ask(&elsewhere), "sent");
    assert_counted(&node, Refusal::Unclassified, 2);
    node.far.assert_untouched("a frame of an agent without room");
    let faults = node.far.run(|| node.datapath.verify_attached(&[]).unwrap());
    let faults: Vec<_> = faults
        .iter()
        .map(|fault| (fault.ifindex, fault.problem))
        .collect();
    assert_eq!(faults, [(Some(node.ifindex()), Problem::NoEntry)]);

    node.far
        .run(|| node.datapath.unguard_interface(loopback))
        .unwrap();
    guard(node.ifindex(), Who::Agent).unwrap();
    assert_eq!(probe.ask(&elsewhere), "sent");
    assert_eq!(node.far.datagram(), b"raw", "there is room again");

    // A pod that is forgotten leaves its interface closed.
    node.datapath.remove_pod(node.id(Who::Agent)).unwrap();
    assert_eq!(probe.ask(&elsewhere), "sent");
    assert_counted(&node, Refusal::Unclassified, 3);
    node.far.assert_untouched("a frame of a pod that is forgotten");
}

#[test]
fn the_api_server_is_closed_before_what_else_finds_no_room() {
    let few = NodeLimits {
        prefixes: 16,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::BlockList, few, Unknown::NoClasses);
    let late: SocketAddr = "203.0.113.250:443".parse().unwrap();
    node.assert_reaches(Who::Agent, &late.to_string());
    let cluster = |number: u8| {
        let network = std::net::Ipv4Addr::new(10, number, 0, 0);
        Destination::OtherCluster(Prefix::new(network.into(), 16).unwrap())
    };
    let mut many: Vec<Destination> = (0..32).map(cluster).collect();
    many.extend(destinations());
    // Its address comes after those of all the others.
    many.push(Destination::Api(late));
    let full = node.datapath.sync_destinations(&many).unwrap_err();
    assert!(matches!(full, NodeError::Full { .. }), "{full}");
    for api in [API, API6, &late.to_string()] {
        node.assert_redirected(&format!("tcp {api}"));
    }
    node.assert_refused(Who::Agent, "tcp 169.254.169.254:80");
    // What is gone makes room for what comes.
    let mut others: Vec<Destination> = (100..108).map(cluster).collect();
    others.extend(destinations());
    node.datapath.sync_destinations(&others).unwrap();
    node.assert_refused(Who::Agent, "tcp 10.107.0.1:443");
    node.assert_reaches(Who::Agent, &late.to_string());
}

#[test]
fn what_is_gone_stays_closed_while_what_comes_below_it_finds_no_room() {
    let few = NodeLimits {
        prefixes: 16,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::BlockList, few, Unknown::NoClasses);
    let cluster = |number: u8, length| {
        let network = std::net::Ipv4Addr::new(10, number, 0, 0);
        Destination::OtherCluster(Prefix::new(network.into(), length).unwrap())
    };
    let mut wide = destinations();
    wide.push(cluster(0, 8));
    node.datapath.sync_destinations(&wide).unwrap();
    let mut narrow: Vec<Destination> = (0..32).map(|number| cluster(number, 16)).collect();
    narrow.extend(destinations());
    let full = node.datapath.sync_destinations(&narrow).unwrap_err();
    assert!(matches!(full, NodeError::Full { .. }), "{full}");
    for number in [0, 31] {
        node.assert_refused(Who::Agent, &format!("tcp 10.{number}.0.1:443"));
    }
}

#[test]
fn a_listener_without_room_for_its_mark_answers_nobody() {
    answers_once_there_is_room(&[], Hook::Packet);
    // The program on the interface holds it to the list as well, where there is one.
    if kernel() >= TCX_SINCE {
        answers_once_there_is_room(&["egress"], Hook::Wire);
    }
}

/// What counts as a reply only with a mark that finds no room is stopped in `hook`.
fn answers_once_there_is_room(left_out: &'static [&'static str], hook: Hook) {
    let limits = NodeLimits {
        left_out,
        ..NodeLimits::default()
    };
    let node = Node::with(Egress::AllowList, limits, Unknown::NoClasses);
    if hook == Hook::Wire {
        node.guard_wire();
    }
    let mut probe = node.probe(Who::Agent, "serve-without-room 7000");
    assert_eq!(probe.line(), "ready");
    let refused = || {
        node.datapath
            .stats()
            .unwrap()
            .refused_by(hook, Refusal::NotAllowed)
    };
    let answer = node.far.run(|| {
        let caller = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        caller.set_nonblocking(true).unwrap();
        let to: SocketAddr = "198.51.100.7:7000".parse().unwrap();
        let begun = caller.connect(&to.into()).unwrap_err();
        assert_eq!(begun.raw_os_error(), Some(nix::libc::EINPROGRESS));
        // Each of them answers a SYN: the first, and one that is sent again.
        let deadline = Instant::now() + PATIENCE;
        while refused() < 2 {
            assert!(caller.peer_addr().is_err(), "{hook:?}: an answer has arrived");
            assert!(Instant::now() < deadline, "{hook:?}: nothing was refused");
            std::thread::yield_now();
        }
        assert_eq!(probe.ask("make room"), "room");
        caller.set_nonblocking(false).unwrap();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        BufReader::new(caller).read_line(&mut answer).unwrap();
        answer
    });
    assert_eq!(answer, "pod\n", "the same listener answers once it has its mark");
    assert_eq!(probe.finish(), "served");
}

#[test]
fn the_maps_know_what_was_closed_before() {
    let node = Node::block_list();
    let known = remembered(&node.pins).unwrap();
    let api: Vec<String> = known.api.iter().map(ToString::to_string).collect();
    assert_eq!(api, [API, API6]);
    let nodes: Vec<String> = known.nodes.iter().map(ToString::to_string).collect();
    assert_eq!(nodes, ["192.0.2.7"]);
    let nowhere = remembered(&node.pins.join("nothing")).unwrap();
    assert!(nowhere.api.is_empty() && nowhere.nodes.is_empty());
}
