//! One pod's network and what is at the far end of its cable, and two trees of cgroups: one that is guarded as a node's is, one
//! of the same shape that is not. A process goes from one to the other and stays in the network: nothing else differs.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use eks_guard::ebpf::node::{
    AllowEntry, Destination, Egress, NodeConfig, NodeLimits, PodEntry, PodKind, Unknown,
};
use eks_guard::ebpf::{Downstream, FlowTable, NodeDatapath, NodeRequest, Prefix, keep_syns, netns_cookie};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rig::netns::Netns;
use rig::{cgroups, leash};
use tempfile::TempDir;

use crate::worker::{Worker, run_on};

/// The API server, and the guard's listener stands in for it.
pub(crate) const API: [&str; 2] = ["192.0.2.1:443", "[2001:db8::a]:443"];
/// Somebody else, whom the agent's list names.
pub(crate) const PEER: [&str; 2] = ["192.0.2.2:8080", "[2001:db8::b]:8080"];
/// Reads whatever is sent.
pub(crate) const SINK: &str = "192.0.2.2:9000";
/// Datagrams that nobody reads.
pub(crate) const DATAGRAMS: &str = "192.0.2.2:9001";

/// As many of each as a large node has.
const PODS: u64 = 250;
const CLASSED: u8 = 200;
const ALLOWED: u8 = 50;

/// Levels of the two places where pods stand below the cgroup2 root, in the order of the daemon.
const LEVELS: [u32; 2] = [5, 4];
/// The second of them, and a container's below.
const POD: &str = "kubepods/burstable";
const CONTAINER: &str = "container";

const BACKLOG: i32 = 4096;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whose connections are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// In the tree without a guard.
    Bare,
    /// Beside the agent.
    Ordinary,
    /// With a list of what it may reach.
    Agent,
}

impl Who {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Ordinary, Self::Agent];
}

/// Everything; nothing is left of it.
pub(crate) struct World {
    pub(crate) datapath: NodeDatapath,
    pub(crate) pins: PathBuf,
    /// Flow entries that the listener found.
    pub(crate) taken: Arc<AtomicUsize>,
    /// Connections that it accepted.
    pub(crate) accepted: Arc<AtomicUsize>,
    _mounted: Mounted,
    tree: Tree,
    pod: Netns,
    far: Netns,
}

impl World {
    /// Call it on a process's first thread, before others: it makes a mount namespace of its own.
    pub(crate) fn create() -> Result<Self> {
        let mounted = Mounted::private()?;
        let tree = Tree::create()?;
        let (pod, far) = (Netns::create()?, Netns::create()?);
        join(&pod, &far)?;
        far.enter(serve_far)?;
        let (taken, accepted) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let listeners = pod.enter(listen_in_pod)?;
        let port = listeners[0].local_addr()?.port();
        let pins = mounted.0.path().join("eks-guard");
        let datapath = NodeDatapath::open(&NodeRequest {
            cgroup: &tree.root.join("guarded/kubepods"),
            pins: &pins,
            destinations: &destinations()?,
            config: &NodeConfig {
                levels: LEVELS.into(),
                unknown: Unknown::NoClasses,
                nat64: Vec::new(),
            },
            limits: NodeLimits::default(),
        })?;
        let world = Self {
            datapath,
            pins,
            taken,
            accepted,
            _mounted: mounted,
            tree,
            pod,
            far,
        };
        world.classify(port)?;
        for listener in listeners {
            let flows = world.datapath.flow_table(netns_cookie(&listener)?);
            let (taken, accepted) = (Arc::clone(&world.taken), Arc::clone(&world.accepted));
            thread::spawn(move || accept(&listener, &*flows, &taken, &accepted));
        }
        Ok(world)
    }

    /// A process in the pod's network.
    pub(crate) fn worker(&self) -> Result<Worker> {
        Worker::start(&self.tree.pod(Who::Bare).join(CONTAINER), &self.pod.path())
    }

    /// Makes the process that of another pod: the node's end of the cable is closed for the agent only.
    pub(crate) fn turn_to(&self, worker: &Worker, who: Who) -> Result<()> {
        let procs = self.tree.pod(who).join(CONTAINER).join("cgroup.procs");
        fs::write(procs, worker.id().to_string()).context("moving the worker")?;
        self.far.enter(|| {
            let index = nix::net::if_::if_nametoindex("cable")?;
            match who {
                Who::Agent => self.datapath.guard_interface(index, self.id(who)?)?,
                Who::Bare | Who::Ordinary => self.datapath.unguard_interface(index)?,
            }
            Ok(())
        })
    }

    fn classify(&self, listener_port: u16) -> Result<()> {
        let entry = |kind| PodEntry {
            kind,
            addr4: Some([10, 90, 0, 2].into()),
            addr6: None,
        };
        // Ids that no cgroup has: neighbours in the table.
        for id in 0..PODS {
            self.datapath.put_pod((1 << 40) + id, &entry(PodKind::Ordinary))?;
        }
        let agent = PodKind::Agent {
            listener_port,
            egress: Egress::AllowList,
        };
        for (who, kind) in [(Who::Ordinary, PodKind::Ordinary), (Who::Agent, agent)] {
            self.datapath.put_pod(self.id(who)?, &entry(kind))?;
        }
        self.datapath.set_allowed(self.id(Who::Agent)?, &allowed()?)?;
        Ok(())
    }

    fn id(&self, who: Who) -> Result<u64> {
        Ok(fs::metadata(self.tree.pod(who))?.ino())
    }
}

fn destinations() -> Result<Vec<Destination>> {
    let mut all = vec![
        Destination::Imds(Prefix::host([169, 254, 169, 254].into())),
        Destination::PodIdentity(Prefix::host([169, 254, 170, 23].into())),
    ];
    for api in API {
        all.push(Destination::Api(api.parse()?));
    }
    for number in 0..CLASSED {
        all.push(kubelet([198, 51, 100, number].into()));
        let v6: std::net::Ipv6Addr = format!("2001:db8:1::{number:x}").parse()?;
        all.push(kubelet(v6.into()));
    }
    Ok(all)
}

fn allowed() -> Result<Vec<AllowEntry>> {
    let entry = |socket: SocketAddr, protocol| AllowEntry {
        prefix: Prefix::host(socket.ip()),
        protocol: Some(protocol),
        port: Some(socket.port()),
        opens: None,
    };
    let mut all: Vec<AllowEntry> = (0..ALLOWED)
        .map(|number| entry(SocketAddr::from(([203, 0, 113, number], 443)), TCP))
        .collect();
    for peer in PEER {
        all.push(entry(peer.parse()?, TCP));
    }
    all.push(entry(SINK.parse()?, TCP));
    all.push(entry(DATAGRAMS.parse()?, UDP));
    Ok(all)
}

fn join(pod: &Netns, far: &Netns) -> Result<()> {
    far.ip(&format!(
        "link add cable type veth peer name eth0 netns {}\nlink set cable up\n\
         addr add 10.90.0.1/24 dev cable\naddr add fd00:90::1/64 dev cable\n\
         addr add 192.0.2.1 dev lo\naddr add 192.0.2.2 dev lo\n\
         addr add 2001:db8::a dev lo\naddr add 2001:db8::b dev lo\n",
        pod.path().display()
    ))?;
    pod.ip(
        "link set eth0 up\naddr add 10.90.0.2/24 dev eth0\naddr add fd00:90::2/64 dev eth0\n\
         route add default via 10.90.0.1\nroute add default via fd00:90::1\n",
    )
}

/// The API server and everybody else, who only take and drop.
fn serve_far() -> Result<()> {
    for address in API.iter().chain(&PEER) {
        let listener = listen(address.parse()?)?;
        thread::spawn(move || {
            run_on(1).ok();
            listener.incoming().for_each(drop);
        });
    }
    let sink = listen(SINK.parse()?)?;
    thread::spawn(move || {
        run_on(1).ok();
        for stream in sink.incoming().flatten() {
            swallow(stream);
        }
    });
    // Nobody reads: once it is full the kernel drops what arrives, at the same place for everybody.
    let datagrams = UdpSocket::bind(DATAGRAMS)?;
    std::mem::forget(datagrams);
    Ok(())
}

fn swallow(mut stream: TcpStream) {
    // Its end is the caller's to choose.
    std::io::copy(&mut stream, &mut std::io::sink()).ok();
}

fn listen_in_pod() -> Result<Vec<TcpListener>> {
    let v4 = listen("127.0.0.1:0".parse()?)?;
    let v6 = listen(SocketAddr::new(
        IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        v4.local_addr()?.port(),
    ))?;
    keep_syns(&v4)?;
    keep_syns(&v6)?;
    Ok(vec![v4, v6])
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    // The standard library listens with a short queue; listening again makes it longer.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// What the guard's listener does, up to where it would begin to speak.
fn accept(listener: &TcpListener, flows: &dyn FlowTable, taken: &AtomicUsize, accepted: &AtomicUsize) {
    run_on(1).ok();
    while let Ok((stream, peer)) = listener.accept() {
        let found = Downstream::of(&stream, peer)
            .and_then(|from| flows.take(from))
            .is_some();
        taken.fetch_add(usize::from(found), Ordering::SeqCst);
        accepted.fetch_add(1, Ordering::SeqCst);
    }
}

/// A bpffs that only this process and its children see.
struct Mounted(TempDir);

impl Mounted {
    fn private() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace, which needs root")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).context("mounting a bpffs")?;
        Ok(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It goes with the namespace; the folder below can be removed only then.
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

/// Removed by a process that outlives this one.
struct Tree {
    root: PathBuf,
    sweeper: Child,
}

impl Tree {
    fn create() -> Result<Self> {
        let root = cgroups::mount()?.join(format!("eks-guard-bench-{}", process::id()));
        fs::create_dir(&root).with_context(|| format!("making the cgroup {}", root.display()))?;
        let tree = Self {
            sweeper: leash::sweep_after(&root)?,
            root,
        };
        for who in Who::ALL {
            fs::create_dir_all(tree.pod(who).join(CONTAINER))?;
        }
        Ok(tree)
    }

    fn pod(&self, who: Who) -> PathBuf {
        let (side, name) = match who {
            Who::Bare => ("bare", "pod-bare"),
            Who::Ordinary => ("guarded", "pod-ordinary"),
            Who::Agent => ("guarded", "pod-agent"),
        };
        self.root.join(side).join(Path::new(POD)).join(name)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        self.sweeper.wait().ok();
    }
}

fn kubelet(node: IpAddr) -> Destination {
    Destination::Kubelet {
        nodes: Prefix::host(node),
        ports: (10_248, 10_259),
    }
}
