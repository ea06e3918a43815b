//! Who a request is attributed to.

use serde::{Deserialize, Serialize};

/// The proven caller of a request, as the adapters established it before deciding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// Name of the agent, the subject that policies select. Proven by the kernel's classification.
    pub agent: String,
    /// Model the agent says it runs. Claimed: recorded, never decided on.
    pub model_claimed: Option<String>,
    /// The pod it runs in, as the kernel and the pod watch prove it; none for a process outside Kubernetes.
    pub pod: Option<PodIdentity>,
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
