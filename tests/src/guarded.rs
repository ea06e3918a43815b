//! Runs commands under `eks-guard run` against a test cluster, each guard with a credential and a record of its own.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::command::{self, Output};
use crate::kubeconfig::Credential;
use crate::{leash, programs};

/// An operator of the cluster who starts commands under eks-guard.
pub struct Guarded<'a> {
    cluster: &'a Cluster,
    user: String,
    agent: String,
    home: PathBuf,
    kubeconfig: PathBuf,
    policy: PathBuf,
    env: Vec<(String, String)>,
}

impl<'a> Guarded<'a> {
    /// An operator with a client certificate of their own, agent name `agent`, and a policy.
    pub fn new(cluster: &'a Cluster, agent: &str, policy: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let user = format!("operator-{agent}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let credential = Credential::ClientCertificate(cluster.upstream_identity(&user)?);
        Self::with_credential(cluster, agent, &user, credential, policy)
    }

    /// The same with a chosen credential; `user` is whom the API server takes it for.
    pub fn with_credential(
        cluster: &'a Cluster,
        agent: &str,
        user: &str,
        credential: Credential,
        policy: &str,
    ) -> Result<Self> {
        let home = cluster.folder().join(user.replace(':', "-"));
        fs::create_dir(&home).with_context(|| format!("making {}", home.display()))?;
        // The guarded command runs as another user and works in here.
        fs::set_permissions(&home, Permissions::from_mode(0o777))?;
        let kubeconfig = home.join("kubeconfig");
        fs::write(&kubeconfig, cluster.kubeconfig(credential).render())?;
        fs::set_permissions(&kubeconfig, Permissions::from_mode(0o600))?;
        // kubectl keeps what it learnt about the API; the guarded user has no home to keep it in.
        let cache = home.join("kubectl-cache");
        fs::create_dir(&cache)?;
        fs::set_permissions(&cache, Permissions::from_mode(0o777))?;
        let policy_file = home.join("policy.yaml");
        fs::write(&policy_file, policy)?;
        Ok(Self {
            cluster,
            user: user.to_owned(),
            agent: agent.to_owned(),
            home,
            kubeconfig,
            policy: policy_file,
            env: vec![("KUBECACHEDIR".to_owned(), cache.display().to_string())],
        })
    }

    /// Sets a variable of the operator's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same operator, who knows the API server by another address.
    pub fn by_way_of(self, server: SocketAddr) -> Result<Self> {
        let known = fs::read_to_string(&self.kubeconfig)?;
        let here = known.replace(&self.cluster.server().to_string(), &server.to_string());
        fs::write(&self.kubeconfig, here).context("writing the kubeconfig")?;
        Ok(self)
    }

    /// The variables that were set.
    #[must_use]
    pub fn variables(&self) -> &[(String, String)] {
        &self.env
    }

    /// Whom the API server takes the guard for.
    #[must_use]
    pub fn upstream_user(&self) -> &str {
        &self.user
    }

    /// A folder where the guarded command can write.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The operator's kubeconfig, as the operator sees it.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Folder of the records of its runs; only the guard's user can read it.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.home.join("records")
    }

    /// Runs kubectl under the guard.
    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        let mut line = vec![self.cluster.kubectl_program().as_os_str()];
        line.extend(args.iter().map(OsStr::new));
        self.run(&line)
    }

    /// Runs a shell line under the guard; `kubectl` is on its path.
    pub fn shell(&self, script: &str) -> Result<Output> {
        self.run(&[OsStr::new("/bin/sh"), OsStr::new("-c"), OsStr::new(script)])
    }

    /// Runs a command under the guard.
    pub fn run(&self, line: &[&OsStr]) -> Result<Output> {
        command::run(self.command(line)?)
    }

    /// The command that `run` runs, for callers that want to hold it while it runs.
    pub fn command(&self, line: &[&OsStr]) -> Result<Command> {
        let mut command = leash::hold(&programs::eks_guard()?)?;
        command
            .arg("run")
            .arg("--policy")
            .arg(&self.policy)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--records")
            .arg(self.records());
        command
            .args(["--quiet", "--agent", &self.agent, "--user", "nobody", "--"])
            .args(line);
        command.current_dir(&self.home).env_clear();
        command
            .env("PATH", self.path())
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// `eks-guard` itself with this operator's records, for `policy`, `sessions` and the like.
    pub fn eks_guard(&self, args: &[&str]) -> Result<Output> {
        let mut command = leash::hold(&programs::eks_guard()?)?;
        command
            .args(args)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", self.path())
            .env("EKS_GUARD_STATE_DIR", &self.home);
        command::run(command)
    }

    /// `PATH` of the guarded command, with `kubectl` on it.
    #[must_use]
    pub fn path(&self) -> String {
        let folder = self
            .cluster
            .kubectl_program()
            .parent()
            .unwrap_or(Path::new("/"))
            .display();
        format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin")
    }
}
