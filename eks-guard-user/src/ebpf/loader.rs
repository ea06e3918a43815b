//! Loads the embedded programs, fills their maps, and only then attaches them to the cgroup of a run.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use eks_guard_ebpf::address::words;
use eks_guard_ebpf::{ABI_VERSION, Class, Config, MAX_ANCESTOR_LEVELS, POD_AGENT, Pod, egress, limits};

use crate::ebpf::cgroup::RunCgroup;
use crate::ebpf::classes;
use crate::ebpf::kernel_log::KernelLog;
use crate::ebpf::load_error::LoadError;
use crate::ebpf::object::{self, NODE_PROGRAMS, PROGRAMS, WIRE, check_kernel, map_error};
use crate::ebpf::original_dst::{FlowTable, KernelFlows, own_netns};
use crate::ebpf::prefix::Prefix;
use crate::ebpf::stats::Stats;
use crate::ebpf::sys::{self, AttachType};

/// What to guard, and where to send what is guarded.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// Processes below this cgroup are guarded.
    pub cgroup: &'a RunCgroup,
    /// Every address of the API server.
    pub api: &'a [SocketAddr],
    /// Port of the guard's listener on 127.0.0.1 and ::1.
    pub listener_port: u16,
}

/// What tests of the datapath change: sizes of the maps that they fill up, the layers that they do without, and a version of the
/// maps that is not the programs'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows between connect and accept.
    pub flows: u32,
    /// Names of programs that are not attached, to show what would be reached without them.
    pub left_out: &'static [&'static str],
    /// The version that the maps say they are of.
    pub abi: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: limits::FLOWS,
            left_out: &[],
            abi: ABI_VERSION,
        }
    }
}

/// Loaded and attached programs. They stay attached while this, or a copy of its links, exists.
pub struct Datapath {
    links: Vec<OwnedFd>,
    flows: Arc<KernelFlows>,
    log: Option<KernelLog>,
    ebpf: Ebpf,
}

impl Datapath {
    /// Guards the cgroup. Call it before anything runs in there, from the network namespace of the listener.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays attached.
    pub fn load(request: &LoadRequest<'_>) -> Result<Self, LoadError> {
        Self::load_with(request, Limits::default())
    }

    /// [`Datapath::load`] as tests want it: whoever runs agents has no way to ask for less.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_with(request: &LoadRequest<'_>, limits: Limits) -> Result<Self, LoadError> {
        check_kernel()?;
        let mut ebpf = parse(limits)?;
        let events =
            RingBuf::try_from(object::take_map(&mut ebpf, "events")?).map_err(map_error("events"))?;
        fill(&mut ebpf, request, limits.abi)?;
        let flows = take_flows(&mut ebpf)?;
        let cgroup = request.cgroup.folder_fd().map_err(LoadError::Cgroup)?;
        let mut links = Vec::with_capacity(PROGRAMS.len());
        for (name, attach) in PROGRAMS
            .into_iter()
            .filter(|(name, _)| !limits.left_out.contains(name))
        {
            links.push(load_and_attach(&mut ebpf, name, attach, cgroup.as_fd())?);
        }
        Ok(Self {
            links,
            flows: Arc::new(flows),
            log: Some(KernelLog::of(events)),
            ebpf,
        })
    }

    /// Copies of the links: a process that holds them keeps the cgroup guarded when this one is gone.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn link_fds(&self) -> Result<Vec<OwnedFd>, LoadError> {
        let copies = self
            .links
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<io::Result<_>>();
        copies.map_err(|source| LoadError::Descriptor {
            what: "copies of the eBPF links",
            source,
        })
    }

    /// The flows, for listeners in the network namespace `load` was called from.
    #[must_use]
    pub fn flow_table(&self) -> Arc<dyn FlowTable> {
        Arc::clone(&self.flows) as Arc<dyn FlowTable>
    }

    /// The programs' refusals as log lines, once: whoever takes them drives them.
    pub fn kernel_log(&mut self) -> Option<KernelLog> {
        self.log.take()
    }

    /// What the programs have counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self.counters() {
            Ok(stats) => stats,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "counters not readable");
                Stats::default()
            }
        }
    }

    fn counters(&self) -> Result<Stats, LoadError> {
        let map = self.ebpf.map("stats").ok_or(LoadError::Missing("stats"))?;
        let counters = PerCpuArray::<_, u64>::try_from(map).map_err(map_error("stats"))?;
        Stats::of(&counters).map_err(map_error("stats"))
    }
}

/// Programs of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Programs {
    /// That of a run.
    OfARun,
    /// That of a node's pods.
    OfANode,
}

/// Loads the programs without attaching them: the kernel's tag of each, as bpftool(8) shows it.
///
/// # Errors
/// The kernel refuses the object or one of its programs.
pub(crate) fn program_tags(which: Programs) -> Result<BTreeMap<String, String>, LoadError> {
    let mut ebpf = parse(Limits::default())?;
    let mut tags = BTreeMap::new();
    let (more, wire): (&[_], _) = match which {
        Programs::OfARun => (&[], None),
        Programs::OfANode => (&NODE_PROGRAMS, Some((WIRE, AttachType::TcxIngress))),
    };
    for &(name, attach) in PROGRAMS.iter().chain(more).chain(&wire) {
        let program = object::load(&mut ebpf, name, attach)?;
        let tag = sys::links::tag(program).map_err(|source| LoadError::Descriptor {
            what: "the tags of the programs",
            source,
        })?;
        tags.insert(name.to_owned(), format!("{:016x}", u64::from_be_bytes(tag)));
    }
    Ok(tags)
}

fn parse(limits: Limits) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("flows", limits.flows);
    object::parse(&mut loader)
}

fn fill(ebpf: &mut Ebpf, request: &LoadRequest<'_>, abi: u32) -> Result<(), LoadError> {
    if request.api.is_empty() {
        return Err(LoadError::NoApiAddress);
    }
    let entries =
        classes::entries(request.api, &host_addresses()?).map_err(|conflict| LoadError::PortConflict {
            addr: conflict.addr,
            first: conflict.ports.0,
            second: conflict.ports.1,
        })?;
    fill_classes(ebpf, entries)?;
    let mut pods = HashMap::<_, u64, Pod>::try_from(map(ebpf, "pods")?).map_err(map_error("pods"))?;
    let listener_netns = own_netns().map_err(|source| LoadError::Descriptor {
        what: "a socket that tells its network namespace",
        source,
    })?;
    let pod = Pod {
        flags: POD_AGENT,
        listener_port: request.listener_port,
        listener_netns,
        egress: egress::BLOCK_LIST,
        generation: 1,
        ..Pod::default()
    };
    pods.insert(request.cgroup.id(), pod, 0)
        .map_err(map_error("pods"))?;
    let mut cfg = Array::<_, Config>::try_from(map(ebpf, "cfg")?).map_err(map_error("cfg"))?;
    cfg.set(0, config(abi), 0).map_err(map_error("cfg"))
}

/// Every level below the root is tried: how deep the mount that we see stands in the hierarchy is not ours to know.
fn config(abi: u32) -> Config {
    const LEVELS: [u32; MAX_ANCESTOR_LEVELS] = [1, 2, 3, 4, 5, 6, 7, 8];
    Config {
        abi,
        level_count: 8,
        levels: LEVELS,
        ..Config::default()
    }
}

fn fill_classes(
    ebpf: &mut Ebpf,
    entries: impl IntoIterator<Item = (Prefix, Class)>,
) -> Result<(), LoadError> {
    for (prefix, class) in entries {
        match prefix.addr {
            IpAddr::V4(addr) => {
                let mut trie =
                    LpmTrie::<_, u32, Class>::try_from(map(ebpf, "api4")?).map_err(map_error("api4"))?;
                let key = Key::new(prefix.len, u32::from_ne_bytes(addr.octets()));
                trie.insert(&key, class, 0).map_err(map_error("api4"))?;
            }
            IpAddr::V6(addr) => {
                let trie = LpmTrie::<_, [u32; 4], Class>::try_from(map(ebpf, "api6")?);
                let key = Key::new(prefix.len, words(&addr.octets()));
                trie.map_err(map_error("api6"))?
                    .insert(&key, class, 0)
                    .map_err(map_error("api6"))?;
            }
        }
    }
    Ok(())
}

fn take_flows(ebpf: &mut Ebpf) -> Result<KernelFlows, LoadError> {
    let map = object::take_hash(ebpf, "flows")?;
    KernelFlows::here(Arc::new(map)).map_err(|source| LoadError::Descriptor {
        what: "the name of the network namespace",
        source,
    })
}

fn load_and_attach(
    ebpf: &mut Ebpf,
    name: &'static str,
    attach: AttachType,
    cgroup: BorrowedFd<'_>,
) -> Result<OwnedFd, LoadError> {
    let program = object::load(ebpf, name, attach)?;
    sys::link_create(program, cgroup, attach).map_err(|source| LoadError::Attach { name, source })
}

/// Addresses of all interfaces of the calling thread's network namespace.
pub(crate) fn host_addresses() -> Result<Vec<IpAddr>, LoadError> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| LoadError::HostAddresses(error.into()))?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|addr| IpAddr::V4(addr.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|addr| IpAddr::V6(addr.ip())))
    };
    Ok(interfaces.filter_map(address).collect())
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Map, LoadError> {
    ebpf.map_mut(name).ok_or(LoadError::Missing(name))
}
