//! The pods of a node: who each cgroup is, and what the agents among them may reach.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use eks_guard_ebpf::address::words;
use eks_guard_ebpf::{Link, POD_AGENT, POD_ORDINARY, POD_SYSTEM, Pod, egress};

use crate::ebpf::node::allow_list::{self, AllowEntry};
use crate::ebpf::node::error::{NodeError, map_error};
use crate::ebpf::node::tables::Tables;
use crate::ebpf::node::{NodeDatapath, interface};

/// What an agent may reach beside the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// Loopback, and what its allow list names.
    #[default]
    AllowList,
    /// Everything but the classes.
    BlockList,
}

/// Where an agent's connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerPlace {
    /// Port on 127.0.0.1 and ::1.
    pub port: u16,
    /// Cookie of the network namespace that it is in: sockets in others are refused.
    pub netns: u64,
}

/// Who a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodKind {
    /// An agent: guarded.
    Agent {
        /// Its listener, once there is one.
        listener: Option<ListenerPlace>,
        /// What it may reach.
        egress: Egress,
    },
    /// Exempt by name in the operator's configuration.
    System,
    /// Known not to be an agent.
    Ordinary,
}

/// A pod on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodEntry {
    /// Who it is.
    pub kind: PodKind,
    /// Its IPv4 address, which its redirected sockets name as their own; `None` when it has none or is not known.
    pub addr4: Option<Ipv4Addr>,
    /// Its IPv6 address, as above.
    pub addr6: Option<Ipv6Addr>,
}

impl PodEntry {
    fn value(&self, index: u32, generation: u32) -> Pod {
        let (flags, listener, mode) = match self.kind {
            PodKind::Agent {
                listener,
                egress: Egress::AllowList,
            } => (POD_AGENT, listener, egress::ALLOW_LIST),
            PodKind::Agent {
                listener,
                egress: Egress::BlockList,
            } => (POD_AGENT, listener, egress::BLOCK_LIST),
            PodKind::System => (POD_SYSTEM, None, egress::ALLOW_LIST),
            PodKind::Ordinary => (POD_ORDINARY, None, egress::ALLOW_LIST),
        };
        Pod {
            flags,
            // Nobody listens on port 0: the agent's connections are refused.
            listener_port: listener.map_or(0, |listener| listener.port),
            listener_netns: listener.map_or(0, |listener| listener.netns),
            padding: 0,
            egress: mode,
            generation,
            index,
            addr4: self.addr4.map_or(0, |v4| u32::from_ne_bytes(v4.octets())),
            addr6: self.addr6.map_or([0; 4], |v6| words(&v6.octets())),
        }
    }

    fn of(pod: &Pod) -> Option<Self> {
        let kind = if pod.flags & POD_AGENT != 0 {
            PodKind::Agent {
                listener: (pod.listener_port != 0).then_some(ListenerPlace {
                    port: pod.listener_port,
                    netns: pod.listener_netns,
                }),
                egress: if pod.egress == egress::BLOCK_LIST {
                    Egress::BlockList
                } else {
                    Egress::AllowList
                },
            }
        } else if pod.flags & POD_SYSTEM != 0 {
            PodKind::System
        } else if pod.flags & POD_ORDINARY != 0 {
            PodKind::Ordinary
        } else {
            return None;
        };
        let [a, b, c, d] = pod.addr6.map(u32::to_be);
        let addr6 = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
        Some(Self {
            kind,
            addr4: (pod.addr4 != 0).then(|| Ipv4Addr::from(pod.addr4.to_ne_bytes())),
            addr6: (addr6 != 0).then(|| Ipv6Addr::from_bits(addr6)),
        })
    }
}

impl NodeDatapath {
    /// Puts the pod of a cgroup on record, or changes what is on record of it. Interfaces of it that are guarded follow.
    ///
    /// # Errors
    /// The map is full: the cgroup stays unclassified.
    pub fn put_pod(&self, cgroup: u64, entry: &PodEntry) -> Result<(), NodeError> {
        let mut tables = self.tables();
        let pod = match tables.pod(cgroup)? {
            Some(known) => entry.value(known.index, known.generation.wrapping_add(1)),
            None => entry.value(free_index(&tables)?, 1),
        };
        tables.pods.insert(cgroup, pod, 0).map_err(map_error("pods"))?;
        if pod.flags & POD_AGENT == 0 {
            return Ok(());
        }
        for (ifindex, link) in tables.all_links()? {
            if link.index == pod.index {
                tables
                    .links
                    .insert(ifindex, interface::entry(&pod), 0)
                    .map_err(map_error("links"))?;
            }
        }
        Ok(())
    }

    /// Forgets a pod that is gone, and what it might reach. Whatever still runs in the cgroup is unclassified, and an
    /// interface of it that is guarded passes nothing.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn remove_pod(&self, cgroup: u64) -> Result<(), NodeError> {
        let mut tables = self.tables();
        let Some(pod) = tables.pod(cgroup)? else {
            return Ok(());
        };
        for (ifindex, link) in tables.all_links()? {
            if link.index == pod.index {
                tables
                    .links
                    .insert(ifindex, Link::default(), 0)
                    .map_err(map_error("links"))?;
            }
        }
        tables.replace_allowed(pod.index, &BTreeMap::new())?;
        tables.pods.remove(&cgroup).map_err(map_error("pods"))
    }

    /// All pods on record, with the ids of their cgroups.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn pods(&self) -> Result<Vec<(u64, PodEntry)>, NodeError> {
        let pods = self.tables().all_pods()?;
        Ok(pods
            .iter()
            .filter_map(|(cgroup, pod)| Some((*cgroup, PodEntry::of(pod)?)))
            .collect())
    }

    /// Puts an allow list in the place of the one the pod has; how many entries of the maps changed.
    ///
    /// # Errors
    /// The cgroup is not on record, an entry says nothing, or a map is full: then some entries may be missing.
    pub fn set_allowed(&self, cgroup: u64, entries: &[AllowEntry]) -> Result<usize, NodeError> {
        let mut tables = self.tables();
        let pod = tables.pod(cgroup)?.ok_or(NodeError::NoSuchPod(cgroup))?;
        let wanted = allow_list::keys(pod.index, entries, &self.nat64)?;
        tables.replace_allowed(pod.index, &wanted)
    }
}

/// An index that no pod has. 0 is nobody's.
fn free_index(tables: &Tables) -> Result<u32, NodeError> {
    let taken: BTreeSet<u32> = tables.all_pods()?.iter().map(|(_, pod)| pod.index).collect();
    // There are never as many pods as numbers.
    Ok((1..=u32::MAX).find(|index| !taken.contains(index)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_on_record_is_read_back() {
        let agent = PodKind::Agent {
            listener: Some(ListenerPlace { port: 4000, netns: 7 }),
            egress: Egress::BlockList,
        };
        for kind in [agent, PodKind::System, PodKind::Ordinary] {
            let entry = PodEntry {
                kind,
                addr4: Some(Ipv4Addr::new(10, 1, 2, 3)),
                addr6: Some("2001:db8::7".parse().unwrap()),
            };
            let value = entry.value(7, 2);
            assert_eq!((value.index, value.generation), (7, 2));
            assert_eq!(PodEntry::of(&value), Some(entry));
        }
        assert_eq!(PodEntry::of(&Pod::default()), None);
    }
}
