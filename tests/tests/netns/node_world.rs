//! A node and one pod's network: the pod's network namespace is the test's, the node's is at the far end of its wire, where
//! every address and some ports answer. Cgroups of all kinds of pods stand below one that is guarded as a node's is.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use eks_guard::ebpf::node::{
    Destination, Egress, ListenerPlace, NodeConfig, NodeLimits, PodEntry, PodKind, Problem, Unknown,
};
use eks_guard::ebpf::{Flow, NodeDatapath, NodeError, NodeRequest, Prefix, RunCgroup, netns_cookie};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rig::netns::ip;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::probe::Probe;
use crate::world::{PATIENCE, Ports, chain, enter_new_network, listen6, run_id, take};

/// Ports on which the node's end answers, on every address.
pub(crate) const PORTS: [u16; 6] = [443, 80, 53, 8080, 10_250, 10_257];
/// The API server.
pub(crate) const API: &str = "192.0.2.1:443";
/// The API server, by IPv6.
pub(crate) const API6: &str = "[2001:db8::a]:443";
/// Both ends of the wire have one address, so that neither needs to find the other.
const MAC: &str = "02:00:00:00:00:01";

/// Ways from the pod over the wire, beside those that every network of a test has.
const NEAR: &str = "\
route add 169.254.0.0/16 dev wire
route add 10.0.0.0/8 dev wire
route add default dev wire
route add 2001:db8:64::/96 dev wire
route add fd00:ec2::/32 dev wire
";
/// The far end: connections from here have an address of their own, the pod is where it is although it lies in one of the
/// prefixes, and everything else answers.
const FAR: &str = "\
link set lo up
addr add 203.0.113.200/32 dev lo
link set far-end up
route add 198.51.100.7/32 dev far-end
route add 2001:db8::7/128 dev far-end table local
route add local 0.0.0.0/1 dev lo
route add local 128.0.0.0/2 dev lo
route add local 192.0.0.0/3 dev lo
route add local 64:ff9b::/96 dev lo
route add local 2001:db8::/32 dev lo
route add local fd00:ec2::/32 dev lo
";

/// First kernel with tcx.
pub(crate) const TCX_SINCE: (u32, u32) = (6, 6);

/// Cgroups of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Agent,
    System,
    Ordinary,
    Unknown,
}

/// Whether the kernel has what a layer of the guard is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Absent,
    Present,
}

/// A guarded node with one agent on it.
pub(crate) struct Node {
    pub(crate) datapath: NodeDatapath,
    pub(crate) guard: Ports,
    pub(crate) far: Far,
    pub(crate) pins: PathBuf,
    pub(crate) cgroup: RunCgroup,
    mounted: Mounted,
}

/// The end of the wire: a network namespace where everything answers.
pub(crate) struct Far {
    netns: File,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// A bpffs that only this thread and what it starts see, gone with them.
struct Mounted(tempfile::TempDir);

impl Node {
    /// An agent with a list of what it may reach, empty so far.
    pub(crate) fn allow_list() -> Self {
        Self::with(Egress::AllowList, NodeLimits::default(), Unknown::NoClasses)
    }

    /// An agent that may reach everything but the classes.
    pub(crate) fn block_list() -> Self {
        Self::with(Egress::BlockList, NodeLimits::default(), Unknown::NoClasses)
    }

    pub(crate) fn with(egress: Egress, limits: NodeLimits, unknown: Unknown) -> Self {
        let mounted = Mounted::private();
        enter_new_network();
        let far = Far::at_the_end_of_the_wire();
        let guard = Ports::bind(0);
        let cgroup = RunCgroup::create(&run_id()).unwrap();
        for who in [Who::Agent, Who::System, Who::Ordinary, Who::Unknown] {
            fs::create_dir(cgroup.path().join(who.folder())).unwrap();
        }
        let pins = mounted.0.path().join("eks-guard");
        let datapath =
            open(&cgroup, &pins, limits, unknown).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let node = Self {
            datapath,
            guard,
            far,
            pins,
            cgroup,
            mounted,
        };
        node.put(Who::Agent, node.agent(egress));
        node.put(Who::System, PodKind::System);
        node.put(Who::Ordinary, PodKind::Ordinary);
        node
    }

    /// Opens what is pinned once more, as a daemon that starts again does.
    pub(crate) fn reopen(&mut self) {
        let reopened = open(
            &self.cgroup,
            &self.pins,
            NodeLimits::default(),
            Unknown::NoClasses,
        );
        self.datapath = reopened.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// The guarded agent.
    pub(crate) fn agent(&self, egress: Egress) -> PodKind {
        PodKind::Agent {
            listener: Some(ListenerPlace {
                port: self.guard.port(),
                netns: self.guard.netns(),
            }),
            egress,
        }
    }

    pub(crate) fn put(&self, who: Who, kind: PodKind) {
        let entry = PodEntry {
            kind,
            addr4: Some(Ipv4Addr::new(198, 51, 100, 7)),
            addr6: Some("2001:db8::7".parse().unwrap()),
        };
        self.datapath.put_pod(self.id(who), &entry).unwrap();
    }

    /// Id of a pod's cgroup.
    pub(crate) fn id(&self, who: Who) -> u64 {
        fs::metadata(self.folder(who)).unwrap().ino()
    }

    pub(crate) fn folder(&self, who: Who) -> PathBuf {
        self.cgroup.path().join(who.folder())
    }

    pub(crate) fn probe(&self, who: Who, what: &str) -> Probe {
        Probe::start(Some(&self.folder(who).join("cgroup.procs")), what)
    }

    /// A connection reaches the far end.
    pub(crate) fn assert_reaches(&self, who: Who, to: &str) {
        let probe = self.probe(who, &format!("tcp {to}"));
        self.far.answer();
        let line = probe.finish();
        assert!(line.ends_with("answer far"), "{who:?} {to}: {line}");
    }

    /// What is refused at once, and nothing of it arrives.
    pub(crate) fn assert_refused(&self, who: Who, what: &str) {
        assert_eq!(
            self.probe(who, what).finish(),
            "error ECONNREFUSED",
            "{who:?} {what}"
        );
        self.far.assert_untouched(what);
    }

    /// The agent reaches the guard; the flow it has there.
    pub(crate) fn assert_redirected(&self, what: &str) -> Flow {
        let probe = self.probe(Who::Agent, what);
        let (stream, peer) = self.guard.accept();
        let flows = self.datapath.flow_table(netns_cookie(&stream).unwrap());
        let flow = take(&*flows, &stream, peer);
        answer(stream, "guard");
        let line = probe.finish();
        assert!(line.ends_with("answer guard"), "{what}: {line}");
        self.far.assert_untouched(what);
        flow.unwrap_or_else(|| panic!("{what}: no flow"))
    }

    /// The one folder of pins: that of the present map ABI.
    pub(crate) fn abi_pins(&self) -> PathBuf {
        let mut folders = fs::read_dir(&self.pins)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let own = folders.next().unwrap();
        assert_eq!(folders.next(), None);
        own
    }

    /// Lets the bpffs take no pin any more; those that are there stay.
    pub(crate) fn take_no_pins(&self) {
        let (none, path): (Option<&str>, _) = (None, self.mounted.0.path());
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(none, path, none, flags, none).unwrap();
    }

    /// Takes the bpffs away, and every pin with it.
    pub(crate) fn unmount(&self) {
        nix::mount::umount2(self.mounted.0.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }

    /// Index of the node's end of the wire.
    pub(crate) fn ifindex(&self) -> u32 {
        self.far.run(|| nix::net::if_::if_nametoindex("far-end").unwrap())
    }

    /// Closes the node's end of the wire to what the agent must not reach, on a kernel with tcx. One without must say so,
    /// then and whenever it is asked, or a node would believe in a layer that is not there; what the layer stops is then not
    /// to be tested.
    pub(crate) fn guard_wire(&self) -> Layer {
        let (ifindex, id) = (self.ifindex(), self.id(Who::Agent));
        let guarded = self.far.run(|| self.datapath.guard_interface(ifindex, id));
        if kernel() >= TCX_SINCE {
            guarded.unwrap_or_else(|error| panic!("{}", chain(&error)));
            return Layer::Present;
        }
        assert!(matches!(guarded, Err(NodeError::NoTcx)), "{guarded:?}");
        let faults = self.far.run(|| self.datapath.verify_attached(&[]).unwrap());
        let faults: Vec<_> = faults
            .iter()
            .map(|fault| (fault.ifindex, fault.problem))
            .collect();
        assert_eq!(faults, [(Some(ifindex), Problem::NotPinned)]);
        Layer::Absent
    }
}

impl Who {
    fn folder(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::System => "system",
            Self::Ordinary => "ordinary",
            Self::Unknown => "unknown",
        }
    }
}

impl Far {
    /// Moves the far end of this thread's wire to a new network namespace, and lets all addresses answer there.
    fn at_the_end_of_the_wire() -> Self {
        let netns = thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            });
            made.join().unwrap()
        });
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        ip(&format!(
            "link set wire arp off\nlink set wire address {MAC}\nlink set far-end netns {path}\n{NEAR}"
        ))
        .unwrap();
        let mut far = Self {
            netns,
            tcp: Vec::new(),
            udp: Vec::new(),
        };
        let (tcp, udp) = far.run(|| {
            ip(&format!(
                "link set far-end arp off\nlink set far-end address {MAC}\n{FAR}"
            ))
            .unwrap();
            (
                PORTS
                    .iter()
                    .flat_map(|port| {
                        [
                            TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).unwrap(),
                            listen6(Ipv6Addr::UNSPECIFIED, *port),
                        ]
                    })
                    .collect(),
                PORTS
                    .iter()
                    .map(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port)).unwrap())
                    .collect(),
            )
        });
        far.tcp = tcp;
        far.udp = udp;
        far
    }

    /// Does something in the network namespace of the node.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(self.netns.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            done.join().unwrap()
        })
    }

    /// Second handles of those that listen on a port.
    pub(crate) fn listeners(&self, port: u16) -> Vec<TcpListener> {
        let of_port = self
            .tcp
            .iter()
            .filter(|listener| listener.local_addr().unwrap().port() == port);
        of_port.map(|listener| listener.try_clone().unwrap()).collect()
    }

    /// Answers the next connection.
    pub(crate) fn answer(&self) {
        let at = self.wait(PATIENCE).expect("nothing arrived");
        answer(self.tcp[at].accept().unwrap().0, "far");
    }

    /// The next datagram.
    pub(crate) fn datagram(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2048];
        let at = self.wait(PATIENCE).expect("nothing arrived");
        let socket = &self.udp[at - self.tcp.len()];
        let length = socket.recv(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// Nothing has arrived.
    pub(crate) fn assert_untouched(&self, what: &str) {
        assert_eq!(self.wait(Duration::ZERO), None, "{what}: something arrived");
    }

    fn wait(&self, patience: Duration) -> Option<usize> {
        let fds = self
            .tcp
            .iter()
            .map(AsFd::as_fd)
            .chain(self.udp.iter().map(AsFd::as_fd));
        let mut polled: Vec<PollFd<'_>> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        rustix::event::poll(&mut polled, Some(&Timespec::try_from(patience).unwrap())).unwrap();
        polled.iter().position(|fd| !fd.revents().is_empty())
    }
}

impl Mounted {
    fn private() -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The folder below can be removed only then.
        let _gone_with_the_thread = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// What agents must not reach in these tests.
pub(crate) fn destinations() -> Vec<Destination> {
    let host = |text: &str| Prefix::host(text.parse().unwrap());
    let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
    vec![
        Destination::Api(socket(API)),
        Destination::Api(socket(API6)),
        Destination::Imds(host("169.254.169.254")),
        Destination::Imds(host("fd00:ec2::254")),
        Destination::PodIdentity(host("169.254.170.23")),
        Destination::Kubelet {
            nodes: host("192.0.2.7"),
            ports: (10_248, 10_259),
        },
        Destination::OtherCluster(Prefix::new("203.0.113.0".parse().unwrap(), 28).unwrap()),
    ]
}

fn open(
    cgroup: &RunCgroup,
    pins: &Path,
    limits: NodeLimits,
    unknown: Unknown,
) -> Result<NodeDatapath, NodeError> {
    let config = NodeConfig {
        levels: (1..=8).collect(),
        unknown,
        nat64: vec!["2001:db8:64::".parse().unwrap()],
    };
    NodeDatapath::open(&NodeRequest {
        cgroup: cgroup.path(),
        pins,
        destinations: &destinations(),
        config: &config,
        limits,
    })
}

fn answer(mut stream: std::net::TcpStream, line: &str) {
    writeln!(stream, "{line}").unwrap();
}

/// Version of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
