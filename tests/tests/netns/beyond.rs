//! Routes outside the catalogue that a socket can take: each is tried without a guard, where a witness at the node's end sees
//! whether it leads to the API server, and by an agent with every capability and no allow list, where nothing may arrive.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use eks_guard::ebpf::node::Egress;
use eks_guard::ebpf::{Hook, Refusal};
use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Place, Plan};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use crate::node_world::{API, API6, Layer, Node, Who};
use crate::probe::program;
use crate::wire::{assert_counted, wire_count};
use crate::witness::{Witness, api};
use crate::world::PATIENCE;

/// What a route does where nobody guards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unguarded {
    /// Packets with the API server's address arrive.
    Reaches,
    /// None do: the address is another one, or the kernel keeps to the first.
    Misses,
}

const ROUTES: [(&str, Unguarded); 12] = [
    ("X01", Unguarded::Reaches),
    ("X02", Unguarded::Reaches),
    ("X03", Unguarded::Reaches),
    ("X04", Unguarded::Reaches),
    ("X05", Unguarded::Reaches),
    ("X06", Unguarded::Reaches),
    ("X07", Unguarded::Misses),
    ("X08", Unguarded::Reaches),
    ("X09", Unguarded::Reaches),
    ("X10", Unguarded::Reaches),
    ("X11", Unguarded::Misses),
    ("X12", Unguarded::Reaches),
];

fn plan() -> Plan {
    Plan {
        boundary: Boundary::Pod,
        only: Vec::new(),
        aliases: Vec::new(),
        relays: Vec::new(),
        kubelets: Vec::new(),
        other_clusters: Vec::new(),
        api: [API, API6].map(|text| text.parse().unwrap()).into(),
        place: Place::Elsewhere,
        guard: "guard of the test".to_owned(),
        witness: None,
        abstract_socket: None,
        unconnected_fd: None,
        connected_fd: None,
        older: false,
        credentials: Vec::new(),
        cgroup2: None,
        // The witness judges, not an answer: nothing is waited for.
        patience_ms: 100,
    }
}

/// Tries a route to its end.
fn attempt(node: &Node, who: Who, id: &str) -> Answer {
    let child = program(&node.folder(who).join("cgroup.procs"), id, &plan());
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn no_form_of_a_socket_outside_the_catalogue_leads_past_the_guard() {
    for (id, unguarded) in ROUTES {
        let node = Node::block_list();
        let witness = Witness::of(&node);
        let answer = attempt(&node, Who::Ordinary, id);
        match unguarded {
            Unguarded::Reaches => witness.wait_for(&api(), &format!("{id} unguarded: {answer:?}")),
            Unguarded::Misses => witness.assert_api_untouched(id),
        }
        witness.all();
        for egress in [Egress::BlockList, Egress::AllowList] {
            node.put(Who::Agent, node.agent(egress));
            let answer = attempt(&node, Who::Agent, id);
            witness.assert_api_untouched(&format!("{id}: {answer:?}"));
        }
    }
}

/// A connection from an address at the far end to a listener of the agent, not waited for.
fn call_from(address: &str, node: &Node) -> OwnedFd {
    let from: SocketAddr = format!("{address}:0").parse().unwrap();
    node.far.run(|| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        bind(&socket, &from).unwrap();
        connect(&socket, &"198.51.100.7:7000".parse::<SocketAddr>().unwrap()).unwrap_err();
        socket
    })
}

#[test]
fn a_connection_from_the_api_server_is_not_answered() {
    let node = Node::allow_list();
    let witness = Witness::of(&node);
    let mut probe = node.probe(Who::Agent, "serve 7000");
    assert_eq!(probe.line(), "ready");
    let caller = call_from("192.0.2.1", &node);
    let answers = || {
        let stats = node.datapath.stats().unwrap();
        stats.refused_by(Hook::Packet, Refusal::NotRedirected)
    };
    let deadline = Instant::now() + PATIENCE;
    while answers() == 0 {
        assert!(Instant::now() < deadline, "nobody answered the API server");
        std::thread::yield_now();
    }
    witness.assert_api_untouched("the answer to a connection");
    let half_open = TcpStream::from(caller);
    half_open.set_nonblocking(true).unwrap();
    assert!(half_open.peer_addr().is_err(), "the connection stands");
}

/// Under a flood of connections, or where the pod says so, a listener answers by cookie: of such an answer the kernel names no
/// socket, so that the packet filter of the cgroup is not asked.
#[test]
fn an_answer_by_cookie_is_stopped_on_the_wire() {
    let node = Node::block_list();
    if node.guard_wire() == Layer::Absent || fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").is_err() {
        return;
    }
    let witness = Witness::of(&node);
    let mut probe = node.probe(Who::Agent, "serve 7000");
    assert_eq!(probe.line(), "ready");
    let _caller = call_from("192.0.2.1", &node);
    assert_counted(&node, Refusal::NotRedirected, 1);
    let stats = node.datapath.stats().unwrap();
    assert_eq!(
        stats.refused_by(Hook::Packet, Refusal::NotRedirected),
        0,
        "the packet filter of the cgroup was asked"
    );
    witness.assert_api_untouched("an answer by cookie");

    // That it answers somebody cannot be told of it, so it goes where the list says only.
    node.put(Who::Agent, node.agent(Egress::AllowList));
    let _another = call_from("203.0.113.99", &node);
    let deadline = Instant::now() + PATIENCE;
    while wire_count(&node, Refusal::NotAllowed) == 0 {
        assert!(Instant::now() < deadline, "the answer is not refused");
        std::thread::yield_now();
    }
    let outside: IpAddr = "203.0.113.99".parse().unwrap();
    assert!(!witness.seen().contains(&outside), "an answer by cookie left");
}

#[test]
fn a_thread_in_a_cgroup_of_its_own_is_its_pods() {
    let node = Node::block_list();
    let threaded = node.folder(Who::Agent).join("threaded");
    fs::create_dir(&threaded).unwrap();
    fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    let threads = threaded.join("cgroup.threads").display().to_string();
    for to in [API, "169.254.169.254:80"] {
        node.assert_refused(Who::Agent, &format!("enter {threads} {to}"));
    }
    assert_eq!(
        node.probe(Who::Agent, &format!("enter {threads} 203.0.113.99:53"))
            .finish(),
        "sent",
        "no thread was moved"
    );
    assert_eq!(node.far.datagram(), b"x");
}

#[test]
fn the_guards_port_is_not_shared() {
    let node = Node::block_list();
    for host in ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"] {
        let place: SocketAddr = format!("{host}:{}", node.guard.port()).parse().unwrap();
        let family = if place.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        assert_eq!(
            bind(&socket, &place).unwrap_err(),
            rustix::io::Errno::ADDRINUSE,
            "{place}"
        );
    }
    // Another loopback address is free, and nobody is sent there.
    let beside = std::net::TcpListener::bind(("127.0.0.2", node.guard.port())).unwrap();
    beside.set_nonblocking(true).unwrap();
    node.assert_redirected(&format!("tcp {API}"));
    assert!(beside.accept().is_err());
}
