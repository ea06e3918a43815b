//! Who a request is attributed to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The proven caller of a request, as the adapters established it before deciding. What is `None` is not known, and not
/// knowing is never taken for knowing that it is not so: policies that restrict apply then, those that allow do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// Name of the agent, the subject that policies select. Proven by the kernel's classification.
    pub agent: String,
    /// Model the agent says it runs. Claimed: recorded, never decided on.
    pub model_claimed: Option<String>,
    /// The pod it runs in, as the kernel and the pod watch prove it; none, and known to be none, for a process outside
    /// Kubernetes.
    pub pod: Option<PodIdentity>,
    /// Labels of that pod when the node first saw it: who can edit a pod later must not choose its policies.
    pub labels: Option<Labels>,
    /// Name of the container in that pod.
    pub container: Option<String>,
    /// Groups of the external identity it acts for.
    pub groups: Option<Vec<String>>,
    /// Claims of that identity: each a name and its values.
    pub claims: Option<BTreeMap<String, Vec<String>>>,
}

impl Principal {
    /// An agent outside Kubernetes, of which nothing but the name is known.
    #[must_use]
    pub fn named(agent: impl Into<String>) -> Self {
        Self {
            agent: agent.into(),
            ..Self::default()
        }
    }
}

/// A pod, by all its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID: never used twice.
    pub uid: String,
    /// Name of its ServiceAccount.
    pub service_account: String,
    /// Name of the node it runs on.
    pub node: String,
}
