//! The YAML shape of a `NodeConfig`: every value with the place it stands at, nothing checked yet.

use eks_guard_core::yaml::{At, Field, present};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) spec: Field<Spec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(default, deserialize_with = "present")]
    pub(super) node_name: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) cgroup_root: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) pins: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) state: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) policies: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) policy_source: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) records: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) upstream: Field<Upstream>,
    #[serde(default, deserialize_with = "present")]
    pub(super) api_servers: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) other_clusters: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) kubelet_ports: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) nat64_prefixes: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) system_pods: Field<Vec<At<SystemPod>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) agent_label: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) egress: Field<Egress>,
    #[serde(default, deserialize_with = "present")]
    pub(super) verify: Field<Verify>,
    #[serde(default, deserialize_with = "present")]
    pub(super) metrics: Field<Metrics>,
    #[serde(default, deserialize_with = "present")]
    pub(super) nri: Field<Nri>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Verify {
    #[serde(default, deserialize_with = "present")]
    pub(super) interval_seconds: Field<u32>,
    #[serde(default, deserialize_with = "present")]
    pub(super) probe: Field<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metrics {
    #[serde(default, deserialize_with = "present")]
    pub(super) listen: Field<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Nri {
    #[serde(default, deserialize_with = "present")]
    pub(super) mode: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) socket: Field<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Upstream {
    #[serde(default, deserialize_with = "present")]
    pub(super) kubeconfig: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) context: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) service_account: Field<ServiceAccount>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServiceAccount {
    #[serde(default, deserialize_with = "present")]
    pub(super) server: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) token_file: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) certificate_authority: Field<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SystemPod {
    #[serde(default, deserialize_with = "present")]
    pub(super) namespace: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) service_account: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) name: Field<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Egress {
    #[serde(default, deserialize_with = "present")]
    pub(super) mode: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) agents: Field<Vec<At<AgentEgress>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AgentEgress {
    #[serde(default, deserialize_with = "present")]
    pub(super) agent: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) mode: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) allow: Field<Vec<At<Allow>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Allow {
    #[serde(default, deserialize_with = "present")]
    pub(super) to: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) protocol: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) port: Field<u16>,
    #[serde(default, deserialize_with = "present")]
    pub(super) opens: Field<String>,
}
