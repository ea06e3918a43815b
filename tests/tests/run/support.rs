//! An operator with a home folder and a kubeconfig, and the commands they start.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::command::{self, Output};
use rig::kubeconfig::Credential;
use rig::{leash, programs, wait};

pub(crate) const POLICY: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: reader}
spec:
  subjects: {agents: [tester]}
  rules:
    - name: read
      effect: allow
      verbs: [get, list, watch]
      apiGroups: [""]
      resources: [namespaces]
      namespaces: ["*"]
"#;

/// Somebody who starts commands under eks-guard. The command runs as `nobody`.
pub(crate) struct Operator {
    pub(crate) cluster: &'static Cluster,
    pub(crate) home: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Operator {
    /// With a client certificate in the kubeconfig.
    pub(crate) fn new() -> Result<Operator> {
        let cluster = cluster()?;
        let credential = Credential::ClientCertificate(cluster.upstream_identity("run-operator")?);
        Operator::with(&cluster.kubeconfig(credential).render())
    }

    /// With this kubeconfig, at `~/.kube/config`.
    pub(crate) fn with(kubeconfig: &str) -> Result<Operator> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cluster = cluster()?;
        let home = cluster
            .folder()
            .join(format!("run-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(home.join(".kube"))?;
        fs::set_permissions(&home, Permissions::from_mode(0o777))?;
        let file = home.join(".kube/config");
        fs::write(&file, kubeconfig)?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        fs::write(home.join("policy.yaml"), POLICY)?;
        Ok(Operator {
            cluster,
            home,
            kubeconfig: file,
        })
    }

    /// `eks-guard run FLAGS -- LINE` as `nobody`, in the home folder.
    pub(crate) fn command(&self, flags: &[&str], line: &[&str]) -> Result<Command> {
        self.command_as(Some("nobody"), flags, line)
    }

    /// The same with this `--user`, or none.
    pub(crate) fn command_as(&self, user: Option<&str>, flags: &[&str], line: &[&str]) -> Result<Command> {
        let mut command = leash::hold(&programs::eks_guard()?)?;
        command.arg("run").args([
            "--policy",
            "policy.yaml",
            "--agent",
            "tester",
            "--records",
            "records",
        ]);
        command
            .args(user.iter().flat_map(|user| ["--user", user]))
            .args(flags)
            .arg("--")
            .args(line);
        let kubectl = self
            .cluster
            .kubectl_program()
            .parent()
            .context("kubectl stands in a folder")?;
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", kubectl.display());
        command
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home);
        Ok(command)
    }

    /// Runs a line to its end.
    pub(crate) fn run(&self, flags: &[&str], line: &[&str]) -> Result<Output> {
        command::run(self.command(flags, line)?)
    }

    /// Runs a shell script to its end.
    pub(crate) fn shell(&self, script: &str) -> Result<Output> {
        self.run(&["-q"], &["/bin/sh", "-c", script])
    }
}

fn cluster() -> Result<&'static Cluster> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this suite needs root: run it as `sudo cargo xtask test run`"
    );
    shared()
}

/// Waits until `probe` gives a value.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    wait::found(what, || Ok(probe()))
}

/// Ids of the processes whose command line contains `mark`.
pub(crate) fn processes(mark: &str) -> BTreeSet<i32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(mark)
        })
        .collect()
}

/// The cgroup of a process below the cgroup2 mount: `/eks-guard/RUN`.
pub(crate) fn cgroup(pid: i32) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.map(str::to_owned).context("no cgroup2 line")
}

/// The folder of such a cgroup.
pub(crate) fn cgroup_folder(cgroup: &str) -> Result<PathBuf> {
    Ok(cgroup_root()?.join(cgroup.trim_start_matches('/')))
}

/// The cgroup2 mount.
pub(crate) fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let point = mount
        .and_then(|line| line.split(' ').nth(1))
        .context("no cgroup2 mount")?;
    Ok(PathBuf::from(point))
}

/// The state folder of the run that this cgroup belongs to.
pub(crate) fn state_folder(cgroup: &str) -> PathBuf {
    Path::new("/run/eks-guard").join(cgroup.rsplit('/').next().unwrap_or_default())
}
