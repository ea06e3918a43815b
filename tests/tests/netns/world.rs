//! A test's own world: network namespace, guarded cgroup, loaded programs, the guard's listener, an API server.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use eks_guard::ebpf::{
    Datapath, Downstream, Flow, FlowTable, Limits, LoadRequest, RunCgroup, keep_syns, remove_leftovers,
};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::probe::Probe;

/// Port of the API server; each world has its own network, so it is free.
pub(crate) const API_PORT: u16 = 6443;
/// Addresses of this host beside loopback.
pub(crate) const OWN_V4: &str = "198.51.100.7";
/// As [`OWN_V4`].
pub(crate) const OWN_V6: &str = "2001:db8::7";
/// How long a test waits for what must happen at once: at once may be long on an emulated or a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which side of the boundary a process runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// In the guarded cgroup.
    Inside,
    /// In a child of the guarded cgroup.
    Nested,
    /// Wherever the test runs.
    Outside,
}

/// Everything one test needs; dropping it leaves nothing behind.
pub(crate) struct World {
    pub(crate) datapath: Datapath,
    pub(crate) cgroup: RunCgroup,
    pub(crate) guard: Ports,
    pub(crate) api: Ports,
    flows: Arc<dyn FlowTable>,
}

/// One port on both address families.
pub(crate) struct Ports {
    v4: TcpListener,
    v6: TcpListener,
}

/// An accepted connection, and what the flow table says about it.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) downstream: Downstream,
    pub(crate) flow: Option<Flow>,
}

impl World {
    /// The API server is on this host, on every address of it.
    pub(crate) fn local() -> Self {
        Self::new(
            &[SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))],
            Limits::default(),
        )
    }

    /// The API server is elsewhere, at these addresses.
    pub(crate) fn remote(api: &[&str]) -> Self {
        let api: Vec<SocketAddr> = api.iter().map(|text| text.parse().unwrap()).collect();
        Self::new(&api, Limits::default())
    }

    /// As [`World::local`], with room for so many flows.
    pub(crate) fn with_flows(flows: u32) -> Self {
        Self::new(
            &[SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))],
            Limits {
                flows,
                ..Limits::default()
            },
        )
    }

    /// As [`World::local`], with maps that say to be of this version.
    pub(crate) fn with_abi(abi: u32) -> Self {
        Self::new(
            &[SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))],
            Limits {
                abi,
                ..Limits::default()
            },
        )
    }

    /// The API server is at these addresses, and a probe has stood in the cgroup since before it was guarded: it has said
    /// its first line.
    pub(crate) fn around(api: &[&str], what: &str) -> (Self, Probe) {
        let api: Vec<SocketAddr> = api.iter().map(|text| text.parse().unwrap()).collect();
        Self::build(&api, Limits::default(), |cgroup| {
            let mut probe = Probe::start(Some(&cgroup.path().join("cgroup.procs")), what);
            assert_eq!(probe.line(), "ready");
            probe
        })
    }

    fn new(api: &[SocketAddr], limits: Limits) -> Self {
        Self::build(api, limits, |_| ()).0
    }

    fn build<T>(api: &[SocketAddr], limits: Limits, before: impl FnOnce(&RunCgroup) -> T) -> (Self, T) {
        enter_new_network();
        remove_leftovers_of_killed_tests();
        let guard = Ports::bind(0);
        let server = Ports::bind(API_PORT);
        let cgroup = RunCgroup::create(&run_id()).unwrap();
        let before = before(&cgroup);
        let request = LoadRequest {
            cgroup: &cgroup,
            api,
            listener_port: guard.port(),
        };
        let datapath =
            Datapath::load_with(&request, limits).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let flows = datapath.flow_table();
        let world = Self {
            datapath,
            cgroup,
            guard,
            api: server,
            flows,
        };
        (world, before)
    }

    /// Starts a process that does what `what` says (see `probe.rs`).
    pub(crate) fn probe(&self, side: Side, what: &str) -> Probe {
        Probe::start(self.procs(side).as_deref(), what)
    }

    fn procs(&self, side: Side) -> Option<PathBuf> {
        match side {
            Side::Inside => Some(self.cgroup.path().join("cgroup.procs")),
            Side::Nested => {
                let nested = self.cgroup.path().join("nested/deeper");
                fs::create_dir_all(&nested).unwrap();
                Some(nested.join("cgroup.procs"))
            }
            Side::Outside => None,
        }
    }

    /// What the guard's listener does: accept, take the flow.
    pub(crate) fn accept(&self) -> Accepted {
        let (stream, peer) = self.guard.accept();
        let downstream = Downstream::of(&stream, peer).unwrap();
        Accepted {
            stream,
            downstream,
            flow: self.flows.take(downstream),
        }
    }

    /// The flow table, asked once more.
    pub(crate) fn take(&self, downstream: Downstream) -> Option<Flow> {
        self.flows.take(downstream)
    }

    /// A guarded process goes to `dst`, reaches the guard with its destination on record, and believes to be at `dst`.
    pub(crate) fn assert_redirected(&self, side: Side, what: &str, dst: &str, original: &str, peer: &str) {
        let probe = self.probe(side, &format!("{what} {dst}"));
        let accepted = self.accept();
        let flow = accepted.flow.unwrap_or_else(|| panic!("{dst}: no flow"));
        assert_eq!(flow.original_dst.0, original.parse().unwrap(), "{dst}");
        assert_eq!((flow.pid, flow.cgroup), (probe.pid(), self.cgroup.id()), "{dst}");
        assert_eq!(
            self.take(accepted.downstream),
            None,
            "{dst}: the entry is used once"
        );
        accepted.answer("guard");
        assert_eq!(probe.finish(), format!("peer {peer} answer guard"), "{dst}");
        self.assert_api_untouched();
    }

    /// A guarded process is refused at once.
    pub(crate) fn assert_refused(&self, what: &str) {
        assert_eq!(
            self.probe(Side::Inside, what).finish(),
            "error ECONNREFUSED",
            "{what}"
        );
        self.assert_api_untouched();
    }

    /// Nothing has connected to the API server.
    pub(crate) fn assert_api_untouched(&self) {
        assert!(self.api.idle(), "a connection reached the API server");
    }
}

/// What the flow table says about an accepted connection.
pub(crate) fn take(flows: &dyn FlowTable, stream: &TcpStream, peer: SocketAddr) -> Option<Flow> {
    flows.take(Downstream::of(stream, peer)?)
}

impl Accepted {
    /// Writes one line, and closes once the other side has: closing over unread bytes would reset the connection.
    pub(crate) fn answer(mut self, line: &str) {
        writeln!(self.stream, "{line}").unwrap();
        self.stream.shutdown(Shutdown::Write).unwrap();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

impl Ports {
    /// The same port on every address of both families.
    pub(crate) fn bind(port: u16) -> Self {
        // Loopback for the guard's own port, as in production; all addresses for the others.
        let (any4, any6) = if port == 0 {
            (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
        } else {
            (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
        };
        let v6 = listen6(any6, port);
        let port = v6.local_addr().unwrap().port();
        let v4 = TcpListener::bind((any4, port)).unwrap();
        keep_syns(&v4).unwrap();
        keep_syns(&v6).unwrap();
        Self { v4, v6 }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.v6.local_addr().unwrap().port()
    }

    /// Second handles of both.
    pub(crate) fn listeners(&self) -> Vec<TcpListener> {
        [&self.v4, &self.v6]
            .map(|listener| listener.try_clone().unwrap())
            .into()
    }

    /// Waits for a connection.
    pub(crate) fn accept(&self) -> (TcpStream, SocketAddr) {
        assert!(self.ready(PATIENCE), "nothing connected to port {}", self.port());
        let pending = [&self.v4, &self.v6]
            .into_iter()
            .find(|listener| readable(&[listener], Duration::ZERO));
        pending.unwrap().accept().unwrap()
    }

    /// No connection waits.
    pub(crate) fn idle(&self) -> bool {
        !self.ready(Duration::ZERO)
    }

    fn ready(&self, patience: Duration) -> bool {
        readable(&[&self.v4, &self.v6], patience)
    }
}

fn readable(listeners: &[&TcpListener], patience: Duration) -> bool {
    let mut polled: Vec<PollFd<'_>> = listeners
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::IN))
        .collect();
    rustix::event::poll(&mut polled, Some(&Timespec::try_from(patience).unwrap())).unwrap() > 0
}

pub(crate) fn listen6(addr: Ipv6Addr, port: u16) -> TcpListener {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    // Not for the processes that other tests start: a listener is gone when its test drops it.
    let fd = socket_with(
        AddressFamily::INET6,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    sockopt::set_ipv6_v6only(&fd, true).unwrap();
    bind(&fd, &SocketAddr::new(IpAddr::V6(addr), port)).unwrap();
    listen(&fd, 64).unwrap();
    TcpListener::from(fd)
}

/// Moves this thread, and the processes it starts, to a network of its own.
pub(crate) fn enter_new_network() {
    rig::netns::enter_new().unwrap();
}

/// A name that no other test, and no other run of the tests, uses.
pub(crate) fn run_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A test that was killed could not clean up.
fn remove_leftovers_of_killed_tests() {
    let is_alive = |name: &str| match name.strip_prefix("test-").and_then(|rest| rest.split_once('-')) {
        Some((pid, _)) => Path::new("/proc").join(pid).exists(),
        None => true,
    };
    remove_leftovers(is_alive);
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
