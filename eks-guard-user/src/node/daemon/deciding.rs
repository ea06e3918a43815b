//! What decides on this node: the policies and the labels of namespaces, handed to the proxy as they change.

use std::sync::Arc;

use tokio::task::block_in_place;

use crate::fleet::Fleet;
use crate::node::config::{NodeConfig, PolicySource};
use crate::node::daemon::reload::Reload;
use crate::node::kube::{AgentPolicy, Change, Namespace};
use crate::node::namespaces::NamespaceLabels;
use crate::node::policies::Policies;
use crate::node::proxy_process::{ProxyLink, ProxyProcess, ToProxy};
use crate::node::status::Status;
use crate::proxy::upstream::UpstreamPool;

/// The policies and labels, and who is to know of them.
pub(super) struct Deciding {
    policies: Policies,
    namespaces: NamespaceLabels,
    /// Who is told what became of the policies; nobody where they are files.
    fleet: Option<Fleet>,
    proxy: Arc<ProxyProcess>,
}

impl Deciding {
    /// What was known last decides until something else is told. Call it inside the runtime.
    pub(super) fn begin(config: &NodeConfig, own: &Arc<UpstreamPool>, proxy: &Arc<ProxyProcess>) -> Self {
        let policies = block_in_place(|| Policies::of(&config.policies, &config.state));
        proxy.keep(ToProxy::Policies(policies.in_force().clone()));
        let fleet = match config.policies {
            PolicySource::Folder(_) => None,
            PolicySource::Cluster => Some(Fleet::join(own, &config.node_name)),
        };
        Self {
            policies,
            namespaces: NamespaceLabels::default(),
            fleet,
            proxy: Arc::clone(proxy),
        }
    }

    pub(super) fn take_policy(&mut self, change: Change<AgentPolicy>) {
        self.policies.take(change);
    }

    pub(super) fn take_namespace(&mut self, change: Change<Namespace>) {
        self.namespaces.take(change);
    }

    /// Looks where policies are for what has changed.
    pub(super) fn look(&mut self, reload: &mut Reload) {
        let generation = self.policies.generation();
        block_in_place(|| reload.look_at_policies(&mut self.policies));
        if self.policies.generation() != generation {
            let policies = self.policies.in_force().clone();
            block_in_place(|| self.proxy.keep(ToProxy::Policies(policies)));
        }
    }

    /// Puts in force what was told, and then says so.
    pub(super) fn settle(&mut self, reload: &mut Reload) {
        if self.policies.is_changed() {
            self.look(reload);
        }
        if let Some(labels) = self.namespaces.take_changed() {
            block_in_place(|| self.proxy.keep(ToProxy::Namespaces(labels)));
        }
        if let (Some(fleet), Some(news)) = (&self.fleet, self.policies.take_news()) {
            fleet.tell(news);
        }
    }

    pub(super) fn add_to(&self, status: &mut Status) {
        status.policy_generation = self.policies.generation();
        let objects = self.policies.objects();
        status.policies = objects
            .map(|object| (object.name.clone(), object.generation))
            .collect();
        let untold = self.fleet.iter().flat_map(Fleet::problems);
        let problems = self.policies.problems().chain(self.namespaces.problem());
        status.problems.extend(problems.chain(untold));
    }

    pub(super) async fn end(self) {
        if let Some(fleet) = self.fleet {
            fleet.leave().await;
        }
    }
}
