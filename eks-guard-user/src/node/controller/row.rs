//! A pod's row of the status.

use crate::node::cgroup::{PodCgroup, PodUid};
use crate::node::config::EgressMode;
use crate::node::kernel::Standing;
use crate::node::pods::{ClassifiedPod, PodClass};
use crate::node::status::PodStatus;

/// What is known of the pod of a cgroup.
pub(super) fn row(
    uid: &PodUid,
    cgroup: &PodCgroup,
    pod: Option<&ClassifiedPod>,
    standing: Option<&Standing>,
) -> PodStatus {
    let class = match pod.map(|pod| &pod.class) {
        Some(PodClass::Agent { .. }) => "agent",
        Some(PodClass::System) => "system",
        Some(PodClass::Ordinary) => "ordinary",
        None => "unknown",
    };
    let agent = match pod.map(|pod| &pod.class) {
        Some(PodClass::Agent { name }) => Some(name.clone()),
        Some(PodClass::System | PodClass::Ordinary) | None => None,
    };
    let (port, egress) = match standing {
        Some(Standing::Agent { listener, mode, .. }) => {
            let mode = match mode {
                EgressMode::AllowList => "allowList",
                EgressMode::BlockList => "blockList",
            };
            (listener.map(|listener| listener.port), Some(mode.to_owned()))
        }
        Some(Standing::System | Standing::Ordinary) | None => (None, None),
    };
    PodStatus {
        uid: uid.as_str().to_owned(),
        cgroup: cgroup.id,
        namespace: pod.map(|pod| pod.identity.namespace.clone()).unwrap_or_default(),
        name: pod.map(|pod| pod.identity.name.clone()).unwrap_or_default(),
        class: class.to_owned(),
        agent,
        port,
        egress,
        refused: 0,
        bypass_attempts: 0,
        interfaces: Vec::new(),
        verified: None,
    }
}
