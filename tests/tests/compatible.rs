//! Clients as they are released do the same work straight and through the guard: `docs/compatibility.md` is what became of it.

use std::ffi::OsStr;

use anyhow::Result;
use rig::clients::{Clients, Exception, page};
use rig::cluster::shared;
use rig::programs;

const STREAM: &str = "refused: ConnectRefused";

const KUBECTL: [Exception; 8] = [
    Exception {
        operation: "config view",
        says: "token: REDACTED",
        verdict: "differs: the kubeconfig inside holds no credential",
    },
    Exception {
        operation: "auth can-i, of a stream",
        says: "eks-guard",
        verdict: "differs: no, and the guard's reason",
    },
    Exception {
        operation: "auth whoami",
        says: "eks-guard:",
        verdict: "differs: names the agent",
    },
    Exception {
        operation: "create token",
        says: "requests through the guard need no token",
        verdict: "refused: SelfProtection",
    },
    refused("exec"),
    refused("attach"),
    refused("cp"),
    refused("port-forward"),
];
const CLIENT_GO: [Exception; 1] = [Exception {
    operation: "metadata client",
    says: "PartialObjectMetadata",
    verdict: "differs: replies are JSON, in which the items of a list name their kind",
}];
const PYTHON: [Exception; 1] = [refused("exec")];
const MCP: [Exception; 2] = [refused("pods_exec"), refused("exec_in_pod")];

const fn refused(operation: &'static str) -> Exception {
    Exception {
        operation,
        says: "may not",
        verdict: STREAM,
    }
}

#[test]
fn the_page_of_compatible_clients_is_about_those_that_are_pinned() -> Result<()> {
    page::is_about_the_pinned_clients()
}

#[test]
fn kubectl_of_this_version_is_compatible() -> Result<()> {
    kubectl("1.36", "kubectl", "k136")
}

#[test]
fn kubectl_1_31_is_compatible() -> Result<()> {
    kubectl("1.31", "kubectl-1.31", "k131")
}

#[test]
fn kubectl_1_29_is_compatible() -> Result<()> {
    kubectl("1.29", "kubectl-1.29", "k129")
}

fn kubectl(version: &str, program: &str, name: &str) -> Result<()> {
    let clients = Clients::new(shared()?, "kubectl", version, name)?.except(&KUBECTL);
    clients.program(&programs::server(program)?, "kubectl")?;
    clients.running_pod(&format!("{name}-node"), "running")?;
    clients.script("kubectl")
}

#[test]
fn helm_3_is_compatible() -> Result<()> {
    let clients = Clients::new(shared()?, "helm", "3", "helm3")?;
    clients.program(&programs::server("helm-3")?, "helm")?;
    clients.script("helm")
}

#[test]
fn client_go_with_protobuf_is_compatible() -> Result<()> {
    let clients = Clients::new(shared()?, "client-go, protobuf", "", "go")?.except(&CLIENT_GO);
    let program = clients.program(&programs::server("client-go")?, "client-go")?;
    clients.compare(&[program.as_os_str()])
}

#[test]
fn kube_rs_is_compatible() -> Result<()> {
    let clients = Clients::new(shared()?, "kube-rs", "", "rust")?;
    let program = programs::client("kube-rs")?.join("kube-rs-client");
    let program = clients.program(&program, "kube-rs-client")?;
    clients.compare(&[program.as_os_str()])
}

#[test]
fn the_python_client_is_compatible() -> Result<()> {
    let clients = Clients::new(shared()?, "Python client", "", "python")?.except(&PYTHON);
    clients.files("python")?;
    clients.running_pod("python-node", "running")?;
    let packages = clients.packages(&programs::client("python")?)?;
    let clients = clients.env("PYTHONPATH", &packages.to_string_lossy());
    clients.compare(&[OsStr::new("/usr/bin/python3"), OsStr::new("operations.py")])
}

#[test]
fn the_mcp_server_kubernetes_mcp_server_is_compatible() -> Result<()> {
    mcp(
        "MCP server kubernetes-mcp-server",
        "kubernetes-mcp-server",
        "mcpa",
    )
}

#[test]
fn the_mcp_server_mcp_server_kubernetes_is_compatible() -> Result<()> {
    mcp(
        "MCP server mcp-server-kubernetes",
        "mcp-server-kubernetes",
        "mcpb",
    )
}

/// The server is asked by a client of its protocol, with the calls in a file.
fn mcp(client: &'static str, package: &str, name: &str) -> Result<()> {
    let clients = Clients::new(shared()?, client, "", name)?.except(&MCP);
    clients.files("mcp")?;
    clients.running_pod(&format!("{name}-node"), "running")?;
    clients.deployment("web")?;
    clients.program(&programs::server("kubectl")?, "kubectl")?;
    let asker = clients.program(&programs::beside("mcp-client")?, "mcp-client")?;
    let packages = clients.packages(&programs::client("mcp")?)?;
    let server = packages.join("node_modules/.bin").join(package);
    let calls = format!("{package}.json");
    clients.compare(&[asker.as_os_str(), OsStr::new(&calls), server.as_os_str()])
}
