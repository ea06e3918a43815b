//! Policies that suites and the demo share, and the kind that they are objects of.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::programs;

/// The CustomResourceDefinition, in the workspace.
const DEFINITION: &str = "deploy/crds/agentpolicies.eks-guard.dev.yaml";
/// Where the API server has the objects.
pub const PATH: &str = "/apis/eks-guard.dev/v1alpha1/agentpolicies";

/// Makes policies objects of the cluster. It may be done again.
pub fn install(cluster: &Cluster) -> Result<()> {
    let file = programs::workspace().join(DEFINITION);
    let file = file.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &file])?.ok()?;
    cluster.wait_for(PATH)
}

/// Everything the guard can allow so far.
pub const EVERYTHING: &str = "\
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata:
  name: everything
spec:
  subjects:
    agents: ['*']
  rules:
    - name: everything
      effect: allow
      verbs: ['*']
      apiGroups: ['*']
      resources: ['*', '*/*']
      namespaces: ['*']
";

/// The same with values of Secrets in clear, which helm needs.
#[must_use]
pub fn everything_in_clear() -> String {
    format!("{EVERYTHING}      masking: None\n")
}

/// A policy that allows an agent these verbs and resources in the namespace of its name.
#[must_use]
pub fn reading(agent: &str, verbs: &[&str], resources: &[&str]) -> Value {
    json!({
        "apiVersion": "eks-guard.dev/v1alpha1",
        "kind": "AgentPolicy",
        "metadata": {"name": agent},
        "spec": {
            "subjects": {"agents": [agent]},
            "rules": [{
                "name": "read", "effect": "allow", "verbs": verbs, "apiGroups": [""],
                "resources": resources, "namespaces": [agent],
            }],
        },
    })
}
