//! The whole node but the kernel, on a tree of folders and objects as the API server tells them.

mod destinations;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::ebpf::Stats;
use crate::ebpf::node::Events;
use crate::ebpf::original_dst::FlowTable;
use crate::node::agents::Agents;
use crate::node::cables::Cables;
use crate::node::cgroup::processes::Netns;
use crate::node::config::{EgressMode, NodeConfig};
use crate::node::controller::{Controller, Parts};
use crate::node::kernel::{Destinations, Health, Interfaces, Kernel, KernelError, Others, Standing};
use crate::node::kube::{Change, Pod};
use crate::node::older::Owner;
use crate::node::proxy_process::{FlowTables, ProxyLink, Resident, Session, ToProxy};
use crate::node::state::{Known, State};
use crate::node::status::{PodStatus, Status};
use crate::recording::writer::SessionFacts;
use crate::testing::{FakeApiServer, FakeFlows, Protocol, json};
use crate::tls::ca::RunCa;
use crate::tls::downstream::Leaves;

const AGENT: &str = "0f2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
const OTHER: &str = "aa2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
const OWN: &str = "10.244.0.7";
const STRANGER: &str = "bb2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";

/// What the kernel was told.
#[derive(Default)]
struct Told {
    destinations: Vec<Destinations>,
    pods: BTreeMap<u64, Standing>,
    wires: BTreeMap<u32, u64>,
    is_full: bool,
    has_no_room: bool,
    faults: Vec<String>,
    others: Option<Others>,
    has_no_filter: bool,
    lost: Vec<String>,
    retired: usize,
    swept: Vec<Owner>,
}

struct FakeKernel(Arc<Mutex<Told>>);

impl Kernel for FakeKernel {
    fn classify(&mut self, destinations: &Destinations) -> Result<(), KernelError> {
        let mut told = self.0.lock().unwrap();
        told.destinations.push(destinations.clone());
        if told.has_no_room {
            return Err(KernelError {
                doing: "setting the destinations".to_owned(),
                source: "the map is full".into(),
            });
        }
        Ok(())
    }

    fn set_pod(&mut self, cgroup: u64, standing: &Standing) -> Result<(), KernelError> {
        let mut told = self.0.lock().unwrap();
        if told.is_full {
            return Err(KernelError {
                doing: format!("setting cgroup {cgroup}"),
                source: "the map is full".into(),
            });
        }
        told.pods.insert(cgroup, standing.clone());
        Ok(())
    }

    fn remove_pod(&mut self, cgroup: u64) -> Result<(), KernelError> {
        self.0.lock().unwrap().pods.remove(&cgroup);
        Ok(())
    }

    fn pods(&self) -> Result<BTreeSet<u64>, KernelError> {
        Ok(self.0.lock().unwrap().pods.keys().copied().collect())
    }

    fn guard_interface(&mut self, interface: u32, cgroup: u64) -> Result<(), KernelError> {
        self.0.lock().unwrap().wires.insert(interface, cgroup);
        Ok(())
    }

    fn unguard_interface(&mut self, interface: u32) -> Result<(), KernelError> {
        self.0.lock().unwrap().wires.remove(&interface);
        Ok(())
    }

    fn guard_forwarding(&mut self, _interfaces: &Interfaces, others: Others) -> Result<(), KernelError> {
        self.0.lock().unwrap().others = Some(others);
        Ok(())
    }

    fn forwarding_dropped(&self) -> u64 {
        0
    }

    fn is_forwarding_closed(&self) -> bool {
        !self.0.lock().unwrap().has_no_filter
    }

    fn repair(&mut self, _below: &[&Path]) -> Health {
        let mut told = self.0.lock().unwrap();
        Health {
            repaired: std::mem::take(&mut told.lost),
            faults: told.faults.clone(),
        }
    }

    fn events(&self) -> Result<Option<Events>, KernelError> {
        Ok(None)
    }

    fn stats(&self) -> Result<Stats, KernelError> {
        Ok(Stats::default())
    }

    fn end_older(&self, _: BorrowedFd<'_>, owner: Owner, _: &Standing) -> Result<usize, KernelError> {
        self.0.lock().unwrap().swept.push(owner);
        Ok(3)
    }

    fn retire_others(&mut self) -> Result<usize, KernelError> {
        let mut told = self.0.lock().unwrap();
        told.retired += 1;
        Ok(0)
    }

    fn flows(&self, _socket: BorrowedFd<'_>) -> Result<Arc<dyn FlowTable>, KernelError> {
        Ok(Arc::new(FakeFlows::always()))
    }
}

/// A proxy that keeps the listeners it was handed, and notes the rest.
#[derive(Default)]
struct FakeLink {
    /// 0: there is none.
    incarnation: AtomicU64,
    told: Mutex<Vec<ToProxy>>,
    listeners: Mutex<Vec<OwnedFd>>,
    flows: FlowTables,
}

impl ProxyLink for FakeLink {
    fn incarnation(&self) -> Option<u64> {
        Some(self.incarnation.load(Ordering::SeqCst)).filter(|number| *number > 0)
    }

    fn tell(&self, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if matches!(message, ToProxy::Listen { .. }) {
            let own = descriptors.iter().map(|fd| fd.try_clone_to_owned().unwrap());
            self.listeners.lock().unwrap().extend(own);
        }
        self.told.lock().unwrap().push(message.clone());
        Ok(())
    }

    fn keep(&self, message: ToProxy) {
        self.told.lock().unwrap().push(message);
    }

    fn flows(&self) -> &FlowTables {
        &self.flows
    }
}

struct Rig {
    folder: TempDir,
    told: Arc<Mutex<Told>>,
    link: Arc<FakeLink>,
    controller: Controller,
}

impl Rig {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(folder, Arc::default()).await
    }

    async fn on(folder: TempDir, told: Arc<Mutex<Told>>) -> Self {
        let api = FakeApiServer::start(Protocol::H2, |_| json("{}")).await;
        let root = folder.path().join("kubepods");
        fs::create_dir_all(&root).unwrap();
        let state = State::open(&folder.path().join("state")).unwrap();
        let known = state.known();
        let leaves = Leaves::new(RunCa::generate().unwrap(), &api.endpoint).unwrap();
        let (link, records) = (Arc::new(FakeLink::default()), folder.path().join("records"));
        link.incarnation.store(1, Ordering::SeqCst);
        let facts = SessionFacts {
            session: Uuid::now_v7().to_string(),
            agent: "node".to_owned(),
            model_claimed: None,
            pod: None,
            labels: None,
            command: None,
        };
        let node = Session::open(&records, facts).unwrap();
        let agents = Agents::new(Arc::clone(&link) as _, &records, node);
        let parts = Parts {
            config: config(""),
            root,
            state,
            known,
            kernel: Box::new(FakeKernel(Arc::clone(&told))),
            agents,
            leaves,
        };
        Self {
            controller: Controller::new(parts),
            folder,
            told,
            link,
        }
    }

    /// The cgroup of a pod, with this process in it or none; its id.
    fn cgroup(&self, uid: &str, has_process: bool) -> u64 {
        let path = self.folder.path().join(format!("kubepods/pod{uid}"));
        fs::create_dir_all(&path).unwrap();
        let processes = if has_process {
            std::process::id().to_string()
        } else {
            String::new()
        };
        fs::write(path.join("cgroup.procs"), processes).unwrap();
        fs::metadata(&path).unwrap().ino()
    }

    fn standing(&self, cgroup: u64) -> Option<Standing> {
        self.told.lock().unwrap().pods.get(&cgroup).cloned()
    }

    fn reconcile(&mut self) -> Status {
        self.reconcile_at(Instant::now())
    }

    fn reconcile_at(&mut self, now: Instant) -> Status {
        self.controller.reconcile(now)
    }
}

fn config(more: &str) -> NodeConfig {
    let text = format!(
        "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec:\n  nodeName: node-a\n  upstream: {{kubeconfig: /k}}\n  apiServers: ['192.0.2.1:443']\n{more}"
    );
    NodeConfig::parse("node.yaml", &text, None).unwrap()
}

fn pod(uid: &str, agent: Option<&str>) -> Pod {
    let labels = agent.map_or(json!({}), |name| json!({"eks-guard.dev/agent": name}));
    serde_json::from_value(json!({
        "metadata": {"name": format!("p-{}", &uid[..2]), "namespace": "shop", "uid": uid, "labels": labels},
        "spec": {"nodeName": "node-a", "serviceAccountName": "bot"},
        "status": {"podIPs": [{"ip": OWN}, {"ip": "none"}]}
    }))
    .unwrap()
}

fn agent_without_port() -> Standing {
    Standing::Agent {
        listener: None,
        mode: EgressMode::AllowList,
        allow: Vec::new(),
        own: vec![OWN.parse().unwrap()],
    }
}

fn records(folder: &Path) -> String {
    let files = fs::read_dir(folder.join("records")).unwrap();
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

#[tokio::test]
async fn pods_are_told_to_the_kernel_by_what_they_are() {
    let mut rig = Rig::start().await;
    let (agent, other, stranger) = (
        rig.cgroup(AGENT, false),
        rig.cgroup(OTHER, false),
        rig.cgroup(STRANGER, false),
    );
    let status = rig.reconcile();
    assert!(!status.synced && rig.told.lock().unwrap().pods.is_empty());
    let listed = vec![pod(AGENT, Some("shop")), pod(OTHER, None)];
    rig.controller.take_pod(Change::Listed(listed));
    let status = rig.reconcile();
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
    assert_eq!(rig.standing(other), Some(Standing::Ordinary));
    assert_eq!(rig.standing(stranger), None, "an unknown cgroup has no entry");
    assert!(rig.controller.waits());
    let classes: Vec<&str> = status.pods.iter().map(|pod| pod.class.as_str()).collect();
    assert_eq!(classes, ["agent", "ordinary", "unknown"]);
    assert_eq!(status.problems, [""; 0]);

    // The label goes, the object goes: the agent stays until its cgroup goes.
    rig.controller.take_pod(Change::Set(pod(AGENT, None)));
    rig.reconcile();
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
    rig.controller.take_pod(Change::Gone(pod(AGENT, None)));
    rig.reconcile();
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
    fs::remove_dir_all(rig.folder.path().join(format!("kubepods/pod{AGENT}"))).unwrap();
    rig.reconcile();
    assert_eq!(rig.standing(agent), None);
    rig.controller.stop().await;
    let records = records(rig.folder.path());
    assert!(records.contains("the pod is gone"), "{records}");
    assert!(records.contains(&format!(r#""uid":"{AGENT}""#)), "{records}");
}

#[tokio::test]
async fn a_first_process_that_is_still_in_the_nodes_network_gets_no_listener_there() {
    let mut rig = Rig::start().await;
    let own = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
    rig.controller.parts.agents.set_node_netns(&own);
    let agent = rig.cgroup(AGENT, true);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    assert_eq!(rig.reconcile().pods[0].port, None);
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
    assert!(rig.controller.waits(), "it is looked at again");
}

#[tokio::test]
async fn an_agent_gets_a_listener_when_its_sandbox_is_there() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    rig.reconcile();
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
    rig.cgroup(AGENT, true);
    let status = rig.reconcile();
    // Entering a network namespace, even one's own, needs root; without it the agent stays shut out, and it is said.
    if rustix::process::geteuid().is_root() {
        let port = status.pods[0].port.unwrap();
        assert!(!rig.controller.waits());
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(
            rig.reconcile().pods[0].port,
            Some(port),
            "the same sandbox keeps its listener"
        );
        // Its older connections are looked for once, and with others in the network only its own.
        let swept = std::mem::take(&mut rig.told.lock().unwrap().swept);
        assert!(
            matches!(&swept[..], [Owner::Shared(own)] if own.contains(&agent)),
            "{swept:?}"
        );
        assert_eq!(rig.controller.take_notices()[0].0, "ConnectionsEnded");
        // The proxy dies: nobody listens, until the next one is handed another listener and the agent's workload again.
        rig.link.incarnation.store(0, Ordering::SeqCst);
        rig.link.listeners.lock().unwrap().clear();
        rig.link.told.lock().unwrap().clear();
        assert_eq!(rig.reconcile().pods[0].port, None);
        assert_eq!(rig.standing(agent), Some(agent_without_port()));
        assert!(rig.controller.waits());
        rig.link.incarnation.store(2, Ordering::SeqCst);
        let port = rig.reconcile().pods[0].port.unwrap();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let told = rig.link.told.lock().unwrap().clone();
        let cgroup = Resident::Agent(agent);
        assert!(
            matches!(told[0], ToProxy::Workload(resident, _) if resident == cgroup),
            "{told:?}"
        );
        assert!(
            matches!(told[1], ToProxy::Listen { resident, .. } if resident == cgroup),
            "{told:?}"
        );
    } else {
        assert_eq!(rig.standing(agent), Some(agent_without_port()));
        assert!(status.problems[0].contains("network namespace"), "{status:?}");
    }
    rig.controller.stop().await;
}

#[tokio::test]
async fn what_the_kernel_refuses_is_said_and_tried_again() {
    let mut rig = Rig::start().await;
    rig.reconcile();
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    {
        let mut told = rig.told.lock().unwrap();
        (told.is_full, told.others) = (true, None);
    }
    let status = rig.reconcile();
    assert!(status.problems[0].contains("the map is full"), "{status:?}");
    // Its cable is closed all the same.
    assert_eq!(rig.told.lock().unwrap().others, Some(Others::Stay));
    rig.told.lock().unwrap().is_full = false;
    assert_eq!(rig.reconcile().problems, [""; 0]);
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
}

#[tokio::test]
async fn the_next_daemon_knows_what_this_one_knew() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    let now = Instant::now();
    rig.controller
        .take_endpoint(&["198.51.100.1:443".parse().unwrap()].into(), now);
    let node = |name: &str, addresses: &[&str]| {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|address| json!({"address": address}))
            .collect();
        let node = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
        serde_json::from_value(node).unwrap()
    };
    // The API server runs on the second one.
    let nodes = vec![
        node("a", &["192.0.2.7"]),
        node("b", &["198.51.100.1", "203.0.113.8"]),
    ];
    rig.controller.take_node(Change::Listed(nodes));
    rig.reconcile();
    rig.controller.stop().await;
    // The kernel forgot everything and the API server is away.
    let mut next = Rig::on(rig.folder, Arc::default()).await;
    next.controller
        .take_own_addresses(["169.254.1.1".parse().unwrap()].into());
    let status = next.reconcile();
    assert!(!status.synced);
    let kubelets: BTreeSet<IpAddr> = ["192.0.2.7", "198.51.100.1", "203.0.113.8", "169.254.1.1"]
        .map(|text| text.parse().unwrap())
        .into();
    let told = next.told.lock().unwrap().destinations[0].clone();
    assert_eq!(told.nodes, kubelets);
    let ports: Vec<_> = told.api_ports.nodes.keys().map(ToString::to_string).collect();
    assert_eq!(ports, ["198.51.100.1", "203.0.113.8"]);
    assert!(
        status.api.contains(&"198.51.100.1:443".parse().unwrap()),
        "{status:?}"
    );
    assert_eq!(next.standing(agent), Some(agent_without_port()));
    assert_ne!(next.controller.parts.known, Known::default());
}

#[tokio::test]
async fn a_layer_that_does_not_hold_is_said_until_it_does() {
    let mut rig = Rig::start().await;
    rig.controller.verify();
    assert!(rig.reconcile().attached);
    rig.told.lock().unwrap().faults = vec!["program connect4 is detached".to_owned()];
    rig.controller.verify();
    let status = rig.reconcile();
    assert!(
        !status.attached && status.problems[0].contains("connect4"),
        "{status:?}"
    );
    rig.told.lock().unwrap().faults.clear();
    rig.controller.verify();
    assert!(rig.reconcile().attached);
}

#[tokio::test]
async fn what_was_put_back_is_counted_and_told_once() {
    let mut rig = Rig::start().await;
    for _ in 0..2 {
        rig.told.lock().unwrap().lost = vec!["program connect4 is detached".to_owned()];
        rig.controller.verify();
    }
    let status = rig.reconcile();
    assert!(status.attached, "{status:?}");
    let expected = BTreeMap::from([("program connect4 is detached".to_owned(), 2)]);
    assert_eq!(status.repairs, expected);
    assert_eq!(rig.controller.take_notices().len(), 2);
    assert_eq!(rig.controller.take_notices().len(), 0);
}

#[tokio::test]
async fn without_a_packet_filter_agents_are_held_to_their_lists() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    let egress = "  egress:\n    agents: [{agent: shop, mode: blockList}]\n";
    rig.controller.configure(config(egress));
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    rig.told.lock().unwrap().has_no_filter = true;
    let status = rig.reconcile();
    assert!(!status.forwarding_closed);
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
    rig.told.lock().unwrap().has_no_filter = false;
    rig.reconcile();
    assert_ne!(rig.standing(agent), Some(agent_without_port()));
    // Its listener is not there yet: interfaces that are closed stay so.
    assert_eq!(rig.told.lock().unwrap().others, Some(Others::Stay));
}

#[tokio::test]
async fn a_pod_that_the_kernel_forgot_is_told_again() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    rig.reconcile();
    rig.told.lock().unwrap().pods.clear();
    rig.reconcile();
    assert_eq!(rig.standing(agent), Some(agent_without_port()));
}

#[tokio::test]
async fn older_programs_go_when_every_pod_is_known() {
    let mut rig = Rig::start().await;
    rig.reconcile();
    assert_eq!(rig.told.lock().unwrap().retired, 0);
    rig.controller.take_pod(Change::Listed(vec![pod(AGENT, None)]));
    rig.controller.take_service(Change::Listed(Vec::new()));
    rig.controller.take_slice(Change::Listed(Vec::new()));
    rig.reconcile();
    rig.reconcile();
    assert_eq!(rig.told.lock().unwrap().retired, 1);
}

#[tokio::test]
async fn interfaces_follow_their_agents() {
    let mut rig = Rig::start().await;
    rig.controller.change_wires(&BTreeMap::from([(7, 1), (8, 2)]));
    rig.controller.change_wires(&BTreeMap::from([(7, 3)]));
    assert_eq!(rig.told.lock().unwrap().wires, BTreeMap::from([(7, 3)]));
    // An agent without listener may be there whose cable is not known to be one.
    rig.controller.waits = true;
    rig.controller.change_wires(&BTreeMap::new());
    assert_eq!(rig.told.lock().unwrap().wires, BTreeMap::from([(7, 3)]));
    let row = PodStatus {
        cgroup: 3,
        ..PodStatus::default()
    };
    rig.controller.look_at_wires = false;
    assert_eq!(rig.controller.wire_agents(vec![row])[0].interfaces, [7]);
}

#[tokio::test]
async fn an_agents_cable_stays_closed_when_its_processes_are_elsewhere() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    rig.reconcile();
    // The second is gone, and the third is that of an agent that is.
    rig.controller.wires = BTreeMap::from([(7, agent), (8, agent), (9, agent + 1)]);
    let cables = rig.controller.agents_cables(Cables::leading(&[(7, 0), (9, 1)]));
    assert_eq!(cables, BTreeMap::from([(7, agent)]));
}

#[tokio::test]
async fn entries_of_dead_cgroups_are_removed() {
    let told = Arc::new(Mutex::new(Told::default()));
    told.lock().unwrap().pods.insert(4711, Standing::Ordinary);
    let mut rig = Rig::on(tempfile::tempdir().unwrap(), Arc::clone(&told)).await;
    rig.reconcile();
    assert!(told.lock().unwrap().pods.is_empty());
}

#[tokio::test]
async fn another_configuration_changes_what_agents_may_reach() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    rig.reconcile();
    let egress = "  egress:\n    agents: [{agent: shop, mode: blockList, allow: [{to: 10.1.0.0/16}]}]\n";
    rig.controller.configure(config(egress));
    rig.reconcile();
    let Some(Standing::Agent { mode, allow, .. }) = rig.standing(agent) else {
        panic!("no agent")
    };
    assert_eq!((mode, allow.len()), (EgressMode::BlockList, 1));
}
