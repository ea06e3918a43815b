//! The proxy process itself: confines itself, and then serves what the loader hands it, until the loader is gone.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use eks_guard_core::policy::Snapshot;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ebpf::original_dst::Flow;
use crate::metrics::{Counts, Metrics};
use crate::node::policies::PolicyTexts;
use crate::node::proxy_process::confine::confine;
use crate::node::proxy_process::credential::ToldCredential;
use crate::node::proxy_process::message::{FromProxy, Resident, Setup, ToLoader, ToProxy, principal};
use crate::node::proxy_process::origins::{Asker, RemoteOrigins};
use crate::node::proxy_process::record::RemoteFile;
use crate::policy;
use crate::proxy::{Limits, Listener, Place, Proxy, ProxyParts, Sockets, Workload, Workloads};
use crate::recording::writer::{DiskRecorder, SessionFacts};
use crate::run::channel::Channel;
use crate::telemetry::{self, Colour, chain, say};
use crate::tls::downstream::{PresentLeaf, following};

/// How often the loader is told what was counted.
const COUNTS: Duration = Duration::from_secs(1);
/// It could not serve, or was not served itself.
const FAILED: u8 = 3;

/// Why it ended.
type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn main() -> ExitCode {
    let Ok(loader) = Channel::from_stdin() else {
        writeln!(
            io::stderr(),
            "eks-guard: this is an inner part of `eks-guard node` and not meant to be called"
        )
        .ok();
        return ExitCode::from(2);
    };
    match serve(&loader) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("proxy: {}", chain(error.as_ref())));
            ExitCode::from(FAILED)
        }
    }
}

fn serve(loader: &Channel) -> Result<(), Failure> {
    let Some(ToProxy::Setup(setup)) = loader.receive()? else {
        return Err("the loader did not say what to serve".into());
    };
    let questions = loader.receive_fds()?.pop().ok_or("no socket to ask on")?;
    telemetry::init(setup.log.as_deref(), Colour::Off)?;
    let ports = setup.endpoint.ports();
    confine(&[loader.as_fd(), questions.as_fd()], &ports)?;
    loader.send(&FromProxy::Confined)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(setup.workers)
        .thread_name("proxy")
        .enable_all()
        .build()?;
    let mut child = Child::new(setup, questions, loader, runtime)?;
    while let Some(message) = loader.receive::<ToProxy>()? {
        let descriptors = if message.carries_descriptors() {
            loader.receive_fds()?
        } else {
            Vec::new()
        };
        if matches!(message, ToProxy::Drain) {
            child.drain();
            return Ok(());
        }
        child.take(message, descriptors)?;
    }
    // The loader is gone. What is under way is cut off: nobody writes its records any more.
    Ok(())
}

/// Tells the loader what was counted, as often as there is something new, until it does not listen any more.
async fn tell_counts(metrics: Arc<Metrics>, loader: Arc<ToLoader>) {
    let mut told = Counts::default();
    loop {
        sleep(COUNTS).await;
        let counts = metrics.counts();
        if counts == told {
            continue;
        }
        let message = FromProxy::Counts(Box::new(counts.clone()));
        if let Err(error) = block_in_place(|| loader.say(&message)) {
            tracing::debug!(%error, "the loader cannot be told what was counted");
            return;
        }
        told = counts;
    }
}

/// Whose a connection is, by the cgroup in its flow entry.
#[derive(Default)]
struct ByCgroup {
    workloads: ArcSwap<HashMap<u64, Arc<Workload>>>,
}

impl Workloads for ByCgroup {
    fn of(&self, flow: &Flow) -> Option<Arc<Workload>> {
        self.workloads.load().get(&flow.cgroup).map(Arc::clone)
    }
}

/// What it serves.
struct Child {
    runtime: Runtime,
    proxy: Arc<Proxy>,
    limits: Limits,
    asker: Arc<Asker>,
    credential: Arc<ToldCredential>,
    leaf: Arc<PresentLeaf>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    by_cgroup: Arc<ByCgroup>,
    node: ArcSwapOption<Workload>,
    listeners: HashMap<u32, CancellationToken>,
    tasks: TaskTracker,
}

impl Child {
    fn new(setup: Setup, questions: OwnedFd, loader: &Channel, runtime: Runtime) -> Result<Self, Failure> {
        let _inside = runtime.enter();
        let limits = Limits::default();
        let to_loader = ToLoader::on(loader.try_clone()?);
        let metrics = Arc::new(Metrics::default());
        let credential = ToldCredential::new(Arc::clone(&to_loader));
        let leaf = Arc::new(PresentLeaf::default());
        let snapshot = Arc::new(ArcSwap::from_pointee(policy::compile_texts(&[], 0)));
        let proxy = Proxy::new(ProxyParts {
            snapshot: Arc::clone(&snapshot),
            endpoint: setup.endpoint.try_into()?,
            credentials: Arc::clone(&credential) as _,
            tls: following(&leaf)?,
            metrics: Arc::clone(&metrics),
            limits: limits.clone(),
            clock: Timestamp::now,
        })?;
        let asker = Asker::on(questions)?;
        let tasks = TaskTracker::new();
        let hearing = Arc::clone(&asker);
        runtime.spawn(async move {
            // The loader ends the process; until then every connection is closed for want of a flow.
            if let Err(error) = hearing.hear().await {
                tracing::error!(%error, "the loader's answers are not heard any more");
            }
        });
        runtime.spawn(tell_counts(metrics, to_loader));
        Ok(Self {
            runtime,
            proxy,
            limits,
            asker,
            credential,
            leaf,
            snapshot,
            by_cgroup: Arc::default(),
            node: ArcSwapOption::empty(),
            listeners: HashMap::new(),
            tasks,
        })
    }

    /// Does what the loader says. An error ends the process: the next one starts from the beginning.
    fn take(&mut self, message: ToProxy, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        match message {
            ToProxy::Leaf(leaf) => self.leaf.set(&leaf)?,
            ToProxy::Credential(said) => self.credential.set(said)?,
            ToProxy::Policies(PolicyTexts { generation, texts }) => {
                let snapshot = policy::compile_texts(&texts, generation);
                self.snapshot.store(Arc::new(snapshot));
            }
            ToProxy::Addresses(addresses) => self.proxy.upstream().move_to(addresses),
            ToProxy::Workload(resident, facts) => self.take_workload(resident, facts, descriptors)?,
            ToProxy::Gone(Resident::Agent(cgroup)) => self.change_agents(|agents| {
                agents.remove(&cgroup);
            }),
            ToProxy::Gone(Resident::Node) => self.node.store(None),
            ToProxy::Listen { listener, resident } => self.listen(listener, resident, descriptors)?,
            ToProxy::Close(listener) => {
                if let Some(drain) = self.listeners.remove(&listener) {
                    drain.cancel();
                }
            }
            ToProxy::Setup(_) | ToProxy::Drain => return Err("told twice how to begin, or to end".into()),
        }
        Ok(())
    }

    fn take_workload(
        &mut self,
        resident: Resident,
        facts: SessionFacts,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let socket = descriptors.pop().ok_or("a workload without a record")?;
        let file = RemoteFile::on(socket, &facts.session)?;
        let (principal, session) = (principal(&facts), facts.session.clone());
        let recorder = Arc::new(DiskRecorder::on(Box::new(file), facts));
        let workload = Workload::new(principal, session, recorder, &self.limits);
        match resident {
            Resident::Agent(cgroup) => self.change_agents(|agents| {
                agents.insert(cgroup, workload);
            }),
            Resident::Node => self.node.store(Some(workload)),
        }
        Ok(())
    }

    fn change_agents(&self, change: impl FnOnce(&mut HashMap<u64, Arc<Workload>>)) {
        let mut agents = HashMap::clone(&self.by_cgroup.workloads.load());
        change(&mut agents);
        self.by_cgroup.workloads.store(Arc::new(agents));
    }

    fn listen(&mut self, number: u32, resident: Resident, sockets: Vec<OwnedFd>) -> Result<(), Failure> {
        let sockets = Sockets::handed(sockets).ok_or("a listener without sockets")?;
        let resident = match resident {
            Resident::Agent(cgroup) => self.by_cgroup.workloads.load().get(&cgroup).map(Arc::clone),
            Resident::Node => self.node.load_full(),
        };
        let place = Place {
            origins: RemoteOrigins::of(Arc::clone(&self.asker), number),
            workloads: Arc::clone(&self.by_cgroup) as _,
            resident: resident.ok_or("a listener of nobody")?,
        };
        let _inside = self.runtime.enter();
        let listener = Listener::of(sockets)?;
        let drain = CancellationToken::new();
        self.tasks
            .spawn(listener.serve(Arc::clone(&self.proxy), place, drain.clone()));
        self.listeners.insert(number, drain);
        Ok(())
    }

    /// Lets requests under way finish, and hands over what the records still have to get.
    fn drain(mut self) {
        for (_, drain) in self.listeners.drain() {
            drain.cancel();
        }
        self.tasks.close();
        self.runtime.block_on(self.tasks.wait());
        self.change_agents(HashMap::clear);
        self.node.store(None);
    }
}
