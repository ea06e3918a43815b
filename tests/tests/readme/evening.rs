//! The machine of somebody who reads the documents for the first time: a home folder, a kubeconfig, a namespace.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::kubeconfig::Credential;
use rig::{command, leash, programs};

use crate::commands::Command;

/// Where the documents install the program.
const INSTALLED: &str = "/usr/local/bin";
/// What they build.
const BUILT: &str = "target/release/eks-guard";
/// Who calls sudo: `nobody`, by number.
const PERSON: &str = "65534";

pub(crate) struct Evening {
    cluster: &'static Cluster,
    home: PathBuf,
    bin: PathBuf,
}

impl Evening {
    /// `policy` is what the person has written to `policy.yaml`.
    pub(crate) fn begin(policy: &str) -> Result<Evening> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "this suite needs root: run it as `sudo cargo xtask test readme`"
        );
        let cluster = shared()?;
        cluster.create_namespace("shop")?;
        let home = cluster.folder().join("evening");
        let bin = home.join("bin");
        fs::create_dir_all(&bin)?;
        fs::set_permissions(&home, Permissions::from_mode(0o755))?;
        fs::write(home.join("policy.yaml"), policy)?;
        symlink(programs::workspace().join("deploy"), home.join("deploy"))?;
        let credential = Credential::ClientCertificate(cluster.upstream_identity("evening")?);
        fs::write(home.join("kubeconfig"), cluster.kubeconfig(credential).render())?;
        Ok(Evening { cluster, home, bin })
    }

    /// Runs a command of a document, and holds its exit code against what the document says.
    pub(crate) fn run(&self, command: &Command) -> Result<()> {
        if let Some(task) = command.line.strip_prefix("cargo xtask ") {
            return is_task(task);
        }
        let program = programs::eks_guard()?;
        let line = command
            .line
            .replace(BUILT, &program.to_string_lossy())
            .replace(INSTALLED, &self.bin.to_string_lossy());
        let kubectl = self.cluster.kubectl_program().parent().context("a folder")?;
        let path = format!(
            "{}:{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.bin.display(),
            kubectl.display()
        );
        let mut shell = leash::hold(Path::new("/bin/sh"))?;
        shell
            .args(["-c", &line])
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home)
            .env("KUBECONFIG", self.home.join("kubeconfig"))
            .env("EKS_GUARD_STATE_DIR", &self.home)
            .env("SUDO_UID", PERSON)
            .env("SUDO_GID", PERSON);
        let output = command::run(shell)?;
        ensure!(
            output.code == command.code,
            "exit code {} expected: {output:?}",
            command.code
        );
        ensure!(
            !output.stdout.contains('\x1b') && !output.stderr.contains('\x1b'),
            "colour: {output:?}"
        );
        Ok(())
    }
}

/// The demo is played; of other tasks it is enough that the task is there, and takes these flags; a suite that is named is one.
fn is_task(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let task = words.next().context("a task")?;
    let xtask = |args: &[&str]| {
        let mut xtask = leash::hold(&programs::workspace().join("target/debug/xtask"))?;
        xtask.args(args).current_dir(programs::workspace());
        command::run(xtask)?.ok()
    };
    if line == "demo" {
        let told = xtask(&["demo"])?;
        ensure!(told.contains("as promised") && !told.contains('\x1b'), "{told}");
        return Ok(());
    }
    let help = xtask(&[task, "--help"])?;
    let mut after_flag = false;
    for word in words {
        let is_flag = word.starts_with('-');
        let known = if is_flag {
            help.contains(word)
        } else if task == "test" && !after_flag {
            let suite = programs::workspace().join(format!("tests/tests/{word}.rs"));
            ["tidy", "unit"].contains(&word) || suite.exists()
        } else {
            true
        };
        after_flag = is_flag;
        ensure!(known, "`cargo xtask {task}` does not take {word:?}: {help}");
    }
    Ok(())
}
