//! Which clients are compared, and in which version: what the lock files in `tests/clients` say.

use std::fs;

use anyhow::{Context, Result};

use crate::programs;

/// A client and what pins its version.
struct Pin {
    client: &'static str,
    /// In `tests`.
    file: &'static str,
    /// What stands before the version.
    before: &'static str,
    /// What stands behind it.
    behind: char,
}

/// In the order of the page.
const PINS: [Pin; 9] = [
    pin("kubectl", "cluster/kubernetes/go.mod", "k8s.io/kubernetes v", ' '),
    pin("kubectl", "clients/kubectl-1.31/go.mod", "k8s.io/kubectl v", '\n'),
    pin("kubectl", "clients/kubectl-1.29/go.mod", "k8s.io/kubectl v", '\n'),
    pin("helm", "clients/helm-3/go.mod", "helm.sh/helm/v3 v", ' '),
    pin(
        "client-go, protobuf",
        "clients/client-go/go.mod",
        "k8s.io/client-go v",
        '\n',
    ),
    pin(
        "Python client",
        "clients/python/requirements.txt",
        "\nkubernetes==",
        ' ',
    ),
    pin(
        "kube-rs",
        "clients/kube-rs/Cargo.lock",
        "name = \"kube-client\"\nversion = \"",
        '"',
    ),
    pin(
        "MCP server kubernetes-mcp-server",
        "clients/mcp/package.json",
        "\"kubernetes-mcp-server\": \"",
        '"',
    ),
    pin(
        "MCP server mcp-server-kubernetes",
        "clients/mcp/package.json",
        "\"mcp-server-kubernetes\": \"",
        '"',
    ),
];

const fn pin(client: &'static str, file: &'static str, before: &'static str, behind: char) -> Pin {
    Pin {
        client,
        file,
        before,
        behind,
    }
}

/// Every client and version.
pub(super) fn all() -> Result<Vec<(&'static str, String)>> {
    PINS.iter().map(|pin| Ok((pin.client, pin.version()?))).collect()
}

/// The version of a client whose version begins like this.
pub(super) fn version(client: &str, beginning: &str) -> Result<String> {
    let found = all()?
        .into_iter()
        .find(|(name, version)| *name == client && version.starts_with(beginning));
    let (_, version) = found.with_context(|| format!("no {client} {beginning} is pinned"))?;
    Ok(version)
}

impl Pin {
    fn version(&self) -> Result<String> {
        let path = programs::workspace().join("tests").join(self.file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let version = text.split_once(self.before).and_then(|(_, rest)| {
            let end = rest.find([self.behind, '\n'])?;
            Some(rest[..end].trim())
        });
        let version = version.with_context(|| format!("{} pins no {}", path.display(), self.client))?;
        // The libraries of Kubernetes 1.N are published as v0.N.
        Ok(match version.strip_prefix("0.") {
            Some(rest) if self.before.starts_with("k8s.io/kubectl") => format!("1.{rest}"),
            Some(_) | None => version.to_owned(),
        })
    }
}
