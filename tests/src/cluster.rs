//! One test cluster: start, who may ask it, orderly death.

mod access;
mod control_plane;
mod replica;
mod shared;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::audit::{Audit, SENTINEL_USER};
use crate::cluster::control_plane::ControlPlane;
pub use crate::cluster::replica::Replica;
pub use crate::cluster::shared::shared;
use crate::command::{self, Output};
use crate::http::Client;
use crate::kubeconfig::{Credential, Kubeconfig};
use crate::netns::Netns;
use crate::pki::{Authority, Identity};
use crate::place::Place;
use crate::workdir::Workdir;
use crate::{leash, programs};

/// The context name in every kubeconfig of the rig.
pub const CONTEXT: &str = "rig";
/// A group that may do everything through RBAC, and is not `system:masters`: what a guard's upstream credential is in.
pub const UPSTREAM_GROUP: &str = "rig:upstream";

/// How long a start may take on a machine that has much else to do; a server that ends is noticed at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What can be chosen about a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Address the API server listens on, and the rig speaks to.
    pub bind: IpAddr,
    /// How much of each request its audit log holds.
    pub audit: AuditLevel,
    /// A network of its own; none: loopback of this machine, on a free port.
    pub site: Option<Site>,
}

/// A network that a control plane has for itself.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where its servers run.
    pub netns: Arc<Netns>,
    /// Port of the API server.
    pub port: u16,
    /// Addresses on which the API server listens too.
    pub also: Vec<IpAddr>,
    /// Ranges of ClusterIPs, one a family, that of `bind` first; the API server has the first address of each.
    pub services: Vec<String>,
    /// The ClusterIPs of the API server.
    pub cluster_ips: Vec<IpAddr>,
}

/// How much of each request the audit log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLevel {
    /// Bodies of requests and replies: what tests read.
    RequestResponse,
    /// Who and what, without bodies: for measurements.
    Metadata,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::LOCALHOST.into(),
            audit: AuditLevel::RequestResponse,
            site: None,
        }
    }
}

impl ClusterOptions {
    fn netns(&self) -> Option<Arc<Netns>> {
        self.site.as_ref().map(|site| site.netns.clone())
    }
}

/// A running cluster. Everything it started and wrote is gone after drop, and after any death of this process.
pub struct Cluster {
    // Dropped in this order: processes before the folder they write to.
    control_plane: ControlPlane,
    authority: Authority,
    admin: Client,
    audit: Audit,
    admin_kubeconfig: PathBuf,
    kubectl: PathBuf,
    started_in: Duration,
    netns: Option<Arc<Netns>>,
    workdir: Workdir,
}

impl Cluster {
    /// Starts a cluster and returns when it serves, has its roles, and gives namespaces their default ServiceAccount.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let begin = Instant::now();
        let workdir = Workdir::create()?;
        let authority = Authority::generate("eks-guard-rig")?;
        let control_plane = ControlPlane::start(&workdir, &authority, &options)?;
        let server = control_plane.server();
        let client = |user, group| {
            let client = Client::new(server, &authority.pem(), Some(&authority.client(user, group)?))?;
            Ok::<_, anyhow::Error>(client.from_netns(options.netns()))
        };
        let admin = client("rig-admin", "system:masters")?;
        let audit = Audit::new(control_plane.audit_log(), client(SENTINEL_USER, "rig:sentinels")?);
        let admin_identity = authority.client("rig-admin", "system:masters")?;
        let admin_kubeconfig = workdir.write(
            "admin.kubeconfig",
            kubeconfig(server, &authority, Credential::ClientCertificate(admin_identity)).render(),
        )?;
        let kubectl = place_kubectl(&workdir)?;
        let mut cluster = Self {
            control_plane,
            authority,
            admin,
            audit,
            admin_kubeconfig,
            kubectl,
            started_in: Duration::ZERO,
            netns: options.netns(),
            workdir,
        };
        cluster.wait_until_ready()?;
        cluster.grant_upstream_group()?;
        cluster.started_in = begin.elapsed();
        Ok(cluster)
    }

    /// Address of the API server.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.control_plane.server()
    }

    /// How long the start took.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Folder of the cluster; others may walk through it, but not read what is private.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.workdir.path()
    }

    /// The cluster's certificate authority: serving and client certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What reached the API server.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// A client with every right.
    #[must_use]
    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// Kubeconfig with every right.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The rig's own kubectl, in a place where every user can run it.
    #[must_use]
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// Process ids of the servers.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.control_plane.process_ids()
    }

    /// Kills the API server and starts it again on the same address; returns when it is ready.
    pub fn restart_api_server(&self) -> Result<()> {
        self.control_plane.restart_api_server()?;
        self.wait_until_ready()
    }

    /// kubectl with every right.
    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.kubectl_with(&self.admin_kubeconfig, args)
    }

    /// kubectl with a kubeconfig, straight to the API server.
    pub fn kubectl_with(&self, kubeconfig: &Path, args: &[&str]) -> Result<Output> {
        self.kubectl_in(kubeconfig, &[], args)
    }

    /// The same with more environment.
    pub fn kubectl_in(&self, kubeconfig: &Path, env: &[(String, String)], args: &[&str]) -> Result<Output> {
        let place = Place {
            netns: self.netns.as_ref().map(|netns| netns.path()),
            ..Place::default()
        };
        let mut kubectl = leash::hold_in(&place, &self.kubectl)?;
        kubectl
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.workdir.path());
        kubectl
            .env("KUBECONFIG", kubeconfig)
            .envs(env.iter().map(|(name, value)| (name, value)));
        command::run(kubectl)
    }

    /// Applies a manifest with every right.
    pub fn apply(&self, name: &str, manifest: &str) -> Result<()> {
        let file = self.workdir.write(&format!("{name}.yaml"), manifest)?;
        self.kubectl(&["apply", "-f", &file.to_string_lossy()])?.ok()?;
        Ok(())
    }

    /// Makes a namespace and waits for its default ServiceAccount, without which no pod can be created in it.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.admin
            .create("/api/v1/namespaces", &json!({"metadata": {"name": name}}))?;
        self.wait_for(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"))
    }

    /// A kubeconfig text for this cluster.
    #[must_use]
    pub fn kubeconfig(&self, credential: Credential) -> Kubeconfig {
        kubeconfig(self.server(), &self.authority, credential)
    }

    /// Writes a kubeconfig that only its owner can read.
    pub fn write_kubeconfig(&self, name: &str, credential: Credential) -> Result<PathBuf> {
        self.workdir.write(
            &format!("{name}.kubeconfig"),
            self.kubeconfig(credential).render(),
        )
    }

    /// A user of the upstream group with a client certificate: the operator whose credential a guard uses.
    pub fn upstream_identity(&self, user: &str) -> Result<Identity> {
        self.authority.client(user, UPSTREAM_GROUP)
    }

    fn wait_until_ready(&self) -> Result<()> {
        self.wait_for("/readyz")?;
        self.wait_for_roles()?;
        self.wait_for("/api/v1/namespaces/default/serviceaccounts/default")
    }

    /// Waits until a GET of `path` succeeds.
    pub fn wait_for(&self, path: &str) -> Result<()> {
        self.wait_until(path, || match self.admin.request("GET", path, &[], b"")? {
            reply if reply.status == 200 => Ok(()),
            reply => bail!("HTTP {}: {}", reply.status, String::from_utf8_lossy(&reply.body)),
        })
    }

    /// Repeats `attempt` until it succeeds; a server that died ends the wait.
    fn wait_until(&self, what: &str, attempt: impl Fn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = attempt() {
            self.control_plane.check_alive()?;
            if Instant::now() > deadline {
                return Err(error.context(format!("{what}: not there after {PATIENCE:?}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn kubeconfig(server: SocketAddr, authority: &Authority, credential: Credential) -> Kubeconfig {
    Kubeconfig {
        server: format!("https://{server}"),
        ca: authority.pem(),
        context: CONTEXT.to_owned(),
        namespace: None,
        credential,
    }
}

/// The cache folder may be closed to other users, so a guarded command gets kubectl from the cluster's folder.
fn place_kubectl(workdir: &Workdir) -> Result<PathBuf> {
    let folder = workdir.path().join("bin");
    fs::create_dir(&folder)?;
    let (from, to) = (programs::server("kubectl")?, folder.join("kubectl"));
    if fs::hard_link(&from, &to).is_err() {
        fs::copy(&from, &to).context("copying kubectl")?;
    }
    Ok(to)
}
