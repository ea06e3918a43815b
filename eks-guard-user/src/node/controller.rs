//! Keeps the kernel and the listeners as the cluster says they should be. One task owns all of it; everything it learns is
//! taken in first and then acted on as a whole, so that the order in which things are learned does not matter.

mod row;
mod wires;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::ebpf::Stats;
use crate::ebpf::node::Events;
use crate::node::agents::Agents;
use crate::node::api_ports::{ApiPorts, Nodes};
use crate::node::api_set::{Services, Source};
use crate::node::cgroup::{PodCgroup, PodUid, scan};
use crate::node::config::{EgressMode, NodeConfig};
use crate::node::controller::row::row;
use crate::node::daemon::events::{AgentPod, Directory};
use crate::node::kernel::{Destinations, Health, Kernel, KernelError, Standing};
use crate::node::kube::{Change, EndpointSlice, Node, Object, Pod, Service};
use crate::node::pods::{ClassifiedPod, PodClass};
use crate::node::proxy_process::ToProxy;
use crate::node::refusals::bypass_attempts;
use crate::node::state::{Known, State};
use crate::node::status::{PodStatus, Status};
use crate::telemetry::chain;
use crate::tls::downstream::Leaves;

/// Pods that the kernel is asked about when layers are looked at.
const SAMPLE: usize = 16;
/// Kinds of repairs that are counted apart.
const REPAIRS: usize = 256;

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

/// A reason code, and the sentence that goes with it.
pub type Notice = (&'static str, String);

/// The one owner of the node's state.
pub struct Controller {
    parts: Parts,
    services: Services,
    nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Every address of this node, those that its object does not name included.
    own_addresses: BTreeSet<IpAddr>,
    are_pods_listed: bool,
    /// Addresses of the API server.
    api: BTreeSet<SocketAddr>,
    /// What the kernel was told last.
    destinations: Option<Destinations>,
    /// Whether all that are to be closed are.
    are_all_closed: bool,
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
    /// Agents, by the cgroups of their pods.
    residents: BTreeMap<u64, AgentPod>,
    /// What was put back since the start, and how often.
    repairs: BTreeMap<String, u64>,
    /// What is to be in the record: reason and sentence.
    notices: Vec<Notice>,
    /// Agents whose older connections were looked for.
    swept: BTreeSet<u64>,
    /// Why some could not be ended.
    sweep_problem: Option<String>,
    /// Older versions of the programs may still be attached.
    has_others: bool,
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
            api: BTreeSet::new(),
            destinations: None,
            are_all_closed: false,
            standings: BTreeMap::new(),
            problems: Vec::new(),
            wires: BTreeMap::new(),
            wire_problems: Vec::new(),
            look_at_wires: true,
            faults: Vec::new(),
            residents: BTreeMap::new(),
            repairs: BTreeMap::new(),
            notices: Vec::new(),
            swept: BTreeSet::new(),
            sweep_problem: None,
            has_others: true,
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
    pub fn take_endpoint(&mut self, addresses: &BTreeSet<SocketAddr>, now: Instant) {
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

    /// Whether the pod of a cgroup is what it is to be: classified and, as an agent, served.
    #[must_use]
    pub fn is_ready(&self, cgroup: u64) -> bool {
        match self.standings.get(&cgroup) {
            Some(Standing::Agent { listener, .. }) => listener.is_some(),
            Some(Standing::System | Standing::Ordinary) => true,
            None => false,
        }
    }

    /// Whether an agent waits for its listener, and reaches nothing until it has one.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Looks whether the kernel really runs what was attached, for a sample of pods too, and whether agents have their
    /// listeners; what does not hold is put back. The next time the kernel is told anything, interfaces are looked at again.
    pub fn verify(&mut self) {
        self.look_at_wires = true;
        let cgroups = scan(&self.parts.root).unwrap_or_default();
        let sample: Vec<&Path> = cgroups
            .values()
            .take(SAMPLE)
            .map(|cgroup| cgroup.path.as_path())
            .collect();
        let Health { mut repaired, faults } = self.parts.kernel.repair(&sample);
        repaired.extend(self.parts.agents.drop_dead_listeners());
        if faults != self.faults {
            faults.iter().for_each(|fault| tracing::error!("{fault}"));
            self.faults = faults;
        }
        for what in &repaired {
            tracing::error!("{what}; it was put back");
            if self.repairs.len() < REPAIRS || self.repairs.contains_key(what) {
                *self.repairs.entry(what.clone()).or_default() += 1;
            }
        }
        let notices = repaired.into_iter().map(|what| ("LayerRepaired", what));
        self.notices.extend(notices);
    }

    /// What is to be in the record since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Makes the kernel and the listeners what they should be. What fails is in the status, and tried again the next time;
    /// until then it stays as closed as it was.
    pub fn reconcile(&mut self, now: Instant) -> Status {
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
        self.retire_others();
        self.keep();
        let stats = self.stats();
        Status {
            node: self.parts.config.node_name.clone(),
            attached: self.faults.is_empty(),
            lost: self.faults.clone(),
            synced: self.is_synced(),
            api: self.api.iter().copied().collect(),
            forwarding_closed: self.parts.kernel.is_forwarding_closed(),
            redirected: stats.redirected,
            flows: stats.flows,
            refusals: refusals(&stats),
            events_lost: stats.events_lost,
            bypass_attempts: bypass_attempts(&stats),
            forwarding_dropped: self.parts.kernel.forwarding_dropped(),
            repairs: self.repairs.clone(),
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
        problems.extend(self.sweep_problem.clone());
        if !self.parts.agents.is_node_record_healthy() {
            problems.push("the node's record is not being written".to_owned());
        }
        if self.parts.known.api.is_crowded() {
            problems.push(
                "too many Services lead to the API server: those that were named longest ago are not closed to agents"
                    .to_owned(),
            );
        }
        problems
    }

    /// What the programs tell of refusals, for one reader.
    ///
    /// # Errors
    /// They cannot be watched.
    pub fn events(&self) -> Result<Option<Events>, KernelError> {
        self.parts.kernel.events()
    }

    /// Who is on the node, for who reads events.
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory {
            agents: self.residents.clone(),
            interfaces: self.wires.clone(),
        }
    }

    /// Events that nobody could read, those of daemons before this one included.
    #[must_use]
    pub fn events_lost(&self) -> u64 {
        self.parts.kernel.stats().map_or(0, |stats| stats.events_lost)
    }

    fn stats(&mut self) -> Stats {
        self.parts.kernel.stats().unwrap_or_else(|error| {
            self.problem(&error);
            Stats::default()
        })
    }

    fn problem(&mut self, error: &dyn std::error::Error) {
        let text = chain(error);
        tracing::error!("{text}");
        self.problems.push(text);
    }

    fn classify_destinations(&mut self, now: Instant) {
        let config = &self.parts.config;
        let api = &mut self.parts.known.api;
        let mut addresses = api.addresses();
        addresses.extend(&config.api_servers);
        let named = self.services.api_addresses(&addresses);
        api.observe(Source::Cluster, &named.own, now);
        api.observe(Source::Aliases, &named.aliases, now);
        addresses.extend(api.addresses());
        if !self.nodes.is_empty() {
            let nodes = Nodes {
                named: &self.nodes,
                this: &config.node_name,
                own: &self.own_addresses,
            };
            self.parts.known.api_ports = ApiPorts::of(&addresses, &named.node_ports, nodes);
        }
        let this_node = self.nodes.get(&config.node_name).cloned().unwrap_or_default();
        let on_node = named.on_node(&(&this_node | &self.own_addresses));
        let own = api.own().into_iter().chain(config.api_servers.iter().copied());
        let own: Vec<IpAddr> = own
            .chain(on_node.iter().copied())
            .map(|server| server.ip())
            .collect();
        addresses.extend(on_node);
        self.api.clone_from(&addresses);
        let destinations = Destinations {
            api_ports: self.parts.known.api_ports.clone(),
            nodes: &self.parts.known.nodes | &self.own_addresses,
            kubelet_ports: config.kubelet_ports,
            other_clusters: config.other_clusters.clone(),
            api: addresses,
        };
        match self.parts.leaves.add(own) {
            Ok(Some(leaf)) => self.parts.agents.link().keep(ToProxy::Leaf(leaf.clone())),
            Ok(None) => {}
            Err(error) => self.problem(&error),
        }
        if self.destinations.as_ref() == Some(&destinations) {
            return;
        }
        let classified = self.parts.kernel.classify(&destinations);
        self.are_all_closed = classified.is_ok();
        match classified {
            Ok(()) => self.destinations = Some(destinations),
            Err(error) => {
                // Some of them are in: what was known before is to be told again, too.
                self.destinations = None;
                self.problem(&error);
            }
        }
    }

    fn classify_pods(&mut self, cgroups: &BTreeMap<PodUid, PodCgroup>) -> Vec<PodStatus> {
        let mut rows = Vec::new();
        self.residents.clear();
        for (uid, cgroup) in cgroups {
            let Some(pod) = self.parts.known.pods.of_cgroup(uid).cloned() else {
                rows.push(row(uid, cgroup, None, None));
                continue;
            };
            if let PodClass::Agent { name } = &pod.class {
                let resident = AgentPod {
                    path: cgroup.path.clone(),
                    agent: name.clone(),
                    identity: pod.identity.clone(),
                };
                self.residents.insert(cgroup.id, resident);
            }
            let standing = self.standing(uid, &pod, cgroup);
            rows.push(row(uid, cgroup, Some(&pod), Some(&standing)));
            if self.standings.get(&cgroup.id) == Some(&standing) {
                continue;
            }
            match self.parts.kernel.set_pod(cgroup.id, &standing) {
                Ok(()) => {
                    self.look_at_wires = true;
                    self.end_older(uid, cgroup, &standing);
                    self.standings.insert(cgroup.id, standing);
                }
                Err(error) => {
                    // An agent that is not on record has a cable all the same, and it is to be closed.
                    self.look_at_wires = true;
                    self.problem(&error);
                }
            }
        }
        rows
    }

    /// Ends what a pod opened before it became an agent, once, as soon as its network is known.
    fn end_older(&mut self, uid: &PodUid, cgroup: &PodCgroup, standing: &Standing) {
        let Standing::Agent {
            listener: Some(_), ..
        } = standing
        else {
            return;
        };
        let Parts { agents, kernel, .. } = &self.parts;
        let Some((netns, owner)) = agents.network_of(uid, cgroup) else {
            return;
        };
        if !self.swept.insert(cgroup.id) {
            return;
        }
        match kernel.end_older(netns.file.as_fd(), owner, standing) {
            Ok(0) => {}
            Ok(ended) => {
                let what = format!("{ended} connections of pod {uid} that are older than its guard");
                tracing::info!("ended {what}");
                self.notices.push(("ConnectionsEnded", what));
            }
            Err(error) => {
                let text = chain(&error);
                tracing::error!("{text}");
                self.sweep_problem = Some(text);
            }
        }
    }

    fn standing(&mut self, uid: &PodUid, pod: &ClassifiedPod, cgroup: &PodCgroup) -> Standing {
        let name = match &pod.class {
            PodClass::Agent { name } => name,
            PodClass::System => return Standing::System,
            PodClass::Ordinary => return Standing::Ordinary,
        };
        let Parts { agents, kernel, .. } = &mut self.parts;
        let listener = match agents.serve(uid, pod, name, cgroup, kernel.as_ref()) {
            Ok(listener) => listener,
            Err(error) => {
                self.problem(&error);
                None
            }
        };
        self.waits |= listener.is_none();
        let config = &self.parts.config;
        let own = config.agents.get(name);
        let mode = own.and_then(|own| own.mode).unwrap_or(config.egress);
        Standing::Agent {
            listener,
            // What should be closed and is not can still not be named.
            mode: if self.are_all_closed && self.parts.kernel.is_forwarding_closed() {
                mode
            } else {
                EgressMode::AllowList
            },
            allow: own.map(|own| own.allow.clone()).unwrap_or_default(),
            own: pod.addresses.clone(),
        }
    }

    /// Entries of cgroups that are gone, those of daemons before this one included.
    fn remove_dead(&mut self, cgroups: &BTreeMap<PodUid, PodCgroup>) {
        let alive: BTreeSet<u64> = cgroups.values().map(|cgroup| cgroup.id).collect();
        let known = match self.parts.kernel.pods() {
            Ok(known) => known,
            Err(error) => return self.problem(&error),
        };
        // Whom the kernel does not know any more, it is to be told of again.
        self.standings.retain(|cgroup, _| known.contains(cgroup));
        self.swept.retain(|cgroup| alive.contains(cgroup));
        for cgroup in known.difference(&alive) {
            match self.parts.kernel.remove_pod(*cgroup) {
                Ok(()) => _ = self.standings.remove(cgroup),
                Err(error) => self.problem(&error),
            }
        }
    }

    /// Takes off what older versions have attached, as soon as these programs know every pod.
    fn retire_others(&mut self) {
        if !self.has_others || !self.is_synced() || !self.problems.is_empty() {
            return;
        }
        match self.parts.kernel.retire_others() {
            Ok(_) => self.has_others = false,
            Err(error) => self.problem(&error),
        }
    }

    fn keep(&mut self) {
        let known = &self.parts.known;
        // Times alone are not worth a write: the addresses and the pods are what a start needs.
        let kept = &self.kept;
        let is_kept =
            known.pods == kept.pods && known.nodes == kept.nodes && known.api_ports == kept.api_ports;
        if is_kept && known.api.addresses() == kept.api.addresses() {
            return;
        }
        match self.parts.state.keep(known) {
            Ok(()) => self.kept = known.clone(),
            Err(error) => self.problem(&error),
        }
    }
}

/// What was refused, by hook.
fn refusals(stats: &Stats) -> BTreeMap<String, u64> {
    let mut refusals = BTreeMap::new();
    for (hook, _, count) in &stats.refusals {
        *refusals.entry(format!("{hook:?}").to_lowercase()).or_default() += count;
    }
    refusals
}
