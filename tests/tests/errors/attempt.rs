//! One attempt to start a command, and what must be true when it was refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::command::{self, Output};
use rig::kubeconfig::Credential;
use rig::policies::EVERYTHING;
use rig::{leash, programs};

/// What the command prints; never there when it was not started.
const MARK: &str = "the command was started";

/// `WRAPPER eks-guard run FLAGS -- LINE`, in a home folder of its own with a kubeconfig and a policy that are right.
pub(crate) struct Attempt {
    pub(crate) home: PathBuf,
    program: PathBuf,
    wrapper: Vec<String>,
    user: Option<&'static str>,
    usual: Vec<(&'static str, &'static str)>,
    flags: Vec<String>,
    line: Vec<String>,
}

impl Attempt {
    pub(crate) fn new() -> Result<Attempt> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cluster = cluster()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = cluster.folder().join(format!("errors-{number}"));
        fs::create_dir(&home)?;
        fs::set_permissions(&home, Permissions::from_mode(0o755))?;
        let credential = Credential::ClientCertificate(cluster.upstream_identity("errors-operator")?);
        let attempt = Attempt {
            home,
            program: programs::eks_guard()?,
            wrapper: Vec::new(),
            user: Some("nobody"),
            usual: vec![
                ("--kubeconfig", "kubeconfig"),
                ("--policy", "policy.yaml"),
                ("--records", "records"),
            ],
            flags: Vec::new(),
            line: vec!["echo".to_owned(), MARK.to_owned()],
        };
        attempt.write("policy.yaml", EVERYTHING)?;
        attempt.write("kubeconfig", cluster.kubeconfig(credential).render())?;
        Ok(attempt)
    }

    /// With this kubeconfig.
    pub(crate) fn with_kubeconfig(text: &str) -> Result<Attempt> {
        let attempt = Attempt::new()?;
        attempt.write("kubeconfig", text)?;
        Ok(attempt)
    }

    /// A file in the home folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.home.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// More flags; a later one replaces the usual one.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Attempt {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        self
    }

    /// Without one of the usual flags.
    pub(crate) fn without(mut self, flag: &str) -> Attempt {
        self.usual.retain(|(usual, _)| *usual != flag);
        self
    }

    /// `--user`, or none.
    pub(crate) fn user(mut self, user: Option<&'static str>) -> Attempt {
        self.user = user;
        self
    }

    /// What to run.
    pub(crate) fn line(mut self, line: &[&str]) -> Attempt {
        self.line = line.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// With the program in a place where every user can execute it.
    pub(crate) fn installed(mut self) -> Result<Attempt> {
        let place = self.home.join("eks-guard");
        fs::copy(&self.program, &place).context("installing the program")?;
        self.program = place;
        Ok(self)
    }

    /// A program that starts the guard in some worse place.
    pub(crate) fn through(mut self, wrapper: &[&str]) -> Attempt {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(crate) fn run(&self) -> Result<Output> {
        let guard = self.program.to_string_lossy();
        let words: Vec<&str> = self
            .wrapper
            .iter()
            .map(String::as_str)
            .chain([guard.as_ref(), "run"])
            .collect();
        let (program, before) = words.split_first().context("a program")?;
        let mut command = leash::hold(Path::new(program))?;
        command.args(before);
        let given = |flag: &str| self.flags.iter().any(|word| word == flag);
        for (flag, value) in &self.usual {
            if !given(flag) {
                command.args([*flag, *value]);
            }
        }
        command
            .args(self.user.iter().flat_map(|user| ["--user", user]))
            .args(&self.flags)
            .arg("--")
            .args(&self.line)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.home);
        command::run(command)
    }

    /// Runs it: the command is not started, the exit code is `code`, one line says all of `words`, nothing is left.
    pub(crate) fn is_refused(&self, code: i32, words: &[&str]) -> Result<()> {
        let output = self.run()?;
        ensure!(output.code == code, "exit code {code} expected: {output:?}");
        ensure!(
            !output.stdout.contains(MARK),
            "the command was started: {output:?}"
        );
        let said: Vec<&str> = output.stderr.lines().filter(|line| !is_note(line)).collect();
        ensure!(
            said.len() == 1 && said[0].starts_with("eks-guard: ") && !said[0].contains('\x1b'),
            "one plain line expected: {output:?}"
        );
        for word in words {
            ensure!(said[0].contains(word), "{word:?} is missing: {output:?}");
        }
        let sessions = self.nothing_is_left()?;
        if code == 2 {
            ensure!(
                sessions.is_empty(),
                "wrong input must not begin a session: {sessions:?}"
            );
        }
        for session in sessions {
            self.has_ended(&session)?;
        }
        Ok(())
    }

    /// No cgroup and no state of any session of this attempt; returns the sessions.
    pub(crate) fn nothing_is_left(&self) -> Result<Vec<String>> {
        let mut sessions = Vec::new();
        for entry in fs::read_dir(self.home.join("records")).into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let session = name.strip_suffix(".jsonl").context("a session's record")?;
            for left in [
                Path::new("/run/eks-guard").join(session),
                cgroups()?.join(session),
            ] {
                ensure!(!left.exists(), "{} is left", left.display());
            }
            sessions.push(session.to_owned());
        }
        Ok(sessions)
    }

    /// A session that failed to begin says so, and why.
    fn has_ended(&self, session: &str) -> Result<()> {
        let text = fs::read_to_string(self.home.join(format!("records/{session}.jsonl")))?;
        let last = text.lines().last().unwrap_or_default();
        ensure!(last.contains("\"sessionState\":\"ended\""), "{text}");
        Ok(())
    }
}

/// What a run says about itself before its command starts.
fn is_note(line: &str) -> bool {
    [
        "agent ",
        "API server ",
        "policy ",
        "removed from the environment",
        "waiting for ",
    ]
    .iter()
    .any(|start| {
        line.strip_prefix("eks-guard: ")
            .is_some_and(|line| line.starts_with(start))
    })
}

pub(crate) fn cluster() -> Result<&'static Cluster> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this suite needs root: run it as `sudo cargo xtask test errors`"
    );
    shared()
}

/// Where the cgroups of runs are made.
fn cgroups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let mount = mounts.find_map(|mut fields| {
        let point = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| Path::new(point).join("eks-guard"))
    });
    mount.context("no cgroup2 is mounted")
}
