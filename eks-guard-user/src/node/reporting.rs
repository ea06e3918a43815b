//! What the daemon says of the node beyond its status socket: metrics, the node's condition, and trials of the agents from inside.

use std::path::Path;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::metrics::{Enforced, NodeMetrics};
use crate::node::admin::{Admin, listen};
use crate::node::canaries::{Canaries, Trials, default_probe};
use crate::node::config::NodeConfig;
use crate::node::daemon::Failure;
use crate::node::enforcement;
use crate::node::status::Status;
use crate::proxy::upstream::UpstreamPool;

/// What goes on beside the daemon's own loop.
pub(crate) struct Reporting {
    trials: watch::Receiver<Trials>,
    metrics: NodeMetrics,
}

impl Reporting {
    /// Starts what the configuration asks for; it ends with the tasks.
    ///
    /// # Errors
    /// The address for `/metrics` cannot be listened on.
    pub(crate) async fn start(
        tasks: &mut JoinSet<()>,
        (config, root): (&NodeConfig, &Path),
        upstream: &Arc<UpstreamPool>,
        status: &watch::Sender<Status>,
    ) -> Result<Self, Failure> {
        let (trials_tx, trials) = watch::channel(Trials::default());
        let metrics = NodeMetrics::default();
        if let Some(address) = config.metrics {
            let mut registry = Registry::default();
            metrics.register(&mut registry);
            let admin = Admin {
                registry,
                status: status.subscribe(),
            };
            tasks.spawn(admin.serve(listen(address).await?));
        }
        if let Some(verify) = &config.verify {
            let canaries = Canaries {
                config: config.clone(),
                root: root.to_owned(),
                probe: verify.probe.clone().unwrap_or_else(default_probe),
                interval: verify.interval,
            };
            tasks.spawn(canaries.run(status.subscribe(), trials_tx));
            let node = config.node_name.clone();
            tasks.spawn(enforcement::tell(Arc::clone(upstream), node, status.subscribe()));
        }
        Ok(Self { trials, metrics })
    }

    /// Waits for the end of a round of trials; for ever where there are none.
    pub(crate) async fn changed(&mut self) {
        if self.trials.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Adds what the last trials came to, and shows all of it to monitoring.
    pub(crate) fn add_to(&mut self, status: &mut Status) {
        let trials = self.trials.borrow_and_update();
        for pod in status.pods.iter_mut().filter(|pod| pod.agent.is_some()) {
            pod.verified = trials.get(&pod.uid).cloned();
        }
        let pods = status.pods.iter().filter_map(|pod| {
            let is_closed = pod.verified.as_ref()?.problems.is_empty();
            let enforced = if is_closed { Enforced::Yes } else { Enforced::No };
            Some((pod.namespace.as_str(), pod.name.as_str(), enforced))
        });
        self.metrics.set(status.problems.len(), pods);
    }
}
