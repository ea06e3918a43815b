//! The few fields that are read of the few objects that are watched. Everything that is missing reads as empty.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object of the API.
pub trait Object: DeserializeOwned + Send + 'static {
    /// Its metadata.
    fn metadata(&self) -> &Metadata;
}

/// `metadata`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Namespace; empty for cluster objects.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Counts the changes of its `spec`; 0 where nobody counts.
    pub generation: u64,
    /// Version, to go on watching from.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// `metadata`
    pub metadata: Metadata,
    /// `spec`
    pub spec: PodSpec,
    /// `status`
    pub status: PodStatus,
}

/// `status` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// Its addresses, at most one of each family.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
}

/// An entry of `podIPs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

impl PodStatus {
    /// Its addresses; texts that are none are none.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.pod_ips
            .iter()
            .filter_map(|entry| entry.ip.parse().ok())
            .collect()
    }
}

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to.
    pub node_name: String,
    /// Its ServiceAccount.
    pub service_account_name: String,
    /// Whether it has no network namespace of its own.
    pub host_network: bool,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `metadata`
    pub metadata: Metadata,
    /// `spec`
    pub spec: ServiceSpec,
    /// `status`
    pub status: ServiceStatus,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Its addresses in the cluster; `None` for headless ones.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Further addresses that nodes take for it.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// `status` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// What a load balancer gave it.
    pub load_balancer: LoadBalancer,
}

/// `status.loadBalancer` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    /// Addresses.
    pub ingress: Vec<Ingress>,
}

/// An address of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// The address; empty when it has a name only.
    pub ip: String,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Its number; none in a slice means all.
    pub port: Option<u16>,
    /// The port of every node that leads to it, if the Service has one.
    pub node_port: Option<u16>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointSlice {
    /// `metadata`
    pub metadata: Metadata,
    /// `endpoints`
    pub endpoints: Vec<Endpoint>,
    /// `ports`
    pub ports: Vec<Port>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// `metadata`
    pub metadata: Metadata,
    /// `status`
    pub status: NodeStatus,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and names.
    pub addresses: Vec<NodeAddress>,
}

/// An address or a name of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// The text.
    pub address: String,
}

/// A Namespace, of which the labels are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// `metadata`
    pub metadata: Metadata,
}

/// An AgentPolicy. What it says is read where policies are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentPolicy {
    /// `metadata`
    pub metadata: Metadata,
    /// `spec`
    pub spec: Value,
    /// `status`: what was said to have become of it.
    pub status: Value,
}

impl Object for Namespace {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Object for AgentPolicy {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Object for Pod {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Object for Service {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Object for EndpointSlice {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Object for Node {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
