//! Who asks: the facts of a principal, as flags of a command line and as fields of a document.

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use eks_guard_core::principal::{PodIdentity, Principal};
use serde::Deserialize;

/// A principal as a person describes it. With any fact of a pod it is an agent in a pod, else one outside Kubernetes.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Who {
    /// Agent that asks
    #[arg(long = "as", value_name = "AGENT", value_parser = NonEmptyStringValueParser::new())]
    pub agent: String,
    /// Namespace of the agent's pod [default with other facts of a pod: default]
    #[arg(id = "pod-namespace", long = "pod-namespace", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// ServiceAccount of the agent's pod [default with other facts of a pod: default]
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// Name of the agent's pod
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,
    /// Name of the node that the agent's pod runs on
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// A label of the agent's pod; may be given several times
    #[arg(long = "pod-label", value_name = "KEY=VALUE", value_parser = pair)]
    #[serde(default, deserialize_with = "map")]
    pub labels: Vec<(String, String)>,
    /// Container of the agent [left out: not known]
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// A group of the external identity; may be given several times [left out: not known]
    #[arg(long = "group", value_name = "GROUP")]
    #[serde(default)]
    pub groups: Vec<String>,
    /// A claim of the external identity; may be given several times [left out: not known]
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = pair)]
    #[serde(default, deserialize_with = "map")]
    pub claims: Vec<(String, String)>,
}

impl Who {
    /// The principal.
    #[must_use]
    pub fn principal(&self) -> Principal {
        let facts = [&self.namespace, &self.service_account, &self.pod, &self.node];
        let in_pod =
            facts.into_iter().any(Option::is_some) || !self.labels.is_empty() || self.container.is_some();
        let or =
            |text: &Option<String>, otherwise: &str| text.clone().unwrap_or_else(|| otherwise.to_owned());
        let pod = in_pod.then(|| PodIdentity {
            namespace: or(&self.namespace, "default"),
            name: or(&self.pod, ""),
            uid: String::new(),
            service_account: or(&self.service_account, "default"),
            node: or(&self.node, ""),
        });
        let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.claims {
            claims.entry(name.clone()).or_default().push(value.clone());
        }
        let has_identity = !self.groups.is_empty() || !claims.is_empty();
        Principal {
            labels: in_pod.then(|| self.labels.iter().cloned().collect()),
            pod,
            container: self.container.clone(),
            groups: has_identity.then(|| self.groups.clone()),
            claims: has_identity.then_some(claims),
            ..Principal::named(self.agent.as_str())
        }
    }
}

/// `KEY=VALUE`
fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is no KEY=VALUE"))
}

fn map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    BTreeMap::<String, String>::deserialize(deserializer).map(|map| map.into_iter().collect())
}
