//! The routes of the catalogue as a process of a pod tries them, on a node without its daemon: on every kernel of the matrix, and
//! layer by layer.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use eks_guard::ebpf::node::{Egress, NodeLimits, Unknown};
use eks_guard::ebpf::{FlowTable, netns_cookie};
use eks_guard::probe::profile::Profile;
use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Place, Plan};
use eks_guard_core::catalogue::report::ProfileReport;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rig::matrix::page::{self, OtherKernel};
use rig::matrix::{self, Column, POD};
use rig::{cgroups, programs};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, connect, socket};

use crate::barrier::Barrier;
use crate::catalogue::{Admits, GUARD, Server};
use crate::node_world::{API, API6, Node, Who};
use crate::world::{PATIENCE, take};

/// What a pod with a network of its own may be.
const OWN_NETWORK: [Profile; 4] = [
    Profile::Restricted,
    Profile::Default,
    Profile::NetRaw,
    Profile::NetAdmin,
];
/// What a node has there, a container does not see.
const HIDDEN: [&str; 5] = [
    "/run",
    "/sys/fs/bpf",
    "/var/lib/kubelet",
    "/etc/kubernetes",
    "/etc/rancher",
];
/// A program outside of the pod's network listens on it.
const ABSTRACT: &str = "eks-guard-tests-outside";
/// What leads out without the boundary, on every kernel: what is blocked there is blocked by the boundary.
const OPEN_WITHOUT: [&str; 16] = [
    "N01", "N02", "N03", "N06", "N08", "N10", "N11", "N17", "N18", "N27", "P01", "P02", "P03", "P04", "A01",
    "K01",
];
const CONNECT: [&str; 2] = ["connect4", "connect6"];
/// Long enough for an answer that must not come, and for all that must.
const SHORT: Duration = Duration::from_secs(2);
const ENOUGH: Duration = Duration::from_secs(40);

/// An agent's pod, its guard, and the API server at the end of its wire.
struct Ground {
    node: Node,
    plan: Plan,
    _barrier: Option<Barrier>,
    _servers: [Server; 2],
    _witness: TcpListener,
    _outside: UnixListener,
}

/// Whether the node's end of the wire is guarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Guarded,
    Open,
}

impl Ground {
    fn new(left_out: &'static [&'static str], wire: Wire) -> Self {
        let limits = NodeLimits {
            left_out,
            ..NodeLimits::default()
        };
        let node = Node::with(Egress::AllowList, limits, Unknown::NoClasses);
        let everybody: Admits = Arc::new(|_, _| true);
        let api = Server::start(node.far.listeners(443), "authority of the API server", &everybody);
        let listeners = node.guard.listeners();
        let cookie = netns_cookie(&listeners[0]).unwrap();
        let flows: Arc<dyn FlowTable> = node.datapath.flow_table(cookie);
        let with_flow: Admits = Arc::new(move |stream, peer| take(&*flows, stream, peer).is_some());
        let guard = Server::start(listeners, GUARD, &with_flow);
        let barrier = (wire == Wire::Guarded).then(|| Barrier::close(&node));
        let witness = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let plan = Plan {
            boundary: Boundary::Pod,
            only: Vec::new(),
            api: vec![API.parse().unwrap(), API6.parse().unwrap()],
            place: Place::Elsewhere,
            guard: GUARD.to_owned(),
            aliases: Vec::new(),
            relays: vec!["192.0.2.50:8080".parse().unwrap()],
            kubelets: vec!["192.0.2.7:10250".parse().unwrap()],
            other_clusters: vec!["203.0.113.1:443".parse().unwrap()],
            witness: witness.local_addr().ok(),
            abstract_socket: Some(ABSTRACT.to_owned()),
            unconnected_fd: None,
            connected_fd: None,
            older: false,
            credentials: Vec::new(),
            cgroup2: Some(cgroups::mount().unwrap()),
            patience_ms: 0,
        };
        let outside = node.far.run(|| {
            let name = UnixAddr::from_abstract_name(ABSTRACT).unwrap();
            UnixListener::bind_addr(&name).unwrap()
        });
        Self {
            node,
            plan,
            _outside: outside,
            _barrier: barrier,
            _servers: [api, guard],
            _witness: witness,
        }
    }

    /// What processes of the pod find, on these routes or on all.
    fn answers(&self, who: Who, profile: Profile, only: &[&str], patience: Duration) -> Vec<Answer> {
        let (unconnected, connected) = handed_on(patience);
        let plan = Plan {
            unconnected_fd: Some(unconnected.as_raw_fd()),
            connected_fd: Some(connected.as_raw_fd()),
            only: only.iter().map(|id| (*id).to_owned()).collect(),
            patience_ms: patience.as_millis().try_into().unwrap(),
            ..self.plan.clone()
        };
        let inside = this_test("pods::inside");
        let script = "echo 0 > \"$1\" && shift && exec \"$@\"";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(self.node.folder(who).join("cgroup.procs"))
            .arg(inside.get_program())
            .args(inside.get_args())
            .env("PROFILE", profile.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let plan = serde_json::to_string(&plan).unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{plan}").unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // What the test harness of the child has said before comes first, the last of it in the same line.
        let answers = stdout.lines().map(Result::unwrap).filter_map(|line| {
            let answer = &line[line.find('{')?..];
            Some(serde_json::from_str(answer).unwrap())
        });
        let answers = answers.collect();
        child.wait().unwrap();
        answers
    }

    fn assert_all(&self, profile: Profile, ids: &[&str], expected: &str) {
        let patience = if expected == "BLOCKED" { SHORT } else { PATIENCE };
        let answers = self.answers(Who::Agent, profile, ids, patience);
        let tried: BTreeSet<&str> = answers.iter().map(|answer| answer.id.as_str()).collect();
        assert_eq!(tried, ids.iter().copied().collect());
        for answer in answers {
            assert_eq!(answer.result.word(), expected, "{profile}: {answer:?}");
            let named = format!(" {} reached", answer.id);
            let problems = ProfileReport::new(Boundary::Pod, profile.name(), &[answer], &[]).problems();
            let is_named = problems.iter().any(|problem| problem.contains(&named));
            assert_eq!(is_named, expected == "REACHED", "{problems:?}");
        }
    }
}

/// Sockets made in the pod's network by a process that is not in its cgroup: one as it is, one that connects.
fn handed_on(patience: Duration) -> (OwnedFd, OwnedFd) {
    let api: SocketAddr = API.parse().unwrap();
    let sockets = [(); 2].map(|()| socket(AddressFamily::INET, SocketType::STREAM, None).unwrap());
    ioctl_fionbio(&sockets[1], true).unwrap();
    // In progress, for ever where the wire is guarded.
    connect(&sockets[1], &api).ok();
    ioctl_fionbio(&sockets[1], false).unwrap();
    let [unconnected, connected] = sockets.map(|socket| {
        for timeout in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&socket, timeout, Some(patience)).unwrap();
        }
        let copy = fcntl_dupfd_cloexec(socket, 200).unwrap();
        fcntl_setfd(&copy, FdFlags::empty()).unwrap();
        copy
    });
    (unconnected, connected)
}

/// Not a test of its own: makes what a container has of its own, and starts the next one in there.
#[test]
#[ignore = "started by the other tests"]
fn inside() {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for hidden in HIDDEN.iter().filter(|hidden| Path::new(hidden).exists()) {
        mount(Some("none"), *hidden, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    let cgroups = cgroups::mount().unwrap();
    mount(Some(&cgroups), &cgroups, none, MsFlags::MS_BIND, none).unwrap();
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, &cgroups, none, read_only, none).unwrap();
    this_test("pods::first_process").status().unwrap();
}

/// Not a test of its own: becomes the probe under a profile.
#[test]
#[ignore = "started by the other tests"]
fn first_process() {
    let none: Option<&str> = None;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).unwrap();
    let profile = std::env::var_os("PROFILE").unwrap().into_string().unwrap();
    let profile: Profile = profile.parse().unwrap();
    profile.take().unwrap();
    let error = Command::new(programs::probe().unwrap()).arg("suite").exec();
    panic!("the probe was not executed: {error}");
}

fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", name]);
    command
}

/// What was found in one network.
type Found = Vec<(Profile, Vec<Answer>)>;

#[test]
fn every_route_is_closed_under_every_profile_and_the_page_says_so() {
    // Each thread is in a network of its own: the pod's, the node's, and one whose process is no agent's.
    let (pod, node, without) = thread::scope(|scope| {
        let pod = scope.spawn(|| tried(Wire::Guarded, Boundary::Pod, Who::Agent, &OWN_NETWORK));
        let node = scope.spawn(|| {
            // Nobody guards the node's own cable.
            tried(
                Wire::Open,
                Boundary::HostNetworkPod,
                Who::Agent,
                &[Profile::HostNetwork],
            )
        });
        let without = scope.spawn(|| tried(Wire::Open, Boundary::Pod, Who::Ordinary, &[Profile::NetAdmin]));
        let [pod, node, without] = [pod, node, without].map(|thread| thread.join().unwrap());
        (pod, node, without)
    });
    let [(_, without)] = without.as_slice() else {
        panic!("one profile was tried")
    };
    let report = |boundary, (profile, answers): &(Profile, Vec<Answer>)| {
        ProfileReport::new(boundary, profile.name(), answers, without)
    };
    let pod = pod.iter().map(|found| report(Boundary::Pod, found));
    let node = node.iter().map(|found| report(Boundary::HostNetworkPod, found));
    let reports: Vec<ProfileReport> = pod.chain(node).collect();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let columns = reports
        .iter()
        .map(|report| Column::tried(POD, report, &release).unwrap());
    let columns: Vec<Column> = columns.collect();
    matrix::record("pods", &columns).unwrap();
    for id in OPEN_WITHOUT {
        let answer = without.iter().find(|answer| answer.id == id).unwrap();
        assert_eq!(
            answer.result.word(),
            "REACHED",
            "without the boundary: {answer:?}"
        );
    }
    let problems: Vec<String> = reports.iter().flat_map(ProfileReport::problems).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    // A guest has no page: who has started it compares.
    if programs::workspace().exists() {
        page::is_up_to_date("pods", &columns, OtherKernel::Passed).unwrap();
    }
}

/// Every route under each profile, all at the same time, in a world of its own.
fn tried(wire: Wire, boundary: Boundary, who: Who, profiles: &[Profile]) -> Found {
    let mut ground = Ground::new(&[], wire);
    ground.plan.boundary = boundary;
    let ground = &ground;
    thread::scope(|scope| {
        let started: Vec<_> = profiles
            .iter()
            .map(|profile| {
                (
                    *profile,
                    scope.spawn(|| ground.answers(who, *profile, &[], ENOUGH)),
                )
            })
            .collect();
        let joined = started
            .into_iter()
            .map(|(profile, thread)| (profile, thread.join().unwrap()));
        joined.collect()
    })
}

/// TCP that the connect hooks send to the guard.
const TCP: [&str; 4] = ["N01", "N03", "N06", "N20"];
/// What only the wire sees.
const WIRE_ONLY: [&str; 5] = ["P02", "P03", "P04", "N17", "N18"];

#[test]
fn without_the_wire_frames_and_handed_sockets_reach_the_api_server() {
    let ground = Ground::new(&[], Wire::Open);
    ground.assert_all(Profile::NetRaw, &WIRE_ONLY, "REACHED");
    ground.assert_all(Profile::NetRaw, &TCP, "REDIRECTED");
    ground.assert_all(Profile::NetRaw, &["N10", "P01"], "BLOCKED");
}

#[test]
fn without_the_connect_hooks_the_guard_answers_nobody_and_the_report_fails() {
    let ground = Ground::new(&CONNECT, Wire::Open);
    // The packet filter of the cgroup holds alone.
    ground.assert_all(Profile::Restricted, &TCP, "BLOCKED");
    let answers = ground.answers(Who::Agent, Profile::Restricted, &["N01"], SHORT);
    let problems = ProfileReport::new(Boundary::Pod, "p", &answers, &[]).problems();
    assert!(
        problems.iter().any(|problem| problem.contains("neither N01")),
        "{problems:?}"
    );
}

#[test]
fn without_the_connect_hooks_and_the_packet_filter_the_wire_holds_alone() {
    const BOTH: [&str; 3] = [CONNECT[0], CONNECT[1], "egress"];
    let ground = Ground::new(&BOTH, Wire::Guarded);
    ground.assert_all(Profile::Restricted, &TCP, "BLOCKED");
    let ground = Ground::new(&BOTH, Wire::Open);
    ground.assert_all(Profile::Restricted, &TCP, "REACHED");
}

#[test]
fn without_the_socket_hooks_and_the_packet_filter_everything_else_leaves() {
    const ALL: [&str; 4] = ["sendmsg4", "sendmsg6", "sock_create", "egress"];
    let ground = Ground::new(&ALL, Wire::Open);
    ground.assert_all(Profile::NetRaw, &["N10", "N11", "P01"], "REACHED");
    // What the connect hooks see still goes to the guard, which knows no flow of it: the packet filter writes them.
    ground.assert_all(Profile::NetRaw, &TCP, "BLOCKED");
}
