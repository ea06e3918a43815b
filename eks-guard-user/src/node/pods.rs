//! What each pod of this node is: an agent, exempt, or ordinary. Pure; pods come from the watch, cgroups from the scan.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use eks_guard_core::principal::{Labels, PodIdentity};
use serde::{Deserialize, Serialize};

use crate::node::cgroup::PodUid;
use crate::node::config::{NodeConfig, SystemPod, Which};
use crate::node::kube::{Change, Pod};

/// Marks the copy of a static pod that the kubelet keeps in the API server.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The hash of a static pod's manifest, which its cgroup is named after.
const MANIFEST_HASH: &str = "kubernetes.io/config.hash";

/// What a pod is. A cgroup that is no known pod's has no class, and may not reach the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodClass {
    /// Guarded.
    Agent {
        /// Name of the agent, the value of its label.
        name: String,
    },
    /// Exempt by the operator's configuration.
    System,
    /// A pod without the label.
    Ordinary,
}

/// A pod and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassifiedPod {
    /// What it is.
    pub class: PodClass,
    /// Who it is.
    pub identity: PodIdentity,
    /// What its cgroup is named after.
    pub cgroup: String,
    /// Whether it uses the node's network namespace.
    pub host_network: bool,
    /// Its addresses, once it has any.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its labels when it was first seen; later changes select no other policies.
    #[serde(default)]
    pub labels: Option<Labels>,
}

/// Every pod of the node that has a cgroup or an object, by the UID of its object.
///
/// An agent stays one, under its first name, whatever becomes of its label: whoever can edit a pod must not be able to set
/// it free. It is forgotten when its object and its cgroup are both gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pods {
    by_uid: BTreeMap<String, ClassifiedPod>,
    /// UIDs whose object is gone.
    #[serde(skip)]
    gone: BTreeSet<String>,
}

impl Pods {
    /// Takes in what the watch told.
    pub fn take(&mut self, change: Change<Pod>, config: &NodeConfig) {
        match change {
            Change::Listed(pods) => {
                let listed: BTreeSet<&str> = pods.iter().map(|pod| pod.metadata.uid.as_str()).collect();
                let missing = self.by_uid.keys().filter(|uid| !listed.contains(uid.as_str()));
                self.gone = missing.cloned().collect();
                for pod in &pods {
                    self.set(pod, config);
                }
            }
            Change::Set(pod) => self.set(&pod, config),
            Change::Gone(pod) => {
                self.gone.insert(pod.metadata.uid);
            }
        }
    }

    /// Applies a changed configuration to every pod that is no agent.
    pub fn reclassify(&mut self, config: &NodeConfig) {
        for pod in self.by_uid.values_mut() {
            pod.class = match &pod.class {
                PodClass::Agent { name } => PodClass::Agent { name: name.clone() },
                PodClass::System | PodClass::Ordinary => unlabelled(&pod.identity, config),
            };
        }
    }

    /// Forgets pods whose object and cgroup are both gone.
    pub fn forget(&mut self, cgroups: impl Fn(&str) -> bool) {
        let gone = std::mem::take(&mut self.gone);
        for uid in gone {
            match self.by_uid.get(&uid) {
                Some(pod) if cgroups(&pod.cgroup) => _ = self.gone.insert(uid),
                Some(_) | None => _ = self.by_uid.remove(&uid),
            }
        }
    }

    /// The pod whose cgroup is named so. An object may claim another's name (a mirror pod names its manifest): if any that
    /// does is an agent, the cgroup is that agent's.
    #[must_use]
    pub fn of_cgroup(&self, cgroup: &PodUid) -> Option<&ClassifiedPod> {
        let strictness = |pod: &&ClassifiedPod| match pod.class {
            PodClass::Agent { .. } => 2,
            PodClass::Ordinary => 1,
            PodClass::System => 0,
        };
        let claims = self.by_uid.values().filter(|pod| pod.cgroup == cgroup.as_str());
        claims.max_by_key(strictness)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ClassifiedPod> {
        self.by_uid.values()
    }

    fn set(&mut self, pod: &Pod, config: &NodeConfig) {
        let metadata = &pod.metadata;
        // The field selector says the same; a pod that is not ours must not be classified here whatever is answered.
        if metadata.uid.is_empty() || pod.spec.node_name != config.node_name {
            return;
        }
        self.gone.remove(&metadata.uid);
        let identity = PodIdentity {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            service_account: pod.spec.service_account_name.clone(),
            node: pod.spec.node_name.clone(),
        };
        let before = self.by_uid.get(&metadata.uid);
        let labels = before.and_then(|pod| pod.labels.clone());
        let class = match (
            before.map(|pod| &pod.class),
            metadata.labels.get(&config.agent_label),
        ) {
            (Some(PodClass::Agent { name }), _) => PodClass::Agent { name: name.clone() },
            (Some(PodClass::System | PodClass::Ordinary) | None, Some(name)) => {
                PodClass::Agent { name: name.clone() }
            }
            (Some(PodClass::System | PodClass::Ordinary) | None, None) => unlabelled(&identity, config),
        };
        let classified = ClassifiedPod {
            class,
            cgroup: cgroup_name(pod),
            host_network: pod.spec.host_network,
            addresses: pod.status.addresses(),
            labels: labels.or_else(|| Some(metadata.labels.clone())),
            identity,
        };
        self.by_uid.insert(metadata.uid.clone(), classified);
    }
}

fn unlabelled(pod: &PodIdentity, config: &NodeConfig) -> PodClass {
    if config.system_pods.iter().any(|rule| exempts(rule, pod)) {
        PodClass::System
    } else {
        PodClass::Ordinary
    }
}

fn exempts(rule: &SystemPod, pod: &PodIdentity) -> bool {
    rule.namespace == pod.namespace
        && match &rule.which {
            Which::ServiceAccount(account) => *account == pod.service_account,
            Which::Name(name) => *name == pod.name,
        }
}

/// What the pod's cgroup is named after. Only the hash of a manifest is believed of an annotation: no UID looks like one, so
/// no pod can claim the cgroup of a pod that came from the API server.
fn cgroup_name(pod: &Pod) -> String {
    let annotations = &pod.metadata.annotations;
    let hash = annotations
        .get(MIRROR)
        .and_then(|_| annotations.get(MANIFEST_HASH))
        .and_then(|hash| PodUid::parse(hash))
        .filter(PodUid::is_manifest_hash);
    hash.map_or_else(|| pod.metadata.uid.clone(), |hash| hash.as_str().to_owned())
}
