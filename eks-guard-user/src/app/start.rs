//! Every part of a run, built in order. An error, or calling it off, drops what was built so far, newest first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use eks_guard_core::record::Caller;
use jiff::Timestamp;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::failure::Failure;
use crate::app::notes;
use crate::config::{Policies, RunConfig};
use crate::ebpf::cgroup::{RunCgroup, remove_leftovers};
use crate::ebpf::loader::{Datapath, LoadRequest};
use crate::metrics::Metrics;
use crate::proxy::listener::Listener;
use crate::proxy::{Limits, Proxy, ProxyParts};
use crate::recording::writer::{DiskRecorder, SessionEnd, SessionFacts};
use crate::run::channel::Spec;
use crate::run::environment::{self, Rules};
use crate::run::hide::{Covers, STATE};
use crate::run::sandbox::{Launch, Sandbox};
use crate::run::state::RunState;
use crate::telemetry::{chain, say};
use crate::tls::ca::RunCa;
use crate::tls::downstream::server_config;
use crate::upstream::{Credential, KubeconfigOptions, RunAs, Upstream, load};

/// A run whose command has been started. Fields are dropped in this order.
pub(crate) struct Running {
    pub(crate) sandbox: Sandbox,
    serving: JoinHandle<()>,
    drain: CancellationToken,
    tasks: TaskTracker,
    recorder: Arc<DiskRecorder>,
    datapath: Datapath,
    cgroup: RunCgroup,
    _state: RunState,
}

/// Builds everything and starts the command.
///
/// # Errors
/// The first part that cannot be built; nothing is left of the others.
pub(crate) async fn start(config: RunConfig, blocked_signals: Vec<i32>) -> Result<Running, Failure> {
    let session = Uuid::now_v7().to_string();
    let upstream = load_upstream(&config).await?;
    notes::warnings(&config, &upstream);
    let state = RunState::create(Path::new(STATE), &session, |alive| {
        remove_leftovers(|run| alive.contains(run));
    });
    let state = state.map_err(|error| Failure::machine_says(&error))?;
    let recorder = open_record(&config, &session)?;
    let authority = RunCa::generate().map_err(|error| Failure::machine_says(&error))?;
    let tls = server_config(&authority, &upstream.endpoint).map_err(|error| Failure::machine_says(&error))?;
    let cgroup = RunCgroup::create(&session).map_err(|error| Failure::machine_says(&error))?;
    let listener = Listener::bind().await;
    let listener = listener.map_err(|error| Failure::machine("cannot listen on the loopback addresses", &error))?;
    let api = &upstream.endpoint.addresses;
    let request = LoadRequest { cgroup: &cgroup, api, listener_port: listener.port() };
    let mut datapath = Datapath::load(&request).map_err(|error| Failure::machine_says(&error))?;
    let secrets = secrets(&upstream).await;
    let (account, kubeconfig) = (&config.account, upstream.kubeconfig.path());
    let rules = Rules { keep: &config.keep_env, secrets: &secrets };
    let cleaned = environment::clean(config.variables.clone(), &rules, account, kubeconfig);
    let covers = covers(&config, &upstream, &authority, &recorder);
    let proxy = ProxyParts {
        snapshot: Arc::new(ArcSwap::from_pointee(config.policies.snapshot)),
        recorder: Arc::clone(&recorder) as _,
        flows: datapath.flow_table(),
        endpoint: upstream.endpoint.clone(),
        credentials: Arc::clone(&upstream.credentials),
        tls,
        agent: config.agent.clone(),
        model: config.model.clone(),
        session: session.clone(),
        metrics: Arc::new(Metrics::default()),
        limits: Limits::default(),
        clock: Timestamp::now,
    };
    todo!()
}
