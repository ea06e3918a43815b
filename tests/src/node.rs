//! A node with pods beside a real API server, each in network namespaces of their own, and everybody whom a pod could try
//! to reach. Nothing leaves these namespaces, and nothing is left of them, whatever ends the test.

mod dns;
mod fixture;
mod layout;
mod meter;
mod network;
mod pod;
mod profile;
mod relay;
mod sandbox;
mod tree;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::cluster::{Cluster, ClusterOptions, Site};
use crate::http::install_crypto;
pub use crate::node::fixture::{Arrivals, Fixture};
use crate::node::fixture::{Reply, Speech, line};
pub use crate::node::layout::{Driver, Layout, Qos, Root};
pub use crate::node::network::{
    API, API_PORT, API_SERVICE, Addresses, DNS, DNS_SERVICE, Families, IMDS, NODE, Network, OTHER_CLUSTER,
    OUTSIDE, POD_IDENTITY,
};
pub use crate::node::pod::{Pause, Pod, PodNetwork, PodSpec};
pub use crate::node::profile::Profile;
pub use crate::node::relay::Relay;
use crate::node::sandbox::Numbers;
pub use crate::node::sandbox::Sandbox;
use crate::node::tree::Tree;
use crate::pki::Authority;

/// Name of the Node object.
pub const NODE_NAME: &str = "node-a";
/// The name under which the API server is known outside of the cluster.
pub const API_NAME: &str = "api.cluster.test";

/// One node, its API server, and its surroundings.
pub struct NodeRig {
    // Dropped in this order: who answers before where they are, processes before cgroups and folders.
    fixtures: Fixtures,
    runtime: Option<Runtime>,
    tree: Tree,
    cluster: Cluster,
    network: Network,
    numbers: Numbers,
    families: Families,
    started_in: Duration,
}

/// Everybody whom a pod could try to reach.
pub struct Fixtures {
    /// The API server itself: packets are counted, it answers with its own words.
    pub api: Fixture,
    /// Instance metadata.
    pub imds: Fixture,
    /// The agent of EKS Pod Identity.
    pub pod_identity: Fixture,
    /// The kubelet's port on the node.
    pub kubelet: Fixture,
    /// The API server of another cluster, with TLS.
    pub other_cluster: Fixture,
    /// The DNS answerer; pods reach it as a Service too.
    pub dns: Fixture,
    /// A host that has to do with nothing.
    pub outside: Fixture,
}

impl Fixtures {
    /// Those that answer with a line.
    #[must_use]
    pub fn answering(&self) -> [&Fixture; 6] {
        [
            &self.imds,
            &self.pod_identity,
            &self.kubelet,
            &self.other_cluster,
            &self.dns,
            &self.outside,
        ]
    }
}

impl NodeRig {
    /// Starts it: networks, fixtures, API server, Node object. Needs root.
    pub fn start(families: Families) -> Result<Self> {
        let begin = Instant::now();
        let network = Network::create(families)?;
        let tree = Tree::create()?;
        for layout in Layout::ALL {
            std::fs::create_dir_all(tree.root().join(layout.kubepods()))
                .context("making the root of the pods")?;
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting the runtime of the fixtures")?;
        let fixtures = Fixtures::start(&network, families, runtime.handle())?;
        let addresses = API.of(families);
        let (bind, also) = addresses.split_first().context("a rig without a family")?;
        let cluster = Cluster::start(ClusterOptions {
            bind: *bind,
            site: Some(Site {
                netns: network.control_plane.clone(),
                port: API_PORT,
                also: also.to_vec(),
                services: service_ranges(families),
                cluster_ips: API_SERVICE.of(families),
            }),
            ..ClusterOptions::default()
        })?;
        let mut rig = Self {
            fixtures,
            runtime: Some(runtime),
            tree,
            cluster,
            network,
            numbers: Numbers::new(),
            families,
            started_in: Duration::ZERO,
        };
        rig.register()?;
        rig.started_in = begin.elapsed();
        Ok(rig)
    }

    /// The API server and who may ask it.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The namespaces.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Families of the rig.
    #[must_use]
    pub fn families(&self) -> Families {
        self.families
    }

    /// Who can be reached.
    #[must_use]
    pub fn fixtures(&self) -> &Fixtures {
        &self.fixtures
    }

    /// How long the start took.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// What stands for the node's cgroup2 mount: the paths of [`Layout`] begin here.
    #[must_use]
    pub fn cgroups(&self) -> &Path {
        self.tree.root()
    }

    /// The cgroup2 mount of this machine, in which [`NodeRig::cgroups`] is.
    #[must_use]
    pub fn cgroup_mount(&self) -> &Path {
        self.tree.mount()
    }

    /// Runs a pod.
    pub fn run_pod(&self, spec: &PodSpec) -> Result<Pod<'_>> {
        self.run_pods(std::slice::from_ref(spec))?
            .pop()
            .context("one pod was asked for")
    }

    /// Runs many pods.
    pub fn run_pods(&self, specs: &[PodSpec]) -> Result<Vec<Pod<'_>>> {
        let own = specs.iter().filter_map(|spec| match spec.network {
            PodNetwork::Own(families) => Some(families),
            PodNetwork::Host => None,
        });
        let mut sandboxes = self.sandboxes(&own.collect::<Vec<_>>())?.into_iter();
        let mut run = |spec: &PodSpec| {
            let sandbox = match spec.network {
                PodNetwork::Own(_) => sandboxes.next(),
                PodNetwork::Host => None,
            };
            Pod::run(self, spec, sandbox)
        };
        specs.iter().map(&mut run).collect()
    }

    pub(crate) fn sandboxes(&self, families: &[Families]) -> Result<Vec<Sandbox>> {
        Sandbox::create(&self.network, &self.numbers, families)
    }

    /// The objects that a cluster with this node has.
    fn register(&self) -> Result<()> {
        let admin = self.cluster.admin();
        admin.create("/api/v1/nodes", &json!({"metadata": {"name": NODE_NAME}}))?;
        let addresses: Vec<_> = NODE
            .of(self.families)
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        let status = json!({"status": {
            "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        admin.merge(&format!("/api/v1/nodes/{NODE_NAME}/status"), &status)?;
        let service = "/api/v1/namespaces/default/services/kubernetes";
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        // The API server writes both about itself, some time after it is ready.
        self.cluster.wait_for(service)?;
        self.cluster.wait_for(&format!("{slices}/kubernetes"))?;
        if self.families == Families::Dual {
            // The API server makes its own Service for one family only.
            let spec = json!({"spec": {
                "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
                "clusterIPs": API_SERVICE.of(self.families),
            }});
            admin.merge(service, &spec)?;
            let slice = json!({
                "metadata": {"name": "kubernetes-ipv6", "labels": {"kubernetes.io/service-name": "kubernetes"}},
                "addressType": "IPv6",
                "endpoints": [{"addresses": [API.v6], "conditions": {"ready": true}}],
                "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP"}],
            });
            admin.create(
                "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                &slice,
            )?;
        }
        Ok(())
    }
}

impl Drop for NodeRig {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Callers that still think about what to ask are not waited for.
            runtime.shutdown_background();
        }
    }
}

/// The rig of this process, dual-stack, started at the first call. Nobody drops it: it dies with the process.
pub fn shared() -> Result<&'static NodeRig> {
    static SHARED: OnceLock<Result<NodeRig, String>> = OnceLock::new();
    SHARED
        .get_or_init(|| NodeRig::start(Families::Dual).map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("the node rig did not start: {error}"))
}

/// Port of a kubelet.
const KUBELET_PORT: u16 = 10250;

impl Fixtures {
    fn start(network: &Network, families: Families, runtime: &Handle) -> Result<Self> {
        let plain = |name, netns: &Arc<_>, host: Addresses, port| {
            let reply: Reply = Arc::new(move |_: &[u8]| Some(format!("{}\n", line(name)).into_bytes()));
            Fixture::start(
                name,
                netns,
                host.sockets(families, port),
                Speech::Plain,
                runtime,
                reply,
            )
        };
        let (node, outside) = (&network.node, &network.outside);
        let names = [
            (API_NAME, API),
            ("kubernetes.default.svc.cluster.local", API_SERVICE),
            ("kubernetes.default.svc", API_SERVICE),
            ("outside.test", OUTSIDE),
        ]
        .map(|(name, host)| (name.to_owned(), host.of(families)));
        let silent: Reply = Arc::new(|_: &[u8]| None);
        Ok(Self {
            api: Fixture::observe("api", &network.control_plane, API.sockets(families, API_PORT)),
            imds: plain("imds", outside, IMDS, 80)?,
            pod_identity: plain("pod-identity", node, POD_IDENTITY, 80)?,
            kubelet: plain("kubelet", node, NODE, KUBELET_PORT)?,
            other_cluster: Fixture::start(
                "other-cluster",
                outside,
                OTHER_CLUSTER.sockets(families, API_PORT),
                Speech::Tls(other_cluster(families)?),
                runtime,
                silent,
            )?,
            dns: Fixture::start(
                "dns",
                outside,
                DNS.sockets(families, 53),
                Speech::Plain,
                runtime,
                Arc::new(move |query| dns::reply(query, &names)),
            )?,
            outside: plain("outside", outside, OUTSIDE, 443)?,
        })
    }
}

fn other_cluster(families: Families) -> Result<TlsAcceptor> {
    install_crypto();
    let identity =
        Authority::generate("other-cluster")?.serving(&["kubernetes"], &OTHER_CLUSTER.of(families))?;
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn service_ranges(families: Families) -> Vec<String> {
    let v4 = families.v4().then(|| "10.96.0.0/16".to_owned());
    let v6 = families.v6().then(|| "fd00:96::/112".to_owned());
    v4.into_iter().chain(v6).collect()
}
