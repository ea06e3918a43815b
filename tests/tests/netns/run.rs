//! `eks-guard run` in front of a stand-in for the API server, so that every kernel of the matrix can try it: each route of the
//! catalogue under both profiles, and what is left of the boundary when its guard is killed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eks_guard::run::scope::Scopes;
use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Place, Plan};
use eks_guard_core::catalogue::report::Report;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rig::kubeconfig::{Credential, Kubeconfig};
use rig::matrix::page::{self, OtherKernel};
use rig::matrix::{self, Column, RUN};
use rig::workdir::Workdir;
use rig::{leash, netns, programs};
use rustix::process::{Pid, Signal, kill_process};

use crate::catalogue::{Admits, Server};
use crate::world::API_PORT;

/// What leads out without the boundary, for an ordinary user, on every kernel.
const OPEN_WITHOUT: [&str; 16] = [
    "N01", "N03", "N05", "N06", "N07", "N08", "N09", "N10", "N11", "N17", "N18", "N20", "N21", "N30", "P11",
    "L01",
];
/// By whom the certificate of a run's guard is issued.
const GUARD: &str = "eks-guard run CA";
/// The user of the command.
const NOBODY: u32 = 65_534;
/// Where a kernel tells its own types. Guests hide them from whom they only cost time.
const TYPES: &str = "/sys/kernel/btf";

/// An operator with a kubeconfig, on a network with nothing but an API server.
struct Ground {
    folder: Workdir,
    /// Connections that the API server has taken.
    taken: Arc<AtomicUsize>,
    _server: Server,
}

impl Ground {
    /// This thread's, and that of the processes that it starts.
    fn new() -> Self {
        netns::enter_new_without_wire().unwrap();
        show_types();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, API_PORT)).unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let everybody: Admits = Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            true
        });
        let server = Server::start(vec![listener], "authority of the API server", &everybody);
        let kubeconfig = Kubeconfig {
            server: format!("https://{}", api()),
            ca: server.ca.clone(),
            context: "stand-in".to_owned(),
            namespace: None,
            credential: Credential::Token("of-the-operator".to_owned()),
        };
        let folder = Workdir::create().unwrap();
        folder.write("kubeconfig", kubeconfig.render()).unwrap();
        Self {
            folder,
            taken,
            _server: server,
        }
    }

    /// As `nobody`; to be started by this thread.
    fn eks_guard(&self, args: &[&str]) -> Command {
        let mut command = leash::hold(&programs::eks_guard().unwrap()).unwrap();
        let home = self.folder.path();
        command
            .args(args)
            .args(["--kubeconfig", "kubeconfig", "--user", "nobody"]);
        command.current_dir(home).env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", home)
            .env("EKS_GUARD_STATE_DIR", home.join("state"));
        command
    }
}

fn api() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, API_PORT).into()
}

/// For this thread, and the processes that it starts.
pub(crate) fn show_types() {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // Nothing is mounted there where nobody hides them.
    umount2(TYPES, MntFlags::empty()).ok();
}

#[test]
fn every_route_is_closed_under_every_profile_and_the_page_says_so() {
    let ground = Ground::new();
    let mut verify = ground.eks_guard(&["verify", "--run", "-o", "json"]);
    verify.arg("--probe").arg(programs::probe().unwrap());
    let output = verify.output().unwrap();
    let statement: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let report: Report = serde_json::from_value(statement["predicate"]["report"].clone()).unwrap();
    let profiles = ["restricted", "root"].map(|name| {
        let profile = report.profiles.iter().find(|profile| profile.name == name);
        profile.unwrap()
    });
    let columns = profiles.map(|profile| Column::tried(RUN, profile, &report.facts.kernel).unwrap());
    matrix::record("run", &columns).unwrap();
    for profile in profiles {
        for id in OPEN_WITHOUT {
            let row = profile.rows.iter().find(|row| row.id == id).unwrap();
            let without = row.unguarded.as_ref().unwrap();
            assert_eq!(without.result.word(), "REACHED", "without the boundary: {row:?}");
        }
    }
    let problems = report.problems();
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A guest has no page: who has started it compares.
    if programs::workspace().exists() {
        page::is_up_to_date("run", &columns, OtherKernel::Passed).unwrap();
    }
}

/// A probe of one row as the command of a run, twice.
struct Tried {
    guard: Child,
    plans: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Tried {
    fn start(ground: &Ground, id: &str) -> Self {
        let mut run = ground.eks_guard(&["run", "--quiet"]);
        run.args(["--", "sh", "-c", "\"$1\" \"$2\"; exec \"$1\" \"$2\"", "sh"]);
        run.arg(programs::probe().unwrap()).arg(id);
        let mut guard = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(guard.stdout.take().unwrap());
        let plans = guard.stdin.take().unwrap();
        Self {
            guard,
            plans,
            answers,
        }
    }

    fn next(&mut self, plan: &str) -> Answer {
        writeln!(self.plans, "{plan}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn a_killed_guard_leaves_its_tree_shut_out_and_the_next_one_starts() {
    let ground = Ground::new();
    let plan = Plan {
        boundary: Boundary::Run,
        only: Vec::new(),
        api: vec![api()],
        place: Place::ThisHost,
        guard: GUARD.to_owned(),
        aliases: Vec::new(),
        relays: Vec::new(),
        kubelets: Vec::new(),
        other_clusters: Vec::new(),
        witness: None,
        abstract_socket: None,
        unconnected_fd: None,
        connected_fd: None,
        older: false,
        credentials: Vec::new(),
        cgroup2: None,
        patience_ms: 30_000,
    };
    let plan = serde_json::to_string(&plan).unwrap();
    let mut tried = Tried::start(&ground, "N01");
    let answer = tried.next(&plan);
    assert_eq!(answer.result.word(), "REDIRECTED", "{answer:?}");
    kill_process(Pid::from_child(&tried.guard), Signal::KILL).unwrap();
    tried.guard.wait().ok();
    let taken = ground.taken.load(Ordering::SeqCst);
    assert!(taken > 0, "the guard has asked for the version");
    let answer = tried.next(&plan);
    assert_eq!(answer.result.word(), "BLOCKED", "{answer:?}");
    assert_eq!(
        ground.taken.load(Ordering::SeqCst),
        taken,
        "nothing reached the API server"
    );
    // It removes what the killed one has left, too.
    let mut next = ground.eks_guard(&["run", "--quiet"]);
    let output = next.args(["--", "sh", "-c", ":"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A kernel with Landlock scopes keeps the command from it. Before them nothing does, and the start says so.
#[test]
fn the_own_process_group_is_out_of_reach_of_signals_or_the_start_warns() {
    const CATCH_AND_SEND: &str = "trap '' USR1; read go; kill -s USR1 0";
    let ground = Ground::new();
    let mut run = ground.eks_guard(&["run", "--quiet"]);
    run.args(["--", "sh", "-c", CATCH_AND_SEND]);
    let mut guard = run.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The rest of a pipeline: the same user's, in the process group that the guard was started in, and outside.
    let mut beside = Command::new("cat");
    beside
        .uid(NOBODY)
        .gid(NOBODY)
        .process_group(guard.id().cast_signed());
    let mut beside = beside.stdin(Stdio::piped()).spawn().unwrap();
    guard.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = guard.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    // It ends with its input, unless a signal was faster.
    drop(beside.stdin.take());
    let signal = beside.wait().unwrap().signal();
    match Scopes::of_kernel() {
        Scopes::Required => assert_eq!(signal, None, "{said}"),
        Scopes::Unsupported => {
            assert_eq!(signal, Some(Signal::USR1.as_raw()));
            assert!(
                said.contains("signalling programs outside that are in its process group"),
                "{said}"
            );
        }
    }
}
