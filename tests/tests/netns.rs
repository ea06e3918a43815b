//! The real programs on a real cgroup: what a guarded process reaches, and what the guard knows about it. Needs root.
//! Each test has its own network namespace and its own cgroup.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is a test; probes answer on standard output"
)]

#[path = "netns/abstract_names.rs"]
mod abstract_names;
#[path = "netns/barrier.rs"]
mod barrier;
#[path = "netns/beyond.rs"]
mod beyond;
#[path = "netns/beyond_wire.rs"]
mod beyond_wire;
#[path = "netns/catalogue.rs"]
mod catalogue;
#[path = "netns/exact.rs"]
mod exact;
#[path = "netns/filter.rs"]
mod filter;
#[path = "netns/full.rs"]
mod full;
#[path = "netns/loading.rs"]
mod loading;
#[path = "netns/netlink.rs"]
mod netlink;
#[path = "netns/node.rs"]
mod node;
#[path = "netns/node_world.rs"]
mod node_world;
#[path = "netns/packets.rs"]
mod packets;
#[path = "netns/pods.rs"]
mod pods;
#[path = "netns/probe.rs"]
mod probe;
#[path = "netns/repair.rs"]
mod repair;
#[path = "netns/run.rs"]
mod run;
#[path = "netns/sockets.rs"]
mod sockets;
#[path = "netns/wire.rs"]
mod wire;
#[path = "netns/witness.rs"]
mod witness;
#[path = "netns/world.rs"]
mod world;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use eks_guard::ebpf::{Datapath, Downstream, Hook, LoadRequest, Refusal, RunCgroup, remove_leftovers};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::probe::Probe;
use crate::world::{API_PORT, OWN_V4, OWN_V6, PATIENCE, Ports, Side, World, enter_new_network, run_id};

/// Not a test of its own: what the probes run.
#[test]
#[ignore = "started by the other tests"]
fn probe_child() {
    probe::child();
}

#[test]
fn redirects_every_address_of_a_local_api_server() {
    let world = World::local();
    for (to, original, peer) in [
        ("127.0.0.1:6443", "127.0.0.1:6443", "127.0.0.1:6443"),
        ("127.0.0.2:6443", "127.0.0.2:6443", "127.0.0.2:6443"),
        ("0.0.0.0:6443", "0.0.0.0:6443", "127.0.0.1:6443"),
        ("[::1]:6443", "[::1]:6443", "[::1]:6443"),
        ("[::]:6443", "[::]:6443", "[::1]:6443"),
        (
            "[::ffff:127.0.0.1]:6443",
            "127.0.0.1:6443",
            "[::ffff:127.0.0.1]:6443",
        ),
        (
            "[::ffff:127.9.9.9]:6443",
            "127.9.9.9:6443",
            "[::ffff:127.9.9.9]:6443",
        ),
        ("[::ffff:0.0.0.0]:6443", "0.0.0.0:6443", "[::ffff:127.0.0.1]:6443"),
    ] {
        world.assert_redirected(Side::Inside, "tcp", to, original, peer);
    }
    for own in [format!("{OWN_V4}:6443"), format!("[{OWN_V6}]:6443")] {
        world.assert_redirected(Side::Inside, "tcp", &own, &own, &own);
    }
    assert_eq!(world.datapath.stats().redirected, 10);
    assert_eq!(world.datapath.stats().flows, 10);
    assert_eq!(world.datapath.stats().failed(), 0);
}

#[test]
fn redirects_a_remote_api_server_in_every_disguise() {
    let world = World::remote(&["192.0.2.1:443", "[2001:db8::a]:443"]);
    for (to, original) in [
        ("192.0.2.1:443", "192.0.2.1:443"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1:443"),
        ("[64:ff9b::192.0.2.1]:443", "[64:ff9b::192.0.2.1]:443"),
        ("[2001:db8::a]:443", "[2001:db8::a]:443"),
    ] {
        let peer: SocketAddr = to.parse().unwrap();
        world.assert_redirected(Side::Inside, "tcp", to, original, &peer.to_string());
    }
}

#[test]
fn refuses_other_ports_and_protocols_of_a_remote_api_server() {
    let world = World::remote(&["192.0.2.1:443", "[2001:db8::a]:443"]);
    for to in [
        "192.0.2.1",
        "[::ffff:192.0.2.1]",
        "[64:ff9b::192.0.2.1]",
        "[2001:db8::a]",
    ] {
        world.assert_refused(&format!("tcp {to}:22"));
        for port in [443, 53] {
            world.assert_refused(&format!("udp-connect {to}:{port}"));
            world.assert_refused(&format!("udp-send {to}:{port}"));
        }
    }
    assert_eq!(world.datapath.stats().refused(), 20);
    assert_eq!(world.datapath.stats().redirected, 0);
}

#[test]
fn refuses_datagrams_to_the_port_of_a_local_api_server_only() {
    let world = World::local();
    for to in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        world.assert_refused(&format!("udp-connect {to}:6443"));
        world.assert_refused(&format!("udp-send {to}:6443"));
        assert_eq!(
            world
                .probe(Side::Inside, &format!("udp-connect {to}:53"))
                .finish(),
            "connected"
        );
        assert_eq!(
            world.probe(Side::Inside, &format!("udp-send {to}:53")).finish(),
            "sent"
        );
    }
}

#[test]
fn other_ports_of_this_host_pass() {
    let world = World::local();
    let other = Ports::bind(7000);
    for to in [
        "127.0.0.1:7000",
        "[::1]:7000",
        "[::ffff:127.0.0.1]:7000",
        "198.51.100.7:7000",
    ] {
        let probe = world.probe(Side::Inside, &format!("tcp {to}"));
        let (stream, _) = other.accept();
        answer(stream);
        assert_eq!(probe.finish(), format!("peer {to} answer other"));
    }
    assert_eq!(world.datapath.stats().redirected, 0);
    assert!(world.guard.idle());
}

#[test]
fn processes_outside_the_cgroup_are_not_touched() {
    let world = World::local();
    for to in ["127.0.0.1:6443", "[::1]:6443"] {
        let probe = world.probe(Side::Outside, &format!("tcp {to}"));
        let (stream, _) = world.api.accept();
        answer(stream);
        assert_eq!(probe.finish(), format!("peer {to} answer other"));
    }
    assert!(world.guard.idle());
}

#[test]
fn a_nested_cgroup_is_as_guarded() {
    let world = World::local();
    world.assert_redirected(
        Side::Nested,
        "tcp",
        "127.0.0.1:6443",
        "127.0.0.1:6443",
        "127.0.0.1:6443",
    );
    world.assert_redirected(Side::Nested, "tcp", "[::1]:6443", "[::1]:6443", "[::1]:6443");
}

#[test]
fn a_guarded_socket_in_the_hands_of_an_outsider_does_not_reach_the_api_server() {
    let world = World::local();
    world.assert_refused("leave 127.0.0.1:6443");
    world.assert_refused("leave [::1]:6443");
    assert_eq!(world.datapath.stats().failed(), 2);
}

#[test]
fn fast_open_is_redirected() {
    let world = World::local();
    for (to, original) in [
        ("127.0.0.1:6443", "127.0.0.1:6443"),
        ("[::1]:6443", "[::1]:6443"),
        ("[::ffff:127.0.0.1]:6443", "127.0.0.1:6443"),
    ] {
        world.assert_redirected(Side::Inside, "fastopen", to, original, to);
    }
}

#[test]
fn a_bound_source_address_is_redirected() {
    let world = World::local();
    for (from, to) in [
        ("127.0.0.5:0", "127.0.0.1:6443"),
        ("198.51.100.7:0", "198.51.100.7:6443"),
    ] {
        world.assert_redirected(Side::Inside, &format!("bound {from}"), to, to, to);
    }
    world.assert_redirected(
        Side::Inside,
        "bound [2001:db8::7]:0",
        "[::1]:6443",
        "[::1]:6443",
        "[::1]:6443",
    );
}

#[test]
fn a_reconnected_socket_does_not_name_its_former_destination() {
    let world = World::local();
    let other = Ports::bind(7000);
    let mut probe = world.probe(Side::Inside, "reconnect 127.0.0.1:6443 127.0.0.1:7000");
    let mut first = world.accept();
    assert!(first.flow.is_some());
    first.stream.write_all(b"guard\n").unwrap();
    assert_eq!(probe.line(), "peer 127.0.0.1:6443 answer guard");
    let (stream, peer) = other.accept();
    assert_eq!(world.take(Downstream::of(&stream, peer).unwrap()), None);
    answer(stream);
    assert_eq!(probe.finish(), "peer 127.0.0.1:7000 answer other");
    world.assert_api_untouched();
}

#[test]
fn a_flow_is_for_the_connection_whose_syn_wrote_it() {
    let world = World::local();
    let mut probe = world.probe(Side::Inside, "hold 127.0.0.1:6443");
    assert_eq!(probe.line(), "connected");
    let (stream, peer) = world.guard.accept();
    let accepted = Downstream::of(&stream, peer).unwrap();
    let another = Downstream {
        isn: accepted.isn.wrapping_add(1),
        ..accepted
    };
    assert_eq!(world.take(another), None, "a later connection from the same port");
    assert!(world.take(accepted).is_some());
    world.assert_api_untouched();
}

#[test]
fn a_socket_that_turns_elsewhere_leaves_no_flow() {
    let world = World::local();
    let other = Ports::bind(7000);
    let mut probe = world.probe(Side::Inside, "reconnect 127.0.0.1:6443 127.0.0.1:7000");
    let (mut first, peer) = world.guard.accept();
    let untaken = Downstream::of(&first, peer).unwrap();
    first.write_all(b"guard\n").unwrap();
    assert_eq!(probe.line(), "peer 127.0.0.1:6443 answer guard");
    let (stream, _) = other.accept();
    assert_eq!(world.take(untaken), None);
    answer(stream);
    assert_eq!(probe.finish(), "peer 127.0.0.1:7000 answer other");
    world.assert_api_untouched();
}

#[test]
fn a_socket_that_was_elsewhere_is_redirected_when_it_turns_to_the_api_server() {
    let world = World::local();
    let other = Ports::bind(7000);
    let mut probe = world.probe(Side::Inside, "reconnect 127.0.0.1:7000 127.0.0.1:6443");
    let (mut first, _) = other.accept();
    first.write_all(b"other\n").unwrap();
    assert_eq!(probe.line(), "peer 127.0.0.1:7000 answer other");
    let accepted = world.accept();
    assert_eq!(
        accepted.flow.unwrap().original_dst.0,
        SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))
    );
    accepted.answer("guard");
    assert_eq!(probe.finish(), "peer 127.0.0.1:6443 answer guard");
    world.assert_api_untouched();
}

#[test]
fn the_listener_dialled_directly_has_no_flow() {
    let world = World::local();
    for (side, host) in [
        (Side::Inside, "127.0.0.1"),
        (Side::Inside, "[::1]"),
        (Side::Outside, "127.0.0.1"),
    ] {
        let probe = world.probe(side, &format!("tcp {host}:{}", world.guard.port()));
        let accepted = world.accept();
        assert_eq!(accepted.flow, None, "{host}");
        drop(accepted);
        assert!(probe.finish().ends_with("answer"), "{host}");
    }
}

#[test]
fn a_full_flow_table_refuses_and_recovers() {
    let world = World::with_flows(1);
    let mut first = world.probe(Side::Inside, "hold 127.0.0.1:6443");
    assert_eq!(first.line(), "connected");
    let mut second = world.probe(Side::Inside, "hold 127.0.0.1:6443");
    assert_eq!(second.line(), "connected");
    assert_eq!(world.datapath.stats().failed(), 1);
    let (stream, earlier) = world.guard.accept();
    let earlier = Downstream::of(&stream, earlier).unwrap();
    assert_eq!(
        world.accept().flow,
        None,
        "the second has no entry, so the listener closes it"
    );
    // The first closes without having been taken: its entry goes with it.
    assert_eq!(first.finish(), "closed");
    assert_eq!(second.finish(), "closed");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut third = world.probe(Side::Inside, "hold 127.0.0.1:6443");
        assert_eq!(third.line(), "connected");
        if world.accept().flow.is_some() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the entry of a closed connection stays"
        );
    }
    assert_eq!(world.take(earlier), None);
    world.assert_api_untouched();
}

#[test]
fn programs_refuse_everything_when_the_maps_are_of_another_version() {
    for abi in [0, u32::MAX] {
        let world = World::with_abi(abi);
        let other = Ports::bind(7000);
        for what in ["tcp 127.0.0.1:6443", "tcp 127.0.0.1:7000", "udp-send [::1]:53"] {
            world.assert_refused(what);
        }
        let made = world.probe(Side::Inside, "socket 2 3 255").finish();
        assert_eq!(made, "error EPROTONOSUPPORT");
        assert!(other.idle() && world.guard.idle());
        let stats = world.datapath.stats();
        let refused =
            [Hook::Connect, Hook::Send, Hook::Create].map(|hook| stats.refused_by(hook, Refusal::Abi));
        assert_eq!(refused, [2, 1, 1]);
    }
}

#[test]
fn without_a_listener_the_connection_is_refused() {
    let World {
        datapath,
        cgroup,
        guard,
        api,
        ..
    } = World::local();
    let port = guard.port();
    drop(guard);
    // A process that another test is starting may hold a copy of the listener for a moment.
    let deadline = Instant::now() + PATIENCE;
    while ["127.0.0.1", "::1"]
        .iter()
        .any(|host| TcpStream::connect((*host, port)).is_ok())
    {
        assert!(Instant::now() < deadline, "the listener stays");
    }
    let procs = cgroup.path().join("cgroup.procs");
    for to in ["127.0.0.1:6443", "[::1]:6443"] {
        assert_eq!(
            Probe::start(Some(&procs), &format!("tcp {to}")).finish(),
            "error ECONNREFUSED"
        );
    }
    assert!(api.idle());
    // Whoever holds the links keeps the cgroup closed.
    let links = datapath.link_fds().unwrap();
    drop(datapath);
    assert_eq!(
        Probe::start(Some(&procs), "tcp 127.0.0.1:6443").finish(),
        "error ECONNREFUSED"
    );
    assert!(api.idle());
    drop(links);
    let probe = Probe::start(Some(&procs), "tcp 127.0.0.1:6443");
    answer(api.accept().0);
    assert!(
        probe.finish().ends_with("answer other"),
        "without links nothing is guarded"
    );
}

#[test]
fn a_killed_guard_leaves_its_cgroup_closed_until_the_next_start_removes_it() {
    enter_new_network();
    let api = Ports::bind(API_PORT);
    let id = run_id();
    let mut loader = Probe::start(None, &format!("load {id}"));
    let path = loader.line();
    let holder = loader.take_stdin();
    loader.kill();
    let procs = Path::new(&path).join("cgroup.procs");
    assert_eq!(
        Probe::start(Some(&procs), "tcp 127.0.0.1:6443").finish(),
        "error ECONNREFUSED"
    );
    assert!(api.idle());
    let mut left = Probe::start(Some(&procs), "hold 127.0.0.1:22");
    assert_eq!(left.line(), "error ECONNREFUSED");
    assert_eq!(remove_leftovers(|name| name != id), 1);
    assert!(!Path::new(&path).exists());
    drop(holder);
}

/// The probe of the killed guard: one that has handed its links to a process of the run.
fn killed_loader(run_id: &str) -> io::Result<String> {
    let cgroup = RunCgroup::create(run_id).unwrap();
    let api = [SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))];
    let datapath = Datapath::load(&LoadRequest {
        cgroup: &cgroup,
        api: &api,
        listener_port: 1,
    })
    .unwrap();
    let links = datapath.link_fds().unwrap();
    for link in &links {
        fcntl_setfd(link, FdFlags::empty())?;
    }
    // It inherits the links, and reads the test's pipe until the test closes it.
    let mut holder = Command::new("cat")
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .spawn()?;
    println!("probe: {}", cgroup.path().display());
    holder.wait()?;
    Ok("holder gone".to_owned())
}

fn answer(mut stream: TcpStream) {
    stream.write_all(b"other\n").unwrap();
}
