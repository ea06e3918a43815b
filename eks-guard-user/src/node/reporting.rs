//! What is said of a node beyond the status socket: metrics, the node's condition, and trials of the agents from inside. For the
//! daemon, and for `eks-guard verify --node --watch`.

use std::net::SocketAddr;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::node::admin::{Admin, ListenError, listen};
use crate::node::canaries::{Canaries, Trials};
use crate::node::enforcement::{Owner, Teller};
use crate::node::metrics;
use crate::node::status::Status;

/// What is to be said, and where.
pub(crate) struct Plan {
    /// Where `/metrics` and `/healthz` are answered; nowhere when not given.
    pub(crate) listen: Option<SocketAddr>,
    /// Metrics beside those of the status.
    pub(crate) registry: Registry,
    /// What tries the agents again and again, and what tells the cluster of it.
    pub(crate) trying: Option<(Canaries, Teller)>,
}

/// What goes on beside the loop of whoever reports.
pub(crate) struct Reporting {
    trials: watch::Receiver<Trials>,
    /// Who tells the cluster; none where the agents are not tried.
    owner: Option<Owner>,
}

impl Reporting {
    /// Starts what the plan asks for; it ends with the tasks.
    ///
    /// # Errors
    /// The address for `/metrics` cannot be listened on.
    pub(crate) async fn start(
        tasks: &mut JoinSet<()>,
        plan: Plan,
        status: &watch::Sender<Status>,
    ) -> Result<Self, ListenError> {
        let (trials_tx, trials) = watch::channel(Trials::default());
        if let Some(address) = plan.listen {
            let mut registry = plan.registry;
            metrics::register(&mut registry, status.subscribe());
            let status = status.subscribe();
            tasks.spawn(Admin { registry, status }.serve(listen(address).await?));
        }
        let owner = plan.trying.as_ref().map(|(_, teller)| teller.owner);
        if let Some((canaries, teller)) = plan.trying {
            tasks.spawn(canaries.run(status.subscribe(), trials_tx));
            tasks.spawn(teller.tell(status.subscribe()));
        }
        Ok(Self { trials, owner })
    }

    /// Waits for the end of a round of trials; for ever where there are none.
    pub(crate) async fn changed(&mut self) {
        if self.trials.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Adds what the last trials came to.
    pub(crate) fn add_to(&mut self, status: &mut Status) {
        let Some(owner) = self.owner else {
            return;
        };
        status.watches |= owner == Owner::Daemon;
        let trials = self.trials.borrow_and_update();
        for pod in status.pods.iter_mut().filter(|pod| pod.agent.is_some()) {
            pod.verified = trials.get(&pod.uid).cloned();
        }
    }
}
