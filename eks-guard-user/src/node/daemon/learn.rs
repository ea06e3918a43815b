//! Where the daemon learns from: watches, and the name server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fleet::AGENT_POLICIES;
use crate::node::config::{NodeConfig, PolicySource};
use crate::node::kube::{
    AgentPolicy, Change, EndpointSlice, Namespace, Node, Object, Pod, Resource, Service, reflect,
};
use crate::proxy::upstream::UpstreamPool;
use crate::telemetry::say;
use crate::upstream::Endpoint;

/// How often the API server's name is resolved again: below the time to live of the cloud's own names.
const RESOLVE: Duration = Duration::from_secs(30);
/// How long a first start waits to know the pods before it closes the way for all that it does not know.
const FIRST_LOOK: Duration = Duration::from_secs(60);

/// Something new.
pub(super) enum Learned {
    Pod(Change<Pod>),
    Service(Change<Service>),
    Slice(Change<EndpointSlice>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    Policy(Change<AgentPolicy>),
    Endpoint(BTreeSet<SocketAddr>),
}

/// Starts learning; it ends with the tasks.
pub(super) fn learn(
    tasks: &mut JoinSet<()>,
    config: &NodeConfig,
    upstream: &Arc<UpstreamPool>,
    endpoint: &Endpoint,
    learned: &mpsc::Sender<Learned>,
) {
    let pods = Resource::pods_of(&config.node_name);
    watch(tasks, upstream, pods, Learned::Pod, learned);
    let services = Resource::all("/api/v1/services");
    watch(tasks, upstream, services, Learned::Service, learned);
    let slices = Resource::all("/apis/discovery.k8s.io/v1/endpointslices");
    watch(tasks, upstream, slices, Learned::Slice, learned);
    let nodes = Resource::all("/api/v1/nodes");
    watch(tasks, upstream, nodes, Learned::Node, learned);
    let namespaces = Resource::metadata("/api/v1/namespaces");
    watch(tasks, upstream, namespaces, Learned::Namespace, learned);
    match config.policies {
        PolicySource::Folder(_) => {}
        PolicySource::Cluster => {
            let policies = Resource::all(AGENT_POLICIES);
            watch(tasks, upstream, policies, Learned::Policy, learned);
        }
    }
    tasks.spawn(resolve(
        Arc::clone(upstream),
        endpoint.authority.clone(),
        learned.clone(),
    ));
}

fn watch<T: Object>(
    tasks: &mut JoinSet<()>,
    upstream: &Arc<UpstreamPool>,
    resource: Resource,
    into: fn(Change<T>) -> Learned,
    learned: &mpsc::Sender<Learned>,
) {
    let (upstream, learned) = (Arc::clone(upstream), learned.clone());
    tasks.spawn(async move { reflect(&upstream, &resource, into, &learned).await });
}

/// Follows the API server's name. An answer moves new connections there too; no answer changes nothing.
async fn resolve(upstream: Arc<UpstreamPool>, authority: String, learned: mpsc::Sender<Learned>) {
    let target = with_port(&authority);
    loop {
        sleep(RESOLVE).await;
        match lookup_host(target.as_str()).await {
            Ok(found) => {
                let addresses: BTreeSet<SocketAddr> = found.collect();
                if addresses.is_empty() {
                    continue;
                }
                upstream.move_to(addresses.iter().copied().collect());
                if learned.send(Learned::Endpoint(addresses)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, target, "the API server's name is not resolved"),
        }
    }
}

/// `host:port`; a URL without a port means 443.
fn with_port(authority: &str) -> String {
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok() && !authority.ends_with(']'));
    if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:443")
    }
}

/// What there is to know before the first attaching: pods and Services as a whole, or as much as came in time.
pub(super) async fn first_look(learned: &mut mpsc::Receiver<Learned>) -> Vec<Learned> {
    let mut looked = Vec::new();
    let look = async {
        let (mut pods, mut services, mut slices) = (false, false, false);
        while !(pods && services && slices) {
            let Some(next) = learned.recv().await else { return };
            pods |= matches!(next, Learned::Pod(_));
            services |= matches!(next, Learned::Service(_));
            slices |= matches!(next, Learned::Slice(_));
            looked.push(next);
        }
    };
    if timeout(FIRST_LOOK, look).await.is_err() {
        say("warning: the pods of this node are not known yet; until they are, none reaches the API server");
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn a_url_without_a_port_means_443() {
        for (authority, expected) in [
            ("api.example:6443", "api.example:6443"),
            ("api.example", "api.example:443"),
            ("[fd00::1]", "[fd00::1]:443"),
            ("[fd00::1]:6443", "[fd00::1]:6443"),
            ("10.0.0.1", "10.0.0.1:443"),
        ] {
            assert_eq!(with_port(authority), expected);
        }
    }
}
