//! The kernel side in the daemon's own words: what is closed, and what each pod may do, put into the node's programs.

mod forwarding;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::ebpf::cgroup2_mount;
use crate::ebpf::node::{
    self, AllowEntry, Destination, Egress, Events, Fault, Infrastructure, NodeConfig as ProgramConfig,
    NodeLimits, PodEntry, PodKind, Unknown, has_tcx,
};
use crate::ebpf::original_dst::FlowTable;
use crate::ebpf::{NodeDatapath, NodeError, NodeRequest, Prefix, Stats, netns_cookie};
use crate::node::config::{Allow, Closed, EgressMode, NodeConfig, Prefix as ConfigPrefix, Protocol};
use crate::node::daemon::Failure;
use crate::node::filter;
use crate::node::kernel::{Destinations, Health, Interfaces, Kernel, KernelError, Others, Standing};
use crate::node::older::{self, Owner, Rule};
use crate::node::programs::forwarding::{Forwarding, table_of};
use crate::node::state::{Known, State};
use crate::telemetry::chain;

/// Where the cloud's metadata service answers, and where the agent that hands out pods' credentials does.
const IMDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
const POD_IDENTITY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// Addresses that lead to the node itself and stand in no object: loopback, which pods in the node's network share with it,
/// and what its end of every cable has. The kubelet may listen on all of them.
const EVERY_NODE: [(IpAddr, u32); 4] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// The inode of the root of the whole cgroup2 hierarchy; a mount that shows a part of it begins elsewhere.
const HIERARCHY_ROOT: u64 = 1;
/// Levels below the kubepods root at which pods stand: in a QoS class, or directly. The programs try them in this order, and
/// most pods have a class.
const POD_LEVELS: [u32; 2] = [2, 1];
/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Loads and attaches the programs, or takes over those that are pinned. What was closed stays closed throughout.
///
/// # Errors
/// The kernel refuses, or there is no API server to close.
pub(crate) fn open(
    config: &NodeConfig,
    root: &Path,
    destinations: &Destinations,
) -> Result<Box<dyn Kernel>, Failure> {
    let program_config = ProgramConfig {
        levels: levels(root)?,
        unknown: Unknown::NoClasses,
        nat64: config.nat64_prefixes.clone(),
    };
    let datapath = NodeDatapath::open(&NodeRequest {
        cgroup: root,
        pins: &config.pins,
        destinations: &closed(destinations),
        config: &program_config,
        limits: NodeLimits::default(),
    })?;
    let nat64 = config.nat64_prefixes.clone();
    let closed = node::closed(&closed(destinations), &nat64);
    Ok(Box::new(Programs {
        datapath,
        forwarding: Forwarding::open(table_of(&config.pins), closed, nat64.clone()),
        nat64,
        wires: BTreeMap::new(),
    }))
}

/// Adds what the kernel still holds closed to what is known: the state's file may be lost, or older. Maps that cannot be read
/// add nothing; opening them fails by itself.
pub(crate) fn recall(mut known: Known, pins: &Path) -> Known {
    match node::remembered(pins) {
        Ok(remembered) => {
            known.api.recall(&remembered.api);
            known.nodes.extend(remembered.nodes);
        }
        Err(error) => tracing::error!(error = %chain(&error), "what was closed before is not known"),
    }
    known
}

/// Takes the programs off the node.
///
/// # Errors
/// A daemon runs, agents run, or the pins cannot be removed.
pub(crate) fn uninstall(config: &NodeConfig) -> Result<(), Failure> {
    let _nobody_else = State::open(&config.state)?;
    NodeDatapath::uninstall(&config.pins)?;
    filter::remove(&table_of(&config.pins))?;
    Ok(())
}

struct Programs {
    datapath: NodeDatapath,
    forwarding: Forwarding,
    nat64: Vec<Ipv6Addr>,
    /// Guarded interfaces, with the cgroups of their agents.
    wires: BTreeMap<u32, u64>,
}

impl Programs {
    /// Puts back the programs of interfaces; what is not put back stays in `faults`.
    fn repair_wires(&mut self, faults: Vec<Fault>, health: &mut Health) {
        for fault in faults {
            let own = fault.ifindex.and_then(|interface| {
                let cgroup = self.wires.get(&interface)?;
                Some(self.datapath.guard_interface(interface, *cgroup))
            });
            match own {
                Some(Ok(())) if fault.problem != node::Problem::NotFirst => {
                    health.repaired.push(fault.to_string());
                }
                Some(Err(error)) => health.faults.push(format!("{fault}: {}", chain(&error))),
                Some(Ok(())) | None => health.faults.push(fault.to_string()),
            }
        }
    }
}

impl Kernel for Programs {
    fn classify(&mut self, destinations: &Destinations) -> Result<(), KernelError> {
        let destinations = closed(destinations);
        let synced = self.datapath.sync_destinations(&destinations);
        let synced = synced.map(drop).map_err(failed(
            "closing all destinations to sockets: until all are, every agent is held to its allow list",
        ));
        // It has room of its own.
        let closed = self.forwarding.close(node::closed(&destinations, &self.nat64));
        synced.and(closed)
    }

    fn set_pod(&mut self, cgroup: u64, standing: &Standing) -> Result<(), KernelError> {
        let doing = || format!("putting cgroup {cgroup} on record");
        let (kind, allow, own) = match standing {
            Standing::Agent {
                listener,
                mode,
                allow,
                own,
            } => {
                let kind = PodKind::Agent {
                    listener: *listener,
                    egress: match mode {
                        EgressMode::AllowList => Egress::AllowList,
                        EgressMode::BlockList => Egress::BlockList,
                    },
                };
                (kind, allow.as_slice(), own.as_slice())
            }
            Standing::System => (PodKind::System, [].as_slice(), [].as_slice()),
            Standing::Ordinary => (PodKind::Ordinary, [].as_slice(), [].as_slice()),
        };
        let entry = PodEntry {
            kind,
            addr4: own.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            }),
            addr6: own.iter().find_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(v6) => Some(*v6),
            }),
        };
        self.datapath.put_pod(cgroup, &entry).map_err(failed(doing()))?;
        let allowed: Vec<AllowEntry> = allow.iter().flat_map(entries).collect();
        let set = self.datapath.set_allowed(cgroup, &allowed);
        set.map(drop).map_err(failed(doing()))
    }

    fn remove_pod(&mut self, cgroup: u64) -> Result<(), KernelError> {
        let removed = self.datapath.remove_pod(cgroup);
        removed.map_err(failed(format!("forgetting cgroup {cgroup}")))
    }

    fn pods(&self) -> Result<BTreeSet<u64>, KernelError> {
        let pods = self
            .datapath
            .pods()
            .map_err(failed("reading which cgroups are on record"))?;
        Ok(pods.into_iter().map(|(cgroup, _)| cgroup).collect())
    }

    fn guard_interface(&mut self, interface: u32, cgroup: u64) -> Result<(), KernelError> {
        if !has_tcx() && self.forwarding.is_closed() {
            // The packet filter has a chain for such kernels.
            return Ok(());
        }
        let guarded = self.datapath.guard_interface(interface, cgroup);
        guarded.map_err(failed(format!(
            "closing interface {interface}, which leads to an agent: raw frames are not stopped there"
        )))?;
        self.wires.insert(interface, cgroup);
        Ok(())
    }

    fn unguard_interface(&mut self, interface: u32) -> Result<(), KernelError> {
        let opened = self.datapath.unguard_interface(interface);
        opened.map_err(failed(format!("forgetting interface {interface}")))?;
        self.wires.remove(&interface);
        Ok(())
    }

    fn guard_forwarding(&mut self, interfaces: &Interfaces, others: Others) -> Result<(), KernelError> {
        self.forwarding.guard(interfaces, others)
    }

    fn forwarding_dropped(&self) -> u64 {
        self.forwarding.dropped()
    }

    fn is_forwarding_closed(&self) -> bool {
        self.forwarding.is_closed()
    }

    fn repair(&mut self, below: &[&Path]) -> Health {
        let mut health = Health::default();
        // A pod that has ended meanwhile needs no layer.
        let open: Vec<File> = below.iter().filter_map(|path| File::open(path).ok()).collect();
        let below: Vec<BorrowedFd<'_>> = open.iter().map(AsFd::as_fd).collect();
        match self.datapath.repair(&below) {
            Ok(repairs) => {
                let texts = |faults: &[Fault]| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
                health.repaired = texts(&repairs.repaired);
                let (wires, others): (Vec<Fault>, Vec<Fault>) = repairs
                    .left
                    .into_iter()
                    .partition(|fault| fault.ifindex.is_some());
                health.faults = texts(&others);
                health
                    .faults
                    .extend(repairs.errors.iter().map(|error| chain(error)));
                self.repair_wires(wires, &mut health);
            }
            Err(error) => health
                .faults
                .push(format!("cannot tell whether the layers hold: {}", chain(&error))),
        }
        self.forwarding.repair(&mut health);
        health
    }

    fn events(&self) -> Result<Option<Events>, KernelError> {
        let events = self.datapath.events();
        events.map_err(failed("watching for events of the programs"))
    }

    fn stats(&self) -> Result<Stats, KernelError> {
        let stats = self.datapath.stats();
        stats.map_err(failed("reading what the programs have counted"))
    }

    fn end_older(
        &self,
        netns: BorrowedFd<'_>,
        owner: Owner,
        standing: &Standing,
    ) -> Result<usize, KernelError> {
        let Standing::Agent { mode, allow, .. } = standing else {
            return Ok(0);
        };
        let rule = Rule {
            owner,
            closed: self.forwarding.closed(),
            mode: *mode,
            allow,
        };
        older::end(netns, &rule).map_err(|source| KernelError {
            doing: "ending connections that are older than their agent (their packets are dropped)"
                .to_owned(),
            source: source.into(),
        })
    }

    fn retire_others(&mut self) -> Result<usize, KernelError> {
        let retired = self.datapath.retire_others();
        retired.map_err(failed("taking off the programs of an older version"))
    }

    fn flows(&self, socket: BorrowedFd<'_>) -> Result<Arc<dyn FlowTable>, KernelError> {
        let cookie = netns_cookie(socket).map_err(|source| KernelError {
            doing: "asking for the name of a network namespace".to_owned(),
            source: source.into(),
        })?;
        Ok(self.datapath.flow_table(cookie))
    }
}

fn failed(doing: impl Into<String>) -> impl FnOnce(NodeError) -> KernelError {
    let doing = doing.into();
    move |source| KernelError {
        doing,
        source: source.into(),
    }
}

/// The levels of the hierarchy at which pods stand. All that the programs can try when the mount does not show how deep it
/// stands itself.
fn levels(root: &Path) -> Result<Vec<u32>, Failure> {
    const ALL: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
    let mount = cgroup2_mount::find()?;
    let below = root.strip_prefix(&mount).ok();
    let depth = below.and_then(|below| u32::try_from(below.components().count()).ok());
    let is_whole = fs::metadata(&mount)?.ino() == HIERARCHY_ROOT;
    Ok(match depth {
        Some(depth) if is_whole => POD_LEVELS.map(|level| depth + level).to_vec(),
        Some(_) | None => ALL.to_vec(),
    })
}

fn closed(destinations: &Destinations) -> Vec<Destination> {
    let host = |addresses: [IpAddr; 2]| addresses.into_iter().map(Prefix::host);
    let clusters = destinations.other_clusters.iter().filter_map(prefix);
    let api = destinations.api.iter().copied().map(Destination::Api);
    let nodes = destinations.nodes.iter().copied().map(Prefix::host);
    let ports = destinations.api_ports.nodes.iter();
    let ports = ports.map(|(address, ports)| (Prefix::host(*address), *ports));
    let here = destinations.api_ports.here;
    let here = here
        .into_iter()
        .flat_map(|ports| every_node().map(move |nodes| (nodes, ports)));
    let api_ports = ports
        .chain(here)
        .map(|(nodes, ports)| Destination::ApiPorts { nodes, ports });
    api.chain(api_ports)
        .chain(host(IMDS).map(Destination::Imds))
        .chain(host(POD_IDENTITY).map(Destination::PodIdentity))
        .chain(nodes.chain(every_node()).map(|nodes| Destination::Kubelet {
            nodes,
            ports: destinations.kubelet_ports,
        }))
        .chain(clusters.map(Destination::OtherCluster))
        .collect()
}

fn every_node() -> impl Iterator<Item = Prefix> {
    let prefix = |(address, length): &(IpAddr, u32)| Prefix::new(*address, *length);
    EVERY_NODE.iter().filter_map(prefix)
}

fn prefix(prefix: &ConfigPrefix) -> Option<Prefix> {
    Prefix::new(prefix.address, u32::from(prefix.length))
}

/// A port without a protocol is one of both that have ports.
fn entries(allow: &Allow) -> Vec<AllowEntry> {
    let protocols: &[Option<u8>] = match (allow.protocol, allow.port) {
        (Some(Protocol::Tcp), _) => &[Some(TCP)],
        (Some(Protocol::Udp), _) => &[Some(UDP)],
        (None, Some(_)) => &[Some(TCP), Some(UDP)],
        (None, None) => &[None],
    };
    let prefix = prefix(&allow.to);
    let entry = |protocol: &Option<u8>| {
        Some(AllowEntry {
            prefix: prefix?,
            protocol: *protocol,
            port: allow.port,
            opens: allow.opens.map(opened),
        })
    };
    protocols.iter().filter_map(entry).collect()
}

fn opened(closed: Closed) -> Infrastructure {
    match closed {
        Closed::Metadata => Infrastructure::Imds,
        Closed::PodIdentity => Infrastructure::PodIdentity,
        Closed::Kubelet => Infrastructure::Kubelet,
        Closed::OtherCluster => Infrastructure::OtherCluster,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::api_ports::ApiPorts;

    #[test]
    fn a_port_alone_is_a_port_of_both_protocols() {
        let allow = |protocol, port| Allow {
            to: ConfigPrefix {
                address: "10.0.0.0".parse().unwrap(),
                length: 8,
            },
            protocol,
            port,
            opens: None,
        };
        let of = |protocol, port| -> Vec<(Option<u8>, Option<u16>)> {
            let entries = entries(&allow(protocol, port));
            assert!(entries.iter().all(|entry| entry.opens.is_none()));
            entries.iter().map(|entry| (entry.protocol, entry.port)).collect()
        };
        assert_eq!(of(None, None), [(None, None)]);
        assert_eq!(of(None, Some(53)), [(Some(6), Some(53)), (Some(17), Some(53))]);
        assert_eq!(of(Some(Protocol::Udp), None), [(Some(17), None)]);
        let opening = Allow {
            opens: Some(Closed::Kubelet),
            ..allow(None, Some(10_250))
        };
        let opened: Vec<_> = entries(&opening).iter().map(|entry| entry.opens).collect();
        assert_eq!(opened, [Some(Infrastructure::Kubelet); 2]);
    }

    #[test]
    fn metadata_services_and_kubelets_are_always_closed() {
        let destinations = Destinations {
            api: ["10.96.0.1:443".parse().unwrap()].into(),
            api_ports: ApiPorts {
                nodes: [("192.0.2.7".parse().unwrap(), (6443, 6443))].into(),
                here: Some((6443, 6443)),
            },
            nodes: ["192.0.2.7".parse().unwrap()].into(),
            kubelet_ports: (10_250, 10_255),
            other_clusters: vec![ConfigPrefix {
                address: "10.9.0.0".parse().unwrap(),
                length: 16,
            }],
        };
        let closed = closed(&destinations);
        assert_eq!(closed.len(), 16);
        for (address, length) in [("192.0.2.7", 32), ("127.0.0.0", 8), ("169.254.0.0", 16)] {
            let nodes = Prefix::new(address.parse().unwrap(), length).unwrap();
            let ports = (6443, 6443);
            assert!(
                closed.contains(&Destination::ApiPorts { nodes, ports }),
                "{address}"
            );
        }
        let kubelets = |address: &str, length| Destination::Kubelet {
            nodes: Prefix::new(address.parse().unwrap(), length).unwrap(),
            ports: (10_250, 10_255),
        };
        for (address, length) in [("192.0.2.7", 32), ("127.0.0.0", 8), ("fe80::", 10)] {
            assert!(closed.contains(&kubelets(address, length)), "{address}");
        }
        assert!(closed.contains(&Destination::Imds(Prefix::host(IMDS[0]))));
        assert!(closed.contains(&Destination::PodIdentity(Prefix::host(POD_IDENTITY[1]))));
    }
}
