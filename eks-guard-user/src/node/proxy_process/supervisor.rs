//! The loader's side of the proxy process: starts it, tells it everything, and starts the next when it has ended.

use std::io;
use std::mem::discriminant;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::metrics::{Counts, Metrics};
use crate::node::proxy_process::message::{FromProxy, LONGEST, Setup, ToProxy};
use crate::node::proxy_process::origins::{FlowTables, answer, pair, watched};
use crate::node::proxy_process::{PROXY, ProxyLink};
use crate::run::channel::Channel;
use crate::telemetry::chain;

/// How long the proxy may take to confine itself, and to read what it is told.
const CONFINING: Duration = Duration::from_secs(60);
const READING: Duration = Duration::from_secs(10);
/// Pause before the next start; doubled with each that follows soon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause between two things that the proxy says: however fast it talks, hearing it costs next to nothing.
const PACE: Duration = Duration::from_millis(10);
/// A proxy that lived so long was no failed start.
const LIVED: Duration = Duration::from_secs(60);
/// How much longer than its requests the proxy may take to end.
const ENDING: Duration = Duration::from_secs(15);

/// Why a proxy did not start, or how it ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot {doing}")]
    Step {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the proxy did not confine itself; its log lines say why")]
    NotConfined,
    #[error("the proxy ended ({0})")]
    Exited(String),
}

/// The proxy process of a node, whichever is the present one.
pub(crate) struct ProxyProcess {
    setup: Setup,
    flows: Arc<FlowTables>,
    refused: Arc<Notify>,
    metrics: Metrics,
    changes: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What every proxy is told, one message of each kind.
    kept: Vec<ToProxy>,
    /// The present one, once it is confined.
    present: Option<Present>,
    /// How many there were.
    starts: u64,
    /// Why there is none.
    problem: Option<String>,
    is_stopping: bool,
}

struct Present {
    number: u64,
    pid: u32,
    channel: Channel,
}

/// What an operator is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyFacts {
    /// Process id, while there is one.
    pub(crate) pid: Option<u32>,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// Why there is none.
    pub(crate) problem: Option<String>,
}

impl ProxyProcess {
    /// None yet. `refused` is notified when the API server refuses the credential.
    pub(crate) fn new(setup: Setup, refused: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            setup,
            flows: Arc::default(),
            refused,
            metrics: Metrics::default(),
            changes: watch::channel(0).0,
            state: Mutex::default(),
        })
    }

    /// Changes when a proxy has come or gone.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What all proxies together have counted, as far as they said.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What there is to say.
    pub(crate) fn facts(&self) -> ProxyFacts {
        let state = self.state();
        ProxyFacts {
            pid: state.present.as_ref().map(|present| present.pid),
            restarts: state.starts.saturating_sub(1),
            problem: state.problem.clone(),
        }
    }

    /// Keeps one running until [`ProxyProcess::stop`].
    pub(crate) async fn keep_running(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let (ended_tx, ended_rx) = oneshot::channel();
            let (this, runtime) = (Arc::clone(&self), Handle::current());
            // A thread of its own, as long as the proxy lives: its children, and only they, are born into a new PID
            // namespace, and they are killed when the thread that started them ends.
            let spawned = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
                let ended = this.run_one(&runtime);
                ended_tx.send(ended).ok();
            });
            let ended = match spawned {
                Ok(_) => ended_rx.await.unwrap_or(Ended::NotConfined),
                Err(source) => step("start a thread for the proxy")(source),
            };
            if self.note_end(&ended) {
                return;
            }
            if begun.elapsed() > LIVED {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lets the present one finish what is under way; whatever has not ended after that is killed.
    pub(crate) async fn stop(&self, deadline: Duration) {
        let mut changes = self.changes();
        self.state().is_stopping = true;
        if self.tell(&ToProxy::Drain, &[]).is_err() {
            return;
        }
        let gone = changes.wait_for(|_| self.state().present.is_none());
        if timeout(deadline + ENDING, gone).await.is_err() {
            tracing::warn!("the proxy does not end; it is killed with the loader");
        }
    }

    /// Starts one and hears it until it ends.
    fn run_one(&self, runtime: &Handle) -> Ended {
        let (channel, mut child) = match start() {
            Ok(started) => started,
            Err(ended) => return ended,
        };
        let ended = match self.introduce(channel, child.id(), runtime) {
            Ok(channel) => {
                self.hear(&channel);
                None
            }
            Err(ended) => Some(ended),
        };
        // Whatever it does, without a channel it is of no use.
        child.kill().ok();
        let status = child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        ended.unwrap_or(Ended::Exited(status))
    }

    /// Waits until it is confined, and only then tells it anything.
    fn introduce(&self, channel: Channel, pid: u32, runtime: &Handle) -> Result<Channel, Ended> {
        let (ours, theirs) = pair().map_err(step("make a socket for the proxy"))?;
        send(&channel, &ToProxy::Setup(self.setup.clone()), &[theirs.as_fd()])
            .map_err(step("tell the proxy what to serve"))?;
        drop(theirs);
        match channel.receive_up_to(LONGEST) {
            Ok(Some(FromProxy::Confined)) => {}
            Ok(Some(FromProxy::CredentialRefused | FromProxy::Counts(_)) | None) | Err(_) => {
                return Err(Ended::NotConfined);
            }
        }
        channel
            .set_patience(None, Some(READING))
            .map_err(step("hear the proxy"))?;
        let heard = channel.try_clone().map_err(step("hear the proxy"))?;
        let ending = channel.try_clone().map_err(step("hear the proxy"))?;
        self.answer_on(ours, ending, runtime)
            .map_err(step("answer the proxy's questions"))?;
        let mut state = self.state();
        for message in &state.kept {
            send(&channel, message, &[]).map_err(step("tell the proxy what to serve"))?;
        }
        state.starts += 1;
        state.problem = None;
        state.present = Some(Present {
            number: state.starts,
            pid,
            channel,
        });
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(heard)
    }

    /// Answers until the other end of the socket is gone, and then ends the proxy, which is of no use without.
    fn answer_on(&self, socket: OwnedFd, ending: Channel, runtime: &Handle) -> io::Result<()> {
        let _inside = runtime.enter();
        let (socket, flows) = (watched(socket)?, Arc::clone(&self.flows));
        runtime.spawn(async move {
            if let Err(error) = answer(socket, &flows).await {
                tracing::error!(%error, "what the proxy asks is not understood; it is ended");
            }
            ending.hang_up();
        });
        Ok(())
    }

    /// Until it says nothing any more, or what is no message: then it is ended.
    fn hear(&self, channel: &Channel) {
        let mut counted = Counts::default();
        loop {
            match channel.receive_up_to(LONGEST) {
                Ok(Some(FromProxy::CredentialRefused)) => self.refused.notify_one(),
                Ok(Some(FromProxy::Counts(counts))) => {
                    self.metrics.add(&counts, &counted);
                    counted = *counts;
                }
                Ok(Some(FromProxy::Confined)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "what the proxy says is not understood; it is ended");
                    break;
                }
            }
            thread::sleep(PACE);
        }
        self.metrics.add(&counted.closed(), &counted);
    }

    /// Whether that was the last one.
    fn note_end(&self, ended: &Ended) -> bool {
        let mut state = self.state();
        state.present = None;
        self.flows.clear();
        if !state.is_stopping {
            let text = chain(ended);
            tracing::error!("{text}; the next one is started");
            state.problem = Some(format!("agents are refused until the next proxy serves: {text}"));
        }
        let is_stopping = state.is_stopping;
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        is_stopping
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProxyLink for ProxyProcess {
    fn incarnation(&self) -> Option<u64> {
        self.state().present.as_ref().map(|present| present.number)
    }

    fn tell(&self, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let state = self.state();
        let present = state.present.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        send(&present.channel, message, descriptors).inspect_err(|_| present.give_up())
    }

    fn keep(&self, message: ToProxy) {
        let mut state = self.state();
        if let Some(present) = &state.present
            && send(&present.channel, &message, &[]).is_err()
        {
            present.give_up();
        }
        state
            .kept
            .retain(|kept| discriminant(kept) != discriminant(&message));
        state.kept.push(message);
    }

    fn flows(&self) -> &FlowTables {
        &self.flows
    }
}

impl Present {
    /// A proxy that was told half of something is in no state to go on: the end of the channel ends it.
    fn give_up(&self) {
        tracing::error!("the proxy does not listen; it is ended");
        self.channel.hang_up();
    }
}

fn step(doing: &'static str) -> impl FnOnce(io::Error) -> Ended {
    move |source| Ended::Step { doing, source }
}

fn send(channel: &Channel, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    channel.send(message)?;
    if message.carries_descriptors() {
        channel.send_fds(descriptors)?;
    }
    Ok(())
}

/// The process, in a PID namespace of its own, with the far end of a channel as its standard input and nothing else.
fn start() -> Result<(Channel, Child), Ended> {
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(io::Error::from)
        .map_err(step("make a PID namespace for the proxy"))?;
    let (channel, theirs) = Channel::pair().map_err(step("make a socket pair for the proxy"))?;
    channel
        .set_patience(Some(CONFINING), Some(READING))
        .map_err(step("wait for the proxy"))?;
    let theirs: OwnedFd = theirs.into();
    let child = Command::new("/proc/self/exe")
        .arg(PROXY)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(step("start the proxy"))?;
    Ok((channel, child))
}
