//! The guard's side of a run: starts PID 1 in a new PID namespace, passes signals in, hears how the command fares.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use crate::run::INIT;
use crate::run::channel::{Channel, FromInit, Spec, ToInit};

/// Exit code when the first process was killed from outside, and the command with it.
const KILLED: u8 = 137;

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Starting PID 1 failed.
    #[error("cannot {action}{}", if lacks_privilege(source) { NAMESPACES } else { "" })]
    Step {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// PID 1 could not build the boundary; the text says why.
    #[error("{0}")]
    Boundary(String),
    /// PID 1 ended without a word.
    #[error("the first process of the run ended before it could start the command")]
    Gone,
}

const NAMESPACES: &str =
    ": namespaces need CAP_SYS_ADMIN; start it with sudo, outside containers that forbid unshare()";

fn lacks_privilege(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What a run is started with.
#[derive(Debug)]
pub struct Launch {
    /// What to start, and what to hide from it.
    pub spec: Spec,
    /// `cgroup.procs` of the run's cgroup, open for writing.
    pub cgroup_procs: OwnedFd,
    /// The eBPF links, which PID 1 keeps open.
    pub links: Vec<OwnedFd>,
}

/// What the command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was stopped by job control, for this many times by now; see [`Sandbox::go_on`].
    Stopped(u32),
    /// It ended with this exit code, and the whole run with it.
    Ended(u8),
}

/// A running command.
#[derive(Debug)]
pub struct Sandbox {
    control: Channel,
    fates: mpsc::Receiver<Fate>,
}

impl Sandbox {
    /// Starts the command; returns when PID 1 has built the boundary and is about to start it.
    ///
    /// # Errors
    /// The boundary could not be built; nothing was started.
    pub async fn start(launch: Launch) -> Result<Sandbox, SandboxError> {
        let (control, inner) = Channel::pair().map_err(step("make a socket pair"))?;
        let events = control.try_clone().map_err(step("make a socket pair"))?;
        let (fate_tx, fates) = mpsc::channel(16);
        let (started_tx, started) = tokio::sync::oneshot::channel();
        let run = move || {
            let mut child = match start_init(&launch, &events, inner) {
                Ok(child) => child,
                Err(error) => return drop(started_tx.send(Err(error))),
            };
            let outcome = hear_start(&events);
            let failed = outcome.is_err();
            if failed {
                // It is ending; collected here, so that its cgroup is empty when the error is heard.
                child.wait().ok();
            }
            // Nobody waits any more when the start was called off; the run is then ended through its cgroup.
            started_tx.send(outcome).ok();
            if !failed {
                watch(child, &events, &fate_tx);
            }
        };
        // A thread of its own: its next children, and only they, are born into the new namespace.
        thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(run)
            .map_err(step("start a thread"))?;
        started.await.map_err(|_| SandboxError::Gone)??;
        Ok(Sandbox { control, fates })
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        // The command may have ended this instant; then its exit is the next thing heard.
        self.control.send(&ToInit::Signal(signal as i32)).ok();
    }

    /// Lets the command go on after a stop. Its shell may have done so already, and a person may have stopped it again.
    pub fn go_on(&self, stop: u32) {
        self.control.send(&ToInit::GoOn(stop)).ok();
    }

    /// The next thing that happens to the command.
    pub async fn next(&mut self) -> Fate {
        self.fates.recv().await.unwrap_or(Fate::Ended(KILLED))
    }
}

fn step(action: &'static str) -> impl FnOnce(io::Error) -> SandboxError {
    move |source| SandboxError::Step { action, source }
}

fn start_init(launch: &Launch, events: &Channel, inner: Channel) -> Result<Child, SandboxError> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(|error| step("make a PID namespace")(error.into()))?;
    let stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(step("pass standard input on"))?;
    let inner: OwnedFd = inner.into();
    let child = Command::new("/proc/self/exe")
        .arg(INIT)
        .env_clear()
        .stdin(Stdio::from(inner))
        .spawn()
        .map_err(step("start the first process of the run"))?;
    let links = launch.links.iter().map(AsFd::as_fd);
    let fds: Vec<BorrowedFd<'_>> = [launch.cgroup_procs.as_fd(), stdin.as_fd()]
        .into_iter()
        .chain(links)
        .collect();
    events
        .send_fds(&fds)
        .map_err(step("pass descriptors to the run"))?;
    events
        .send(&launch.spec)
        .map_err(step("tell the run what to start"))?;
    Ok(child)
}

fn hear_start(events: &Channel) -> Result<(), SandboxError> {
    match events.receive::<FromInit>() {
        Ok(Some(FromInit::Started)) => Ok(()),
        Ok(Some(FromInit::Failed(message))) => Err(SandboxError::Boundary(message)),
        Ok(_) | Err(_) => Err(SandboxError::Gone),
    }
}

/// Hears PID 1 until it ends, and collects it.
fn watch(mut child: Child, events: &Channel, fates: &mpsc::Sender<Fate>) {
    let mut code = None;
    while let Ok(Some(event)) = events.receive::<FromInit>() {
        match event {
            FromInit::Stopped(number) => {
                fates.blocking_send(Fate::Stopped(number)).ok();
            }
            FromInit::Ended(ended) => code = Some(ended),
            FromInit::Failed(message) => tracing::error!("{message}"),
            FromInit::StartupFiles(written) => {
                for file in &written {
                    tracing::error!("{}", file.message(&file.set_aside()));
                }
            }
            FromInit::Started => {}
        }
    }
    // Without a status it has been collected already; what it said before counts.
    let status = child
        .wait()
        .ok()
        .and_then(|status| status.code())
        .and_then(|code| u8::try_from(code).ok());
    fates
        .blocking_send(Fate::Ended(code.or(status).unwrap_or(KILLED)))
        .ok();
}
