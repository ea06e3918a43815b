//! What can go wrong around a run: one clear line with cause and remedy, the documented exit code, nothing started, nothing left.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use rig::cluster::{Cluster, ClusterOptions, shared};
use rig::command::{self, Output};
use rig::guarded::Guarded;
use rig::kubeconfig::{Credential, Kubeconfig};
use rig::pki::Authority;
use rig::policies::EVERYTHING;
use rig::{leash, programs};

const USAGE: i32 = 2;
const MACHINE: i32 = 3;
const API_SERVER: i32 = 4;

/// A run that cannot start; the command would leave a file.
struct Broken<'a> {
    guarded: Guarded<'a>,
}

impl<'a> Broken<'a> {
    fn new(name: &str) -> Result<Self> {
        Ok(Self {
            guarded: Guarded::new(shared()?, name, EVERYTHING)?,
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.guarded.home().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn kubeconfig(&self, change: impl FnOnce(&mut Kubeconfig)) -> Result<String> {
        let identity = shared()?.upstream_identity("operator-failing")?;
        let mut kubeconfig = shared()?.kubeconfig(Credential::ClientCertificate(identity));
        change(&mut kubeconfig);
        self.write("broken.kubeconfig", &kubeconfig.render())
    }

    /// `eks-guard run ARGS -- touch started` says each text in one line and ends with `code`.
    fn fails(&self, args: &[&str], code: i32, texts: &[&str]) -> Result<()> {
        let started = self.guarded.home().join("started");
        let mut guard = leash::hold(&programs::eks_guard()?)?;
        guard.arg("run").args(["--user", "nobody", "--quiet"]).args(args);
        guard.arg("--records").arg(self.guarded.records());
        guard.args(["--", "/usr/bin/touch"]).arg(&started);
        guard
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.guarded.home());
        guard.env("KUBECONFIG", self.guarded.kubeconfig());
        let output = command::run(guard)?;
        ensure!(
            output.code == code,
            "{args:?}: wanted exit code {code}: {output:#?}"
        );
        let said: Vec<&str> = own_lines(&output);
        ensure!(said.len() == 1, "{args:?}: one line, not {said:#?}");
        for text in texts {
            ensure!(said[0].contains(text), "{args:?}: wanted {text:?} in {said:?}");
        }
        ensure!(!started.exists(), "{args:?}: the command was started");
        Ok(())
    }
}

/// What the guard said, but for its word about runs that other tests have killed.
fn own_lines(output: &Output) -> Vec<&str> {
    output
        .stderr
        .lines()
        .filter(|line| !line.contains("removed what") && !line.is_empty())
        .collect()
}

#[test]
fn kubeconfigs_that_cannot_be_used() -> Result<()> {
    let broken = Broken::new("kubeconfigs")?;
    broken.fails(
        &["--kubeconfig", "/nonexistent/config"],
        USAGE,
        &["/nonexistent/config"],
    )?;
    let not_one = broken.write("not-one", "{{{{")?;
    broken.fails(&["--kubeconfig", &not_one], USAGE, &["not-one"])?;
    broken.fails(&["--context", "absent"], USAGE, &["absent", "rig"])?;
    Ok(())
}

#[test]
fn policies_that_do_not_read() -> Result<()> {
    let broken = Broken::new("policies")?;
    broken.fails(
        &["--policy", "/nonexistent/policy.yaml"],
        USAGE,
        &["/nonexistent/policy.yaml"],
    )?;
    let misspelt = broken.write("misspelt.yaml", &EVERYTHING.replace("effect:", "efect:"))?;
    broken.fails(&["--policy", &misspelt], USAGE, &["misspelt.yaml:", "efect"])?;
    let twice = broken.write("twice.yaml", &EVERYTHING.replace("kind:", "kind: A\nkind:"))?;
    broken.fails(&["--policy", &twice], USAGE, &["twice.yaml:3:", "twice"])?;
    Ok(())
}

#[test]
fn api_servers_that_are_not_there_or_not_the_right_one() -> Result<()> {
    let broken = Broken::new("servers")?;
    // Bound and not listening: nobody else gets the port, and connecting is refused.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    drop(listener);
    let gone = broken.kubeconfig(|kubeconfig| kubeconfig.server = format!("https://{address}"))?;
    broken.fails(&["--kubeconfig", &gone], API_SERVER, &[&address.to_string()])?;
    let stranger = Authority::generate("stranger")?.pem();
    let wrong = broken.kubeconfig(|kubeconfig| kubeconfig.ca = stranger)?;
    broken.fails(&["--kubeconfig", &wrong], API_SERVER, &["certificate"])?;
    Ok(())
}

#[test]
fn credentials_that_are_not_accepted() -> Result<()> {
    let broken = Broken::new("credentials")?;
    let token = |text: &str| Credential::Token(text.to_owned());
    let expired = broken.kubeconfig(|kubeconfig| kubeconfig.credential = token("not-a-token"))?;
    broken.fails(&["--kubeconfig", &expired], API_SERVER, &["credential"])?;
    let absent = Credential::TokenFile(PathBuf::from("/nonexistent/token"));
    let missing = broken.kubeconfig(|kubeconfig| kubeconfig.credential = absent)?;
    broken.fails(&["--kubeconfig", &missing], USAGE, &["/nonexistent/token"])?;
    Ok(())
}

#[test]
fn without_root_it_says_how_to_get_it() -> Result<()> {
    let broken = Broken::new("noroot")?;
    // A program that another user can execute, in a place where they may.
    let program = broken.guarded.home().join("eks-guard");
    fs::copy(programs::eks_guard()?, &program)?;
    let readable = broken.guarded.home().join("kubeconfig.readable");
    fs::copy(broken.guarded.kubeconfig(), &readable)?;
    let mut open = fs::metadata(&readable)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o644);
    fs::set_permissions(&readable, open)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program);
    command
        .args(["run", "--kubeconfig"])
        .arg(&readable)
        .args(["--user", "nobody", "--", "true"])
        .env_clear();
    let output = command::run(command)?;
    ensure!(
        output.code == MACHINE && output.stderr.contains("sudo"),
        "{output:#?}"
    );
    Ok(())
}

#[test]
fn exit_codes_of_the_command_are_the_guards() -> Result<()> {
    let guarded = Guarded::new(shared()?, "codes", EVERYTHING)?;
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let output = guarded.shell(script)?;
        ensure!(output.code == code, "{script}: {output:?}");
    }
    ensure!(guarded.run(&["/nonexistent/command".as_ref()])?.code == 127);
    ensure!(guarded.run(&["/etc/passwd".as_ref()])?.code == 126);
    Ok(())
}

#[test]
fn a_run_leaves_no_cgroup_and_no_state() -> Result<()> {
    let guarded = Guarded::new(shared()?, "tidy", EVERYTHING)?;
    // The command tells where it is; afterwards there is no such place.
    let inside = guarded.shell("cat /proc/self/cgroup")?.ok()?;
    let path = inside
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts
        .lines()
        .find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, point, "cgroup2", ..] => Some(PathBuf::from(point)),
            _ => None,
        });
    let root = root.unwrap_or_default();
    ensure!(root.is_dir() && path.len() > 1, "{inside}");
    ensure!(
        !root.join(path.trim_start_matches('/')).exists() || path == "/",
        "{path} is still there"
    );
    Ok(())
}

#[test]
fn an_api_server_that_restarts_is_found_again() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default())?;
    cluster.create_namespace("again")?;
    let guarded = Guarded::new(&cluster, "again", EVERYTHING)?;
    let script = "kubectl -n again get configmaps -o name && touch ready\n\
                  until test -e restarted; do sleep 0.05; done\n\
                  kubectl -n again create configmap after";
    let mut command = guarded.command(&["/bin/sh", "-c", script].map(std::ffi::OsStr::new))?;
    command.stdin(std::process::Stdio::null());
    let mut guard = leash::spawn(command)?;
    while !guarded.home().join("ready").exists() {
        ensure!(
            guard.try_wait()?.is_none(),
            "the command ended before it was ready"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    cluster.restart_api_server()?;
    fs::write(guarded.home().join("restarted"), "")?;
    ensure!(guard.wait()?.success());
    cluster
        .kubectl(&["-n", "again", "get", "configmap", "after"])?
        .ok()?;
    Ok(())
}
