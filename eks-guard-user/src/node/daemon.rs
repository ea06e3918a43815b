//! The composition root of `eks-guard node`: builds every part in order, keeps them going, and ends without opening anything.
//!
//! The order is: what is remembered; the kernel side, if enough is remembered to close it; the API server; the kernel side,
//! if this is the first start, once pods and Services are known, so that no ordinary pod is cut off meanwhile.

mod deciding;
pub mod events;
mod gate;
mod learn;
mod reload;
pub(crate) mod upstream;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{interval, sleep};
use uuid::Uuid;

use crate::ebpf::cgroup2_mount;
use crate::node::addresses;
use crate::node::agents::Agents;
use crate::node::canaries::{Canaries, default_probe};
use crate::node::cgroup::processes::{Netns, pod_of};
use crate::node::cgroup::{find_root, scan, watch as cgroup_watch};
use crate::node::config::NodeConfig;
use crate::node::controller::{Controller, Parts};
use crate::node::daemon::deciding::Deciding;
use crate::node::daemon::events::Watch;
use crate::node::daemon::gate::Gate;
use crate::node::daemon::learn::{Learned, first_look, learn};
pub(crate) use crate::node::daemon::reload::Reload;
use crate::node::enforcement::{Owner, Teller};
use crate::node::kernel::{Destinations, Kernel, Standing};
use crate::node::programs;
use crate::node::proxy_process::{ProxyLink, ProxyProcess, Session, Setup, ToProxy, publish};
use crate::node::refusals::Kind;
use crate::node::reporting::{Plan, Reporting};
use crate::node::state::{Known, State};
use crate::node::status::{self, Status};
use crate::proxy::Limits;
use crate::proxy::upstream::UpstreamPool;
use crate::recording::writer::{DiskRecorder, SessionFacts};
use crate::telemetry::say;
use crate::tls::downstream::Leaves;
use crate::upstream::{CredentialSource, Endpoint};

/// What the node's own events say instead of an agent's name.
const NODE_SESSION: &str = "eks-guard-node";
/// Changes that wait to be taken in.
const WAITING: usize = 1024;
/// How often a listener that could not be made is tried again.
const LISTENER_RETRY: Duration = Duration::from_millis(200);
/// How often files are looked at for changes.
const RELOAD: Duration = Duration::from_secs(5);
/// How long what still runs inside the runtime may take to notice that it is over.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Why the daemon ended.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until SIGTERM or SIGINT. The kernel side stays as it is when it ends, however it ends.
///
/// # Errors
/// The first part that cannot be built.
pub(crate) fn run(config: NodeConfig, reload: Reload, log: Option<String>) -> Result<(), Failure> {
    let workers = available_parallelism().map_or(2, NonZero::get).clamp(2, 8);
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("guard")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let mut ends = signal(SignalKind::terminate())?;
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut daemon = tokio::select! {
            daemon = Daemon::start(config, reload, Process { log, workers }) => daemon?,
            _ = ends.recv() => return Ok(()),
            _ = interrupts.recv() => return Ok(()),
        };
        say("the node is guarded");
        tokio::select! {
            () = daemon.serve() => {}
            _ = ends.recv() => {}
            _ = interrupts.recv() => {}
        }
        daemon.stop().await;
        Ok(())
    });
    runtime.shutdown_timeout(SHUTDOWN);
    ended
}

/// How the proxy process runs.
struct Process {
    log: Option<String>,
    workers: usize,
}

/// A running daemon.
struct Daemon {
    controller: Controller,
    deciding: Deciding,
    reload: Reload,
    proxy: Arc<ProxyProcess>,
    proxy_changes: watch::Receiver<u64>,
    learned: mpsc::Receiver<Learned>,
    cgroups: mpsc::Receiver<()>,
    gate: Gate,
    status: watch::Sender<Status>,
    reporting: Reporting,
    /// What the kernel programs tell, and its record.
    watch: Arc<Watch>,
    /// Packets that were dropped behind the rewriting, as far as was told.
    forwarding_dropped: u64,
    /// Events that nobody could read, as far as was told.
    events_lost: u64,
    /// Watches, the status socket, the proxy; they end with it.
    _tasks: JoinSet<()>,
}

impl Daemon {
    async fn start(config: NodeConfig, reload: Reload, process: Process) -> Result<Self, Failure> {
        let state = block_in_place(|| State::open(&config.state))?;
        let known = block_in_place(|| programs::recall(state.known(), &config.pins));
        let root = block_in_place(|| kubepods_root(&config))?;
        let remembered = remembered(&known, &config);
        let early = (!remembered.api.is_empty())
            .then(|| block_in_place(|| open_kernel(&config, &root, &remembered)))
            .transpose()?;
        let (endpoint, credentials) = upstream::patiently(&config.upstream).await?;
        let leaves = Leaves::new(state.authority()?, &endpoint)?;
        let mut tasks = JoinSet::new();
        let (learned_tx, mut learned_rx) = mpsc::channel(WAITING);
        let own = Arc::new(upstream::own_pool(&endpoint, &credentials)?);
        learn(&mut tasks, &config, &own, &endpoint, &learned_tx);
        let (kernel, looked) = match early {
            Some(kernel) => (kernel, Vec::new()),
            None => {
                let looked = first_look(&mut learned_rx).await;
                let mut known = remembered;
                known.api.extend(&endpoint.addresses);
                (block_in_place(|| open_kernel(&config, &root, &known))?, looked)
            }
        };
        let cgroups = cgroup_watch::watch(&root)?;
        let (status_tx, status_rx) = watch::channel(Status::default());
        tasks.spawn(status::serve(status::listen(&config.state)?, status_rx));
        let node = Session::open(&config.records, node_session())?;
        let record = DiskRecorder::open(&config.records, node_session())?;
        let proxy = start_proxy(&mut tasks, &endpoint, credentials, process);
        let plan = report_plan((&config, &root), &own, &proxy);
        let reporting = Reporting::start(&mut tasks, plan, &status_tx).await?;
        proxy.keep(ToProxy::Leaf(leaves.leaf().clone()));
        let deciding = Deciding::begin(&config, &own, &proxy);
        let gate = Gate::open(&mut tasks, &config);
        let mut agents = Agents::new(Arc::clone(&proxy) as _, &config.records, node);
        agents.set_node_netns(&Netns::open(Path::new("/proc/self/ns/net"))?);
        let controller = Controller::new(Parts {
            config,
            root,
            state,
            known,
            kernel,
            agents,
            leaves,
        });
        let mut daemon = Self {
            watch: Watch::start(controller.events()?, record, &mut tasks),
            forwarding_dropped: 0,
            events_lost: controller.events_lost(),
            controller,
            deciding,
            reload,
            proxy_changes: proxy.changes(),
            proxy,
            learned: learned_rx,
            cgroups,
            gate,
            status: status_tx,
            reporting,
            _tasks: tasks,
        };
        daemon.take(Learned::Endpoint(endpoint.addresses.iter().copied().collect()));
        looked.into_iter().for_each(|learned| daemon.take(learned));
        daemon.look_at_files();
        daemon.reconcile();
        Ok(daemon)
    }

    /// Never ends; it may be dropped at any point where it waits.
    async fn serve(&mut self) {
        let mut files = interval(RELOAD);
        loop {
            tokio::select! {
                Some(learned) = self.learned.recv() => {
                    self.take(learned);
                    while let Ok(more) = self.learned.try_recv() {
                        self.take(more);
                    }
                }
                Some(()) = self.cgroups.recv() => {}
                () = self.reporting.changed() => {}
                Ok(()) = self.proxy_changes.changed() => {}
                () = self.gate.next() => {}
                () = sleep(LISTENER_RETRY), if self.controller.waits() || self.gate.is_waited_at() => {}
                _ = files.tick() => self.look_at_files(),
            }
            self.reconcile();
        }
    }

    fn take(&mut self, learned: Learned) {
        match learned {
            Learned::Pod(change) => self.controller.take_pod(change),
            Learned::Service(change) => self.controller.take_service(change),
            Learned::Slice(change) => self.controller.take_slice(change),
            Learned::Node(change) => self.controller.take_node(change),
            Learned::Namespace(change) => self.deciding.take_namespace(change),
            Learned::Policy(change) => self.deciding.take_policy(change),
            Learned::Endpoint(addresses) => {
                self.controller.take_endpoint(&addresses, Instant::now());
                let addresses = addresses.into_iter().collect();
                block_in_place(|| self.proxy.keep(ToProxy::Addresses(addresses)));
            }
        }
    }

    fn look_at_files(&mut self) {
        self.deciding.look(&mut self.reload);
        if let Some(config) = block_in_place(|| self.reload.look_at_config()) {
            self.controller.configure(config);
        }
        match addresses::own() {
            Ok(own) => self.controller.take_own_addresses(own),
            Err(error) => tracing::error!(%error, "this node's addresses are not known"),
        }
        block_in_place(|| self.controller.verify());
    }

    /// What is counted beside the controller.
    fn add_refusals(&mut self, status: &mut Status) {
        self.watch.directory.store(Arc::new(self.controller.directory()));
        let mut tally = self.watch.tally();
        tally.keep_only(|pod| status.pods.iter().any(|row| row.cgroup == pod));
        for row in &mut status.pods {
            let counts = tally.of(row.cgroup);
            (row.refused, row.bypass_attempts) = (counts.refused, counts.bypass_attempts);
        }
        let new = status.forwarding_dropped.saturating_sub(self.forwarding_dropped);
        self.forwarding_dropped = status.forwarding_dropped;
        drop(tally);
        status.bypass_attempts += status.forwarding_dropped;
        let lost = status.events_lost.saturating_sub(self.events_lost);
        self.events_lost = self.events_lost.max(status.events_lost);
        if lost > 0 {
            self.watch.tell_lost(lost);
        }
        if new > 0 {
            let what =
                format!("the node would have forwarded {new} packets of agents to what is closed to them");
            tracing::error!("bypass attempted: {what}");
            self.watch.tell(Kind::BypassAttempted.reason(), what);
        }
    }

    fn reconcile(&mut self) {
        self.deciding.settle(&mut self.reload);
        let mut status = block_in_place(|| self.controller.reconcile(Instant::now()));
        let facts = self.proxy.facts();
        status.loader = std::process::id();
        status.proxy = facts.pid;
        status.proxy_restarts = facts.restarts;
        self.deciding.add_to(&mut status);
        status
            .problems
            .extend(self.reload.problems().chain(facts.problem));
        self.gate.settle(&self.controller, &mut status);
        self.reporting.add_to(&mut status);
        self.add_refusals(&mut status);
        for (reason, what) in self.controller.take_notices() {
            self.watch.tell(reason, what);
        }
        self.status.send_replace(status);
    }

    async fn stop(self) {
        self.deciding.end().await;
        self.proxy.stop(Limits::default().drain).await;
        self.controller.stop().await;
        self.watch.end().await;
    }
}

/// What the daemon says beyond its status socket.
fn report_plan(
    (config, root): (&NodeConfig, &Path),
    upstream: &Arc<UpstreamPool>,
    proxy: &ProxyProcess,
) -> Plan {
    let mut registry = Registry::default();
    proxy.metrics().register(&mut registry);
    let trying = config.verify.as_ref().map(|verify| {
        let canaries = Canaries {
            config: config.clone(),
            root: root.to_owned(),
            probe: verify.probe.clone().unwrap_or_else(default_probe),
            interval: verify.interval,
        };
        let teller = Teller {
            upstream: Arc::clone(upstream),
            node: config.node_name.clone(),
            owner: Owner::Daemon,
        };
        (canaries, teller)
    });
    Plan {
        listen: config.metrics,
        registry,
        trying,
    }
}

/// Starts the proxy of all agents; it ends with the tasks.
fn start_proxy(
    tasks: &mut JoinSet<()>,
    endpoint: &Endpoint,
    credentials: Arc<dyn CredentialSource>,
    process: Process,
) -> Arc<ProxyProcess> {
    let setup = Setup {
        endpoint: endpoint.into(),
        log: process.log,
        workers: process.workers,
    };
    let refused = Arc::new(Notify::new());
    let proxy = ProxyProcess::new(setup, Arc::clone(&refused));
    tasks.spawn(publish(credentials, Arc::clone(&proxy) as _, refused));
    tasks.spawn(Arc::clone(&proxy).keep_running());
    proxy
}

/// Root of the pods' cgroups.
///
/// # Errors
/// There is none, or several.
pub(crate) fn kubepods_root(config: &NodeConfig) -> Result<PathBuf, Failure> {
    match &config.cgroup_root {
        Some(root) => Ok(root.clone()),
        None => Ok(find_root(&cgroup2_mount::find()?)?),
    }
}

/// The kernel side, with the way to the API server open for this daemon: its own pod has no class before the API server has
/// been asked, and without one it could not ask.
fn open_kernel(
    config: &NodeConfig,
    root: &Path,
    destinations: &Destinations,
) -> Result<Box<dyn Kernel>, Failure> {
    let pods = scan(root)?;
    let mut kernel = programs::open(config, root, destinations)?;
    if let Some(own) = pod_of(std::process::id(), &pods) {
        kernel.set_pod(own.id, &Standing::System)?;
    }
    Ok(kernel)
}

/// What is closed before the API server has been asked anything.
fn remembered(known: &Known, config: &NodeConfig) -> Destinations {
    let mut api = known.api.addresses();
    if !api.is_empty() {
        api.extend(&config.api_servers);
    }
    Destinations {
        api,
        api_ports: known.api_ports.clone(),
        nodes: known.nodes.clone(),
        kubelet_ports: config.kubelet_ports,
        other_clusters: config.other_clusters.clone(),
    }
}

fn node_session() -> SessionFacts {
    SessionFacts {
        session: Uuid::now_v7().to_string(),
        agent: NODE_SESSION.to_owned(),
        model_claimed: None,
        pod: None,
        labels: None,
        command: None,
    }
}
