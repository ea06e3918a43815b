//! Keeps the kernel and the listeners as the cluster says they should be. One task owns all of it; everything it learns is
//! taken in first and then acted on as a whole, so that the order in which things are learned does not matter.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::node::agents::Agents;
use crate::node::api_set::{Services, Source};
use crate::node::cgroup::{PodCgroup, PodUid, scan};
use crate::node::config::{EgressMode, NodeConfig};
use crate::node::kernel::{Destinations, Kernel, Standing};
use crate::node::kube::{Change, EndpointSlice, Node, Object, Pod, Service};
use crate::node::pods::{ClassifiedPod, PodClass};
use crate::node::proxy_process::ToProxy;
use crate::node::state::{Known, State};
use crate::node::status::{PodStatus, Status};
use crate::telemetry::chain;
use crate::tls::downstream::Leaves;

/// Pods that the kernel is asked about when layers are looked at.
const SAMPLE: usize = 16;

/// What the controller is made of.
pub struct Parts {
    /// The configuration in force.
    pub config: NodeConfig,
    /// Root of the pods' cgroups.
    pub root: PathBuf,
    /// What outlives the daemon.
    pub state: State,
    /// What was last known.
    pub known: Known,
    /// The kernel side.
    pub kernel: Box<dyn Kernel>,
    /// The agents.
    pub agents: Agents,
    /// The certificate agents see.
    pub leaves: Leaves,
}

/// The one owner of the node's state.
pub struct Controller {
    parts: Parts,
    services: Services,
    nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Every address of this node, those that its object does not name included.
    own_addresses: BTreeSet<IpAddr>,
    are_pods_listed: bool,
    /// What the kernel was told last.
    destinations: Option<Destinations>,
    standings: BTreeMap<u64, Standing>,
    /// What was kept last.
    kept: Known,
    problems: Vec<String>,
    /// Guarded interfaces, with the cgroups of their agents.
    wires: BTreeMap<u32, u64>,
    wire_problems: Vec<String>,
    /// Interfaces are to be looked at.
    look_at_wires: bool,
    /// Layers that did not hold when last looked at.
    faults: Vec<String>,
    /// An agent waits for its listener.
    waits: bool,
}

impl Controller {
    /// Knows what was last known.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            kept: parts.known.clone(),
            parts,
            services: Services::default(),
            nodes: BTreeMap::new(),
            own_addresses: BTreeSet::new(),
            are_pods_listed: false,
            destinations: None,
            standings: BTreeMap::new(),
            problems: Vec::new(),
            wires: BTreeMap::new(),
            wire_problems: Vec::new(),
            look_at_wires: true,
            faults: Vec::new(),
            waits: false,
        }
    }

    /// Takes in a change of a pod.
    pub fn take_pod(&mut self, change: Change<Pod>) {
        self.are_pods_listed |= matches!(change, Change::Listed(_));
        self.parts.known.pods.take(change, &self.parts.config);
    }

    /// Takes in a change of a Service.
    pub fn take_service(&mut self, change: Change<Service>) {
        self.services.take_service(change);
    }

    /// Takes in a change of an EndpointSlice.
    pub fn take_slice(&mut self, change: Change<EndpointSlice>) {
        self.services.take_slice(change);
    }

    /// Takes in a change of a Node.
    pub fn take_node(&mut self, change: Change<Node>) {
        let addresses = |node: &Node| -> BTreeSet<IpAddr> {
            let texts = node.status.addresses.iter();
            texts.filter_map(|entry| entry.address.parse().ok()).collect()
        };
        let entry = |node: &Node| (node.metadata().name.clone(), addresses(node));
        match change {
            Change::Listed(nodes) => self.nodes = nodes.iter().map(entry).collect(),
            Change::Set(node) => self.nodes.extend([entry(&node)]),
            Change::Gone(node) => _ = self.nodes.remove(&node.metadata.name),
        }
        self.parts.known.nodes = self.nodes.values().flatten().copied().collect();
    }

    /// Takes in what this node's interfaces have for addresses now.
    pub fn take_own_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.own_addresses = addresses;
    }

    /// Takes in what the API server's name resolves to now.
    pub fn take_endpoint(&mut self, addresses: &BTreeSet<SocketAddr>, now: Timestamp) {
        self.parts.known.api.observe(Source::Endpoint, addresses, now);
    }

    /// Puts another configuration in force.
    pub fn configure(&mut self, config: NodeConfig) {
        self.parts.known.pods.reclassify(&config);
        self.parts.config = config;
    }

    /// Whether pods and Services have been told as a whole.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.are_pods_listed && self.services.are_listed()
    }

    /// Whether an agent waits for its listener, and reaches nothing until it has one.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Looks whether the kernel really runs what was attached, for a sample of pods too; the next time the kernel is told
    /// anything, interfaces are looked at again.
    pub fn verify(&mut self) {
        self.look_at_wires = true;
        let cgroups = scan(&self.parts.root).unwrap_or_default();
        let sample: Vec<&Path> = cgroups
            .values()
            .take(SAMPLE)
            .map(|cgroup| cgroup.path.as_path())
            .collect();
        let faults = self.parts.kernel.faults(&sample);
        if faults != self.faults {
            faults.iter().for_each(|fault| tracing::error!("{fault}"));
            self.faults = faults;
        }
    }

    /// Makes the kernel and the listeners what they should be. What fails is in the status, and tried again the next time;
    /// until then it stays as closed as it was.
    pub fn reconcile(&mut self, now: Timestamp) -> Status {
        self.problems.clear();
        self.waits = false;
        self.parts.agents.follow_proxy();
        self.classify_destinations(now);
        let pods = match scan(&self.parts.root) {
            Ok(cgroups) => {
                self.parts
                    .known
                    .pods
                    .forget(|uid| PodUid::parse(uid).is_some_and(|uid| cgroups.contains_key(&uid)));
                self.parts.agents.keep_only(|uid| cgroups.contains_key(uid));
                self.remove_dead(&cgroups);
                self.classify_pods(&cgroups)
            }
            Err(error) => {
                self.problem(&error);
                Vec::new()
            }
        };
        let pods = self.wire_agents(pods);
        self.keep();
        Status {
            node: self.parts.config.node_name.clone(),
            attached: self.faults.is_empty(),
            synced: self.is_synced(),
            api: self.parts.known.api.addresses().into_iter().collect(),
            problems: self.all_problems(),
            pods,
            ..Status::default()
        }
    }

    /// Ends: records are ended, the kernel side stays. The proxy has ended before.
    pub async fn stop(self) {
        self.parts.agents.end().await;
    }

    fn all_problems(&self) -> Vec<String> {
        let mut problems = [&self.faults[..], &self.wire_problems, &self.problems].concat();
        if !self.parts.agents.is_node_record_healthy() {
            problems.push("the node's record is not being written".to_owned());
        }
        problems
    }

    fn problem(&mut self, error: &dyn std::error::Error) {
        let text = chain(error);
        tracing::error!("{text}");
        self.problems.push(text);
    }

    fn classify_destinations(&mut self, now: Timestamp) {
        let config = &self.parts.config;
        let api = &mut self.parts.known.api;
        let mut addresses = api.addresses();
        addresses.extend(&config.api_servers);
        api.observe(Source::Cluster, &self.services.api_addresses(&addresses), now);
        addresses.extend(api.addresses());
        let destinations = Destinations {
            nodes: &self.parts.known.nodes | &self.own_addresses,
            other_clusters: config.other_clusters.clone(),
            api: addresses,
        };
        match self.parts.leaves.add(destinations.api.iter().map(SocketAddr::ip)) {
            Ok(Some(leaf)) => self.parts.agents.link().keep(ToProxy::Leaf(leaf.clone())),
            Ok(None) => {}
            Err(error) => self.problem(&error),
        }
        if self.destinations.as_ref() == Some(&destinations) {
            return;
        }
        match self.parts.kernel.classify(&destinations) {
            Ok(()) => self.destinations = Some(destinations),
            Err(error) => self.problem(&error),
        }
    }

    fn classify_pods(&mut self, cgroups: &BTreeMap<PodUid, PodCgroup>) -> Vec<PodStatus> {
        let mut rows = Vec::new();
        for (uid, cgroup) in cgroups {
            let Some(pod) = self.parts.known.pods.of_cgroup(uid).cloned() else {
                rows.push(row(uid, cgroup, None, None));
                continue;
            };
            let standing = self.standing(uid, &pod, cgroup);
            rows.push(row(uid, cgroup, Some(&pod), Some(&standing)));
            if self.standings.get(&cgroup.id) == Some(&standing) {
                continue;
            }
            match self.parts.kernel.set_pod(cgroup.id, &standing) {
                Ok(()) => {
                    self.look_at_wires = true;
                    self.standings.insert(cgroup.id, standing);
                }
                Err(error) => self.problem(&error),
            }
        }
        rows
    }

    fn standing(&mut self, uid: &PodUid, pod: &ClassifiedPod, cgroup: &PodCgroup) -> Standing {
        let name = match &pod.class {
            PodClass::Agent { name } => name,
            PodClass::System => return Standing::System,
            PodClass::Ordinary => return Standing::Ordinary,
        };
        let Parts { agents, kernel, .. } = &mut self.parts;
        let port = match agents.serve(uid, pod, name, cgroup, kernel.as_ref()) {
            Ok(port) => port,
            Err(error) => {
                self.problem(&error);
                None
            }
        };
        self.waits |= port.is_none();
        let config = &self.parts.config;
        let own = config.agents.get(name);
        Standing::Agent {
            port,
            mode: own.and_then(|own| own.mode).unwrap_or(config.egress),
            allow: own.map(|own| own.allow.clone()).unwrap_or_default(),
        }
    }

    /// Entries of cgroups that are gone, those of daemons before this one included.
    fn remove_dead(&mut self, cgroups: &BTreeMap<PodUid, PodCgroup>) {
        let alive: BTreeSet<u64> = cgroups.values().map(|cgroup| cgroup.id).collect();
        let known = match self.parts.kernel.pods() {
            Ok(known) => known,
            Err(error) => return self.problem(&error),
        };
        for cgroup in known.difference(&alive) {
            match self.parts.kernel.remove_pod(*cgroup) {
                Ok(()) => _ = self.standings.remove(cgroup),
                Err(error) => self.problem(&error),
            }
        }
    }

    /// Closes the node's ends of agents' cables, after the kernel knows whose they are. The rows get what is closed.
    fn wire_agents(&mut self, mut rows: Vec<PodStatus>) -> Vec<PodStatus> {
        if std::mem::take(&mut self.look_at_wires) {
            self.wire_problems.clear();
            let wired = self.parts.agents.cables().map_err(|error| chain(&error));
            match wired {
                Ok(cables) => self.change_wires(&cables),
                Err(problem) => self
                    .wire_problems
                    .push(format!("looking for the interfaces of agents: {problem}")),
            }
        }
        for row in &mut rows {
            let own = self.wires.iter().filter(|(_, cgroup)| **cgroup == row.cgroup);
            row.interfaces = own.map(|(interface, _)| *interface).collect();
        }
        rows
    }

    fn change_wires(&mut self, cables: &BTreeMap<u32, u64>) {
        let kernel = &mut self.parts.kernel;
        for (&interface, &cgroup) in cables {
            if self.wires.get(&interface) == Some(&cgroup) {
                continue;
            }
            match kernel.guard_interface(interface, cgroup) {
                Ok(()) => _ = self.wires.insert(interface, cgroup),
                Err(error) => self.wire_problems.push(chain(&error)),
            }
        }
        let gone: Vec<u32> = self
            .wires
            .keys()
            .filter(|wire| !cables.contains_key(wire))
            .copied()
            .collect();
        for interface in gone {
            match kernel.unguard_interface(interface) {
                Ok(()) => _ = self.wires.remove(&interface),
                Err(error) => self.wire_problems.push(chain(&error)),
            }
        }
    }

    fn keep(&mut self) {
        let known = &self.parts.known;
        // Times alone are not worth a write: the addresses and the pods are what a start needs.
        let kept = &self.kept;
        let is_kept = known.pods == kept.pods && known.nodes == kept.nodes;
        if is_kept && known.api.addresses() == kept.api.addresses() {
            return;
        }
        match self.parts.state.keep(known) {
            Ok(()) => self.kept = known.clone(),
            Err(error) => self.problem(&error),
        }
    }
}

fn row(
    uid: &PodUid,
    cgroup: &PodCgroup,
    pod: Option<&ClassifiedPod>,
    standing: Option<&Standing>,
) -> PodStatus {
    let class = match pod.map(|pod| &pod.class) {
        Some(PodClass::Agent { .. }) => "agent",
        Some(PodClass::System) => "system",
        Some(PodClass::Ordinary) => "ordinary",
        None => "unknown",
    };
    let agent = match pod.map(|pod| &pod.class) {
        Some(PodClass::Agent { name }) => Some(name.clone()),
        Some(PodClass::System | PodClass::Ordinary) | None => None,
    };
    let (port, egress) = match standing {
        Some(Standing::Agent { port, mode, .. }) => {
            let mode = match mode {
                EgressMode::AllowList => "allowList",
                EgressMode::BlockList => "blockList",
            };
            (*port, Some(mode.to_owned()))
        }
        Some(Standing::System | Standing::Ordinary) | None => (None, None),
    };
    PodStatus {
        uid: uid.as_str().to_owned(),
        cgroup: cgroup.id,
        namespace: pod.map(|pod| pod.identity.namespace.clone()).unwrap_or_default(),
        name: pod.map(|pod| pod.identity.name.clone()).unwrap_or_default(),
        class: class.to_owned(),
        agent,
        port,
        egress,
        interfaces: Vec::new(),
    }
}
