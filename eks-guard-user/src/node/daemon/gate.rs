//! Pods that the container runtime holds back: let go when they are ready.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::node::cgroup::PodUid;
use crate::node::config::NodeConfig;
use crate::node::controller::Controller;
use crate::node::nri::{Beginning, Plugin};
use crate::node::status::Status;

/// Pods that may wait to be taken in; the runtime asks for few at once.
const WAITING: usize = 64;

/// The runtime's side, and who waits.
pub(super) struct Gate {
    beginnings: mpsc::Receiver<Beginning>,
    connected: Option<watch::Receiver<bool>>,
    waiting: Vec<Beginning>,
}

impl Gate {
    /// Asks the runtime to hold pods back, if the configuration says so; it ends with the tasks.
    pub(super) fn open(tasks: &mut JoinSet<()>, config: &NodeConfig) -> Self {
        let (beginnings_tx, beginnings) = mpsc::channel(WAITING);
        let connected = config.nri.as_ref().map(|nri| {
            let (connected_tx, connected_rx) = watch::channel(false);
            let plugin = Plugin {
                mode: nri.mode,
                socket: nri.socket.clone(),
                agent_label: config.agent_label.clone(),
            };
            tasks.spawn(plugin.run(beginnings_tx, connected_tx));
            connected_rx
        });
        Self {
            beginnings,
            connected,
            waiting: Vec::new(),
        }
    }

    /// Waits until a pod begins.
    pub(super) async fn next(&mut self) {
        match self.beginnings.recv().await {
            Some(beginning) => self.waiting.push(beginning),
            None => std::future::pending().await,
        }
    }

    /// Whether somebody waits.
    pub(super) fn is_waited_at(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Lets go whoever is ready, and says in the status how it stands.
    pub(super) fn settle(&mut self, controller: &Controller, status: &mut Status) {
        let is_ready = |beginning: &Beginning| {
            let uid = PodUid::parse(&beginning.uid);
            let row = uid.and_then(|uid| status.pods.iter().find(|row| row.uid == uid.as_str()));
            row.is_some_and(|row| controller.is_ready(row.cgroup))
        };
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            // The runtime does not wait for ever.
            .filter(|beginning| !beginning.ready.is_closed())
            .partition(is_ready);
        self.waiting = waiting;
        for beginning in ready {
            beginning.ready.send(()).ok();
        }
        status.nri_connected = self.connected.as_ref().map(|connected| *connected.borrow());
        if status.nri_connected == Some(false) {
            let text = "the container runtime is not connected: pods begin before they are classified (nri)";
            status.problems.push(text.to_owned());
        }
    }
}
