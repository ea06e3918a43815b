//! Every part of a run, built in order. An error, or calling it off, drops what was built so far.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::failure::Failure;
use crate::app::notes;
use crate::config::{RunConfig, StartupFiles};
use crate::ebpf::abstract_names;
use crate::ebpf::cgroup::{RunCgroup, remove_leftovers};
use crate::ebpf::loader::{Datapath, LoadRequest};
use crate::identity;
use crate::metrics::Metrics;
use crate::proxy::{Limits, Listener, LocalOrigins, Place, Proxy, ProxyParts, Workload};
use crate::recording::writer::{DiskRecorder, SessionEnd, SessionFacts};
use crate::run::channel::Spec;
use crate::run::environment::{self, Rules};
use crate::run::hide::{Covers, STATE};
use crate::run::sandbox::{Launch, Sandbox};
use crate::run::scope::Scopes;
use crate::run::state::RunState;
use crate::telemetry::{chain, say};
use crate::tls::ca::RunCa;
use crate::tls::downstream::server_config;
use crate::upstream::{Credential, Upstream, load};

/// A run whose command has been started.
pub(crate) struct Running {
    pub(crate) sandbox: Sandbox,
    door: Door,
    ground: Ground,
}

/// What stands before anything is guarded. Dropped in this order: the cgroup kills what is in it.
struct Ground {
    cgroup: RunCgroup,
    recorder: Arc<DiskRecorder>,
    _state: RunState,
}

/// The way to the API server. Stops serving when dropped.
struct Door {
    datapath: Datapath,
    proxy: Arc<Proxy>,
    tasks: TaskTracker,
    drain: CancellationToken,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

/// Builds everything and starts the command, unless it is called off meanwhile.
///
/// # Errors
/// The first part that cannot be built; nothing is left of the others but the record, which says why.
pub(crate) async fn start(
    config: RunConfig,
    blocked_signals: Vec<i32>,
    called_off: impl Future<Output = Signal>,
) -> Result<Running, Failure> {
    let mut called_off = pin!(called_off);
    let session = Uuid::now_v7().to_string();
    let upstream = unless(called_off.as_mut(), load_upstream(&config)).await?;
    notes::warnings(&config, &upstream);
    let ground = unless(called_off.as_mut(), Ground::prepare(&config, &session)).await?;
    let launch = launch(config, blocked_signals, &session, &upstream, &ground);
    match unless(called_off, launch).await {
        Ok((sandbox, door)) => Ok(Running {
            sandbox,
            door,
            ground,
        }),
        Err(failure) => {
            // The failure is what the operator must see; a record that does not take its end shows as broken off.
            ground.recorder.end(failure.end()).await.ok();
            Err(failure)
        }
    }
}

/// A step of the start, dropped when the start is called off.
async fn unless<T>(
    called_off: impl Future<Output = Signal>,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = step => outcome,
        signal = called_off => Err(Failure::called_off(signal)),
    }
}

async fn launch(
    config: RunConfig,
    blocked_signals: Vec<i32>,
    session: &str,
    upstream: &Upstream,
    ground: &Ground,
) -> Result<(Sandbox, Door), Failure> {
    let authority = RunCa::generate().map_err(|error| Failure::machine_says(&error))?;
    let door = Door::open(&config, upstream, ground, &authority, session).await?;
    let url = &upstream.endpoint.url;
    let checked = notes::while_waiting(&config, url, door.proxy.check_upstream()).await;
    checked.map_err(|refusal| Failure::api_server(url, &refusal))?;

    let secrets = secrets(upstream).await;
    let rules = Rules {
        keep: &config.keep_env,
        secrets: &secrets,
    };
    let kubeconfig = upstream.kubeconfig.path();
    let cleaned = environment::clean(
        config.variables.iter().cloned(),
        &rules,
        &config.account,
        kubeconfig,
    );
    notes::summary(&config, upstream, session, &cleaned.removed);
    let covers = covers(&config, upstream, &authority, &ground.recorder);
    let spec = spec(config, cleaned.variables, blocked_signals, covers);
    let cgroup_procs = ground
        .cgroup
        .procs_fd()
        .map_err(|error| Failure::machine_says(&error))?;
    let mut links = door
        .datapath
        .link_fds()
        .map_err(|error| Failure::machine_says(&error))?;
    links.extend(refuse_abstract_names(spec.scopes, &ground.cgroup));
    let launch = Launch {
        spec,
        cgroup_procs,
        links,
    };
    let sandbox = Sandbox::start(launch)
        .await
        .map_err(|error| Failure::machine_says(&error))?;
    Ok((sandbox, door))
}

impl Ground {
    async fn prepare(config: &RunConfig, session: &str) -> Result<Ground, Failure> {
        let run = session.to_owned();
        // Waits for a start that is cleaning up.
        let state = spawn_blocking(move || RunState::create(Path::new(STATE), &run, remove_dead_runs)).await;
        let state = state.map_err(|error| Failure::machine("cannot register the run", &error))?;
        let state = state.map_err(|error| Failure::machine_says(&error))?;
        // Before the record: a machine without cgroups begins no session.
        let cgroup = RunCgroup::create(session).map_err(|error| Failure::machine_says(&error))?;
        let facts = SessionFacts {
            session: session.to_owned(),
            agent: config.agent.clone(),
            model_claimed: config.model.clone(),
            pod: None,
            labels: None,
            command: Some(identity::command(&config.command)),
        };
        let recorder = DiskRecorder::open(&config.records, facts);
        let recorder = Arc::new(recorder.map_err(|error| Failure::machine_says(&error))?);
        Ok(Ground {
            cgroup,
            recorder,
            _state: state,
        })
    }
}

impl Door {
    async fn open(
        config: &RunConfig,
        upstream: &Upstream,
        ground: &Ground,
        authority: &RunCa,
        session: &str,
    ) -> Result<Door, Failure> {
        let tls =
            server_config(authority, &upstream.endpoint).map_err(|error| Failure::machine_says(&error))?;
        let listener = Listener::bind();
        let listener =
            listener.map_err(|error| Failure::machine("cannot listen on the loopback addresses", &error))?;
        let request = LoadRequest {
            cgroup: &ground.cgroup,
            api: &upstream.endpoint.addresses,
            listener_port: listener.port(),
        };
        let mut datapath = Datapath::load(&request).map_err(|error| Failure::machine_says(&error))?;
        let limits = Limits::default();
        let workload = Workload::new(
            identity::principal(&config.agent, config.model.as_deref()),
            session,
            Arc::clone(&ground.recorder) as _,
            &limits,
        );
        let place = Place {
            origins: LocalOrigins::of(datapath.flow_table()),
            workloads: Arc::new(Arc::clone(&workload)),
            resident: workload,
        };
        let proxy = Proxy::new(ProxyParts {
            snapshot: Arc::new(ArcSwap::new(Arc::clone(&config.snapshot))),
            endpoint: upstream.endpoint.clone(),
            credentials: Arc::clone(&upstream.credentials),
            tls,
            metrics: Arc::new(Metrics::default()),
            limits,
            clock: Timestamp::now,
        });
        let proxy = proxy.map_err(|error| Failure::machine_says(&error))?;
        let (tasks, drain) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(listener.serve(Arc::clone(&proxy), place, drain.clone()));
        if let Some(log) = datapath.kernel_log() {
            let stop = drain.clone();
            tasks.spawn(async move {
                if let Err(error) = log.forward(stop).await {
                    tracing::warn!(error = %chain(&error), "log lines of the kernel programs are lost");
                }
            });
        }
        tasks.close();
        Ok(Door {
            datapath,
            proxy,
            tasks,
            drain,
        })
    }
}

impl Running {
    /// After the command has ended: finishes what is under way, seals the record, removes everything.
    pub(crate) async fn stop(self, end: SessionEnd) {
        let Running {
            sandbox,
            door,
            ground,
        } = self;
        drop(sandbox);
        door.drain.cancel();
        // `serve` gives its connections a deadline of its own.
        door.tasks.wait().await;
        tracing::debug!(stats = ?door.datapath.stats(), "kernel programs detached");
        drop(door);
        if let Err(error) = ground.recorder.end(end).await {
            say(&format!(
                "warning: the end of the session is not in the record: {}",
                chain(&error)
            ));
        }
        if let Err(error) = ground.cgroup.remove() {
            say(&format!("warning: {}; the next run tries again", chain(&error)));
        }
    }
}

/// In place of the scope where the kernel has none. Where it takes no such programs either, the operator is told.
fn refuse_abstract_names(scopes: Scopes, cgroup: &RunCgroup) -> Vec<OwnedFd> {
    if scopes == Scopes::Required {
        return Vec::new();
    }
    abstract_names::refuse(cgroup.id()).unwrap_or_else(|error| {
        say(&format!("warning: {}", abstract_names::GAP));
        tracing::info!(%error, "abstract names are not refused");
        Vec::new()
    })
}

/// Kills what guards that were killed have left running, and removes their cgroups.
fn remove_dead_runs(alive: &BTreeSet<String>) {
    // A cgroup whose name is no run's is somebody else's.
    let removed = remove_leftovers(|run| alive.contains(run) || Uuid::try_parse(run).is_err());
    if removed > 0 {
        say(&format!("removed what {removed} killed run(s) had left"));
    }
}

async fn load_upstream(config: &RunConfig) -> Result<Upstream, Failure> {
    let options = config.kubeconfig_options();
    let loaded = spawn_blocking(move || load(&options)).await;
    let loaded = loaded.map_err(|error| Failure::machine("cannot read the kubeconfig", &error))?;
    loaded.map_err(|error| Failure::kubeconfig(&error))
}

/// The guard's own token, so that no variable carries it in. It was just used; without one there is none to carry.
async fn secrets(upstream: &Upstream) -> Vec<String> {
    match upstream.credentials.credential().await {
        Ok(Credential::Bearer(header)) => {
            let text = header.to_str().unwrap_or_default();
            vec![text.strip_prefix("Bearer ").unwrap_or(text).to_owned()]
        }
        Ok(Credential::ClientCertificate(_)) | Err(_) => Vec::new(),
    }
}

fn covers(config: &RunConfig, upstream: &Upstream, authority: &RunCa, recorder: &DiskRecorder) -> Covers {
    let account = &config.account;
    let mut covers = Covers::plan((account.uid, account.gid), &config.homes());
    covers.kubeconfigs.clone_from(&upstream.kubeconfig.covered);
    covers.kubeconfig_text = upstream.kubeconfig.render(&authority.ca_pem());
    covers.hidden.extend(upstream.kubeconfig.hidden.iter().cloned());
    covers
        .hidden
        .extend(environment::credential_files(&config.variables));
    // Records are root's own and unreadable anyway; a working folder that holds them must stay visible.
    let records = recorder
        .path()
        .parent()
        .filter(|folder| !config.directory.starts_with(folder));
    covers.hidden.extend(records.map(PathBuf::from));
    covers
}

fn spec(
    config: RunConfig,
    environment: Vec<(OsString, OsString)>,
    blocked_signals: Vec<i32>,
    covers: Covers,
) -> Spec {
    let startup = match config.startup_files {
        StartupFiles::Guarded => vec![config.account.home.clone(), config.operator.home.clone()],
        StartupFiles::LeftToCommand => Vec::new(),
    };
    Spec {
        startup,
        command: config.command,
        environment,
        directory: config.directory,
        uid: config.account.uid,
        gid: config.account.gid,
        groups: config.account.groups,
        blocked_signals,
        covers,
        scopes: Scopes::of_kernel(),
    }
}
