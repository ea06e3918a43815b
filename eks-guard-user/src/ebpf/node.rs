//! The datapath of a node: programs on the cgroup of all pods and on agents' interfaces, and the maps they judge by. All of
//! it is pinned: whoever opens it again, after a crash or as a newer version, finds everything as it was.

mod allow_list;
mod attachment;
mod destinations;
mod error;
mod exact;
mod interface;
mod pins;
mod pod;
mod remembered;
mod repair;
mod tables;

use std::fs::File;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::EbpfLoader;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use eks_guard_ebpf::{
    ABI_VERSION, Config, MAX_ANCESTOR_LEVELS, MAX_NAT64_PREFIXES, POD_AGENT, Pod, class, limits, unknown,
};

pub use self::allow_list::AllowEntry;
pub use self::attachment::{Fault, Problem};
pub use self::destinations::{Closed, Destination, Infrastructure, closed};
pub use self::error::NodeError;
pub use self::interface::has_tcx;
pub use self::pins::detach;
pub use self::pod::{Egress, ListenerPlace, PodEntry, PodKind};
pub use self::remembered::{Remembered, remembered};
pub use self::repair::Repairs;
pub use crate::ebpf::events::{Events, NodeEvent};

use self::attachment::Attached;
use self::error::map_error;
use self::interface::Wire;
use self::pins::Pins;
use self::tables::{Tables, present};
use crate::ebpf::load_error::LoadError;
use crate::ebpf::object::{self, check_kernel, take_hash, take_map};
use crate::ebpf::original_dst::{FlowTable, KernelFlows};
use crate::ebpf::stats::Stats;

/// Maps that outlive the daemon.
const PINNED: [&str; 13] = [
    "pods",
    "api4",
    "api6",
    "allow4",
    "allow6",
    "exact",
    "links",
    "cfg",
    "sk_redirected",
    "sk_accepted",
    "flows",
    "stats",
    "events",
];

/// What a cgroup that nobody has classified may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Everything but to reach the classes.
    #[default]
    NoClasses,
    /// Everything.
    Pass,
}

/// How the programs tell pods apart, and what they make of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Levels below the cgroup2 root (which is level 0) at which cgroups of pods stand: one to eight.
    pub levels: Vec<u32>,
    /// What a cgroup that nobody has classified may do.
    pub unknown: Unknown,
    /// NAT64 prefixes of 96 bits beside `64:ff9b::/96`: four at most.
    pub nat64: Vec<Ipv6Addr>,
}

/// Sizes of maps that tests fill up, and what they take away. They count when the maps are made, not when they are opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Flows between connect and accept.
    pub flows: u32,
    /// Cgroups on record.
    pub pods: u32,
    /// Interfaces on record.
    pub links: u32,
    /// Classed prefixes, per address family.
    pub prefixes: u32,
    /// Entries of all allow lists together, per address family.
    pub allowed: u32,
    /// Bytes of the ring buffer: a power of two and whole pages.
    pub event_bytes: u32,
    /// Programs of the cgroup that are not attached, so that a test can show what each of them holds.
    pub left_out: &'static [&'static str],
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            flows: limits::FLOWS,
            pods: limits::PODS,
            links: limits::LINKS,
            prefixes: limits::PREFIXES,
            allowed: limits::ALLOWED,
            event_bytes: limits::EVENT_BYTES,
            left_out: &[],
        }
    }
}

/// What to guard, by what, and where it is kept.
#[derive(Clone, Copy, Debug)]
pub struct NodeRequest<'a> {
    /// Folder of the cgroup that all pods are below.
    pub cgroup: &'a Path,
    /// A folder, to be made, on a bpffs.
    pub pins: &'a Path,
    /// What agents must not reach directly; an API server must be among it.
    pub destinations: &'a [Destination],
    /// How pods are told apart.
    pub config: &'a NodeConfig,
    /// Sizes of the maps.
    pub limits: NodeLimits,
}

/// The programs and maps of a node. Dropping it changes nothing about what is guarded, as long as the pins are there.
pub struct NodeDatapath {
    pins: Pins,
    cgroup: OwnedFd,
    cgroup_id: u64,
    attached: Vec<Attached>,
    /// Should the bpffs be unmounted, what is in the maps stays for as long as these.
    maps: Vec<(&'static str, OwnedFd)>,
    wire: Mutex<Wire>,
    nat64: [[u32; 3]; MAX_NAT64_PREFIXES],
    config: Config,
    tables: Mutex<Tables>,
    flows: Arc<MapData>,
    stats: PerCpuArray<MapData, u64>,
    events: Mutex<Option<RingBuf<MapData>>>,
}

impl NodeDatapath {
    /// Loads and attaches everything, or opens what an earlier one has pinned and puts the present programs in its place.
    /// The maps are filled before anything is attached; what agents were on record stays on record.
    ///
    /// # Errors
    /// See [`NodeError`]; what was attached before still is.
    pub fn open(request: &NodeRequest<'_>) -> Result<Self, NodeError> {
        check_kernel()?;
        let config = config(request.config)?;
        let classes = destinations::entries(request.destinations, &config.nat64);
        if !classes.values().any(|class| class.class == class::API) {
            return Err(NodeError::NoApiAddress);
        }
        let (cgroup, cgroup_id) = open_cgroup(request.cgroup)?;
        let mut pins = Pins::below(request.pins);
        pins.create()?;
        let mut ebpf = parse(&pins, request.limits)?;
        let mut tables = Tables::take(&mut ebpf, config.nat64)?;
        tables.replace_classes(&classes)?;
        tables.forbid_unowned()?;
        let known = present(tables.config.get(&0, 0)).map_err(map_error("cfg"))?;
        if known != Some(config) {
            tables.config.set(0, config, 0).map_err(map_error("cfg"))?;
        }
        tables.fill_exact();
        let flows = Arc::new(take_hash(&mut ebpf, "flows")?);
        let stats = PerCpuArray::try_from(take_map(&mut ebpf, "stats")?).map_err(map_error("stats"))?;
        let events = RingBuf::try_from(take_map(&mut ebpf, "events")?).map_err(map_error("events"))?;
        let maps = repair::open_maps(&pins)?;
        let attached = attachment::attach_all(
            &mut ebpf,
            &pins,
            cgroup.as_fd(),
            cgroup_id,
            request.limits.left_out,
        )?;
        let mut wire = Wire::load(&mut ebpf)?;
        for ifindex in wire.renew(&pins)? {
            tables.forget_link(ifindex)?;
        }
        Ok(Self {
            pins,
            cgroup,
            cgroup_id,
            attached,
            maps,
            wire: Mutex::new(wire),
            nat64: config.nat64,
            config,
            tables: Mutex::new(tables),
            flows,
            stats,
            events: Mutex::new(Some(events)),
        })
    }

    /// Puts these destinations in the place of those known so far; how many entries of the maps changed.
    ///
    /// # Errors
    /// No API server among them (nothing changes), or a map is full: what was refused still is.
    pub fn sync_destinations(&self, destinations: &[Destination]) -> Result<usize, NodeError> {
        let classes = destinations::entries(destinations, &self.nat64);
        if !classes.values().any(|class| class.class == class::API) {
            return Err(NodeError::NoApiAddress);
        }
        let mut tables = self.tables();
        let changed = tables.replace_classes(&classes)?;
        tables.fill_exact();
        Ok(changed)
    }

    /// Takes off the pins of other map ABIs, and with them their programs; how many there were. Call it when all pods are
    /// on record here: until then both sets judge, and what either refuses is refused.
    ///
    /// # Errors
    /// The pins cannot be removed.
    pub fn retire_others(&self) -> Result<usize, NodeError> {
        self.pins.remove_others()
    }

    /// Closes the interface with this index, the host side of an agent's pod. Call it from a thread in the network
    /// namespace of the host. Calling it again renews what is there.
    ///
    /// # Errors
    /// The cgroup is another's than an agent's, [`NodeError::NoTcx`] before Linux 6.6, or the kernel refuses. Also when the
    /// pod or the interface is not on record, for want of room: then the interface is closed, and passes nothing.
    pub fn guard_interface(&self, ifindex: u32, cgroup: u64) -> Result<(), NodeError> {
        let mut tables = self.tables();
        // The entry first: without it everything would be dropped for a moment, and with it a wire that stays open is found.
        let entered = match tables.pod(cgroup)? {
            Some(pod) if pod.flags & POD_AGENT == 0 => return Err(NodeError::NotAgent(cgroup)),
            Some(pod) => {
                let inserted = tables.links.insert(ifindex, interface::entry(&pod), 0);
                inserted.map_err(map_error("links"))
            }
            None => Err(NodeError::NoSuchPod(cgroup)),
        };
        let attached = self.wire().attach(&self.pins, ifindex);
        entered.and(attached)
    }

    /// Opens an interface again, or forgets one that is gone.
    ///
    /// # Errors
    /// The pin or the entry cannot be removed.
    pub fn unguard_interface(&self, ifindex: u32) -> Result<(), NodeError> {
        self.wire().detach(&self.pins, ifindex)?;
        self.tables().forget_link(ifindex)
    }

    /// The flows of a network namespace, by its cookie, for the listener in there.
    #[must_use]
    pub fn flow_table(&self, netns_cookie: u64) -> Arc<dyn FlowTable> {
        Arc::new(KernelFlows::of(Arc::clone(&self.flows), netns_cookie))
    }

    /// What the programs have counted since the maps were made.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn stats(&self) -> Result<Stats, NodeError> {
        Stats::of(&self.stats).map_err(map_error("stats"))
    }

    /// The events, once. Call it on a runtime.
    ///
    /// # Errors
    /// The ring buffer cannot be watched.
    pub fn events(&self) -> Result<Option<Events>, NodeError> {
        let ring = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        let watched = ring.map(Events::of).transpose();
        watched.map_err(|source| {
            NodeError::Load(LoadError::Descriptor {
                what: "the events of the eBPF programs",
                source,
            })
        })
    }

    /// Which layers do not hold; none when all do. What the kernel runs counts, not what is pinned: the programs are looked
    /// for from the cgroup of all pods and from `below`, folders of cgroups below that. Call it from a thread in the
    /// network namespace of the host.
    ///
    /// # Errors
    /// The maps cannot be read: nothing is known.
    pub fn verify_attached(&self, below: &[BorrowedFd<'_>]) -> Result<Vec<Fault>, NodeError> {
        let tables = self.tables();
        let wire = self.wire();
        let mut faults: Vec<Fault> = self
            .attached
            .iter()
            .filter_map(|program| program.fault(&self.pins, self.cgroup.as_fd(), self.cgroup_id, below))
            .collect();
        faults.extend(repair::unpinned(&self.pins, &self.maps));
        let known = present(tables.config.get(&0, 0)).map_err(map_error("cfg"))?;
        if known != Some(self.config) {
            faults.push(Fault {
                program: "cfg",
                ifindex: None,
                problem: Problem::OtherProgram,
            });
        }
        let entries = tables.all_links()?;
        faults.extend(
            entries
                .iter()
                .filter_map(|(ifindex, _)| wire.fault(&self.pins, *ifindex)),
        );
        for ifindex in self.pins.wired()? {
            // On one that is gone there is nothing to pass.
            if !entries.iter().any(|(known, _)| *known == ifindex) && wire.is_on(&self.pins, ifindex) {
                faults.push(Fault {
                    program: object::WIRE,
                    ifindex: Some(ifindex),
                    problem: Problem::NoEntry,
                });
            }
        }
        Ok(faults)
    }

    /// Removes everything from below a folder of pins: nothing is guarded any more.
    ///
    /// # Errors
    /// Agents are on record, whose pods must go first; or the pins cannot be read or removed.
    pub fn uninstall(pins: &Path) -> Result<(), NodeError> {
        let pins = Pins::below(pins);
        let pods = pins.maps().join("pods");
        if pins::open(&pods)?.is_some() {
            let map = MapData::from_pin(&pods).map_err(map_error("pods"))?;
            let pods = HashMap::<_, u64, Pod>::try_from(Map::HashMap(map)).map_err(map_error("pods"))?;
            let mut agents = 0;
            for entry in pods.iter() {
                let (_, pod) = entry.map_err(map_error("pods"))?;
                agents += usize::from(pod.flags & POD_AGENT != 0);
            }
            if agents > 0 {
                return Err(NodeError::AgentsPresent(agents));
            }
        }
        pins.remove_all()
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_cgroup(path: &Path) -> Result<(OwnedFd, u64), NodeError> {
    let opened = File::open(path).and_then(|folder| {
        // Its own inode number is the id of a cgroup on 64-bit kernels, the only ones supported.
        let id = folder.metadata()?.ino();
        Ok((OwnedFd::from(folder), id))
    });
    opened.map_err(|source| NodeError::Cgroup {
        path: path.to_owned(),
        source,
    })
}

fn parse(pins: &Pins, limits: NodeLimits) -> Result<aya::Ebpf, NodeError> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("flows", limits.flows)
        .map_max_entries("pods", limits.pods)
        .map_max_entries("links", limits.links)
        .map_max_entries("api4", limits.prefixes)
        .map_max_entries("api6", limits.prefixes)
        .map_max_entries("allow4", limits.allowed)
        .map_max_entries("allow6", limits.allowed)
        .map_max_entries("exact", limits.allowed)
        .map_max_entries("events", limits.event_bytes);
    for name in PINNED {
        loader.map_pin_path(name, pins.maps().join(name));
    }
    Ok(object::parse(&mut loader)?)
}

fn config(asked: &NodeConfig) -> Result<Config, NodeError> {
    if asked.levels.is_empty() || asked.levels.len() > MAX_ANCESTOR_LEVELS {
        return Err(NodeError::Levels(asked.levels.len()));
    }
    if asked.nat64.len() > MAX_NAT64_PREFIXES {
        return Err(NodeError::Nat64(asked.nat64.len()));
    }
    let mut config = Config {
        abi: ABI_VERSION,
        unknown: match asked.unknown {
            Unknown::NoClasses => unknown::NO_CLASSES,
            Unknown::Pass => unknown::PASS,
        },
        ..Config::default()
    };
    for (slot, level) in config.levels.iter_mut().zip(&asked.levels) {
        *slot = *level;
        config.level_count += 1;
    }
    for (slot, prefix) in config
        .nat64
        .iter_mut()
        .zip(destinations::nat64_words(&asked.nat64))
    {
        *slot = prefix;
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
