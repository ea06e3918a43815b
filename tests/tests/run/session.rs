//! A machine of its own for programs that listen outside the boundary: empty `/run` and `/tmp` in a mount namespace, and a
//! cgroup in which everything dies with the test. The host's places are not touched.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use rig::cgroups;
use rig::command::{self, Output};
use rig::leash::{self, Leashed};
use rig::place::Place;

use crate::hostile::NOBODY;
use crate::support::{Operator, eventually};

/// Keeps what the guard and the operator have below the folders that become empty.
const EMPTY: &str = r#"
    mkdir -p /run/eks-guard
    for place in /run /tmp; do
        mount --rbind $place /mnt
        mount -t tmpfs none $place
        for kept in /run/eks-guard "$1"; do
            case $kept in
                $place/*) mkdir -p "$kept"; mount --bind "/mnt/${kept#$place/}" "$kept";;
            esac
        done
        umount -l /mnt
    done
    chmod 1777 /tmp
    mkdir -p /run/user/65534 /run/screen
    chown 65534:65534 /run/user/65534
    chmod 700 /run/user/65534
    chmod 1777 /run/screen
    echo ready
    exec sleep infinity"#;

/// Who starts a program of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum As {
    Root,
    Nobody,
}

/// Where programs listen, and the operator starts commands.
pub(crate) struct Session {
    home: PathBuf,
    cgroup: PathBuf,
    holder: Leashed,
    /// Ends everything in the cgroup when its input ends.
    _sweeper: Child,
}

impl Session {
    pub(crate) fn of(operator: &Operator) -> Result<Session> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("eks-guard-session-{}-{number}", std::process::id());
        let cgroup = cgroups::mount()?.join(name);
        fs::create_dir(&cgroup)?;
        let sweeper = leash::sweep_after(&cgroup)?;
        fs::create_dir(cgroup.join("programs"))?;
        let log = operator.home.join("session.log");
        let mut unshare = leash::hold(Path::new("unshare"))?;
        let home = operator.home.display().to_string();
        unshare.args(["--mount", "/bin/sh", "-ec", EMPTY, "sh", &home]);
        let holder = Leashed::start_command("session", unshare, &log)?;
        eventually("the session", || {
            fs::read_to_string(&log).ok()?.contains("ready").then_some(())
        })?;
        Ok(Session {
            home: operator.home.clone(),
            cgroup,
            holder,
            _sweeper: sweeper,
        })
    }

    /// A command outside the boundary, in a cgroup of the session's, in the home folder and without the test's variables.
    pub(crate) fn outside(&self, who: As, line: &[&str]) -> Result<Command> {
        let place = Place {
            cgroup: Some(self.cgroup.join("programs")),
            ..Place::default()
        };
        let mut command = leash::hold_in(&place, Path::new("nsenter"))?;
        self.enter(&mut command);
        if let As::Nobody = who {
            let ids = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
            command.arg("setpriv").args(ids);
        }
        command
            .args(line)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
            .env("SHELL", "/bin/sh")
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", "/run/user/65534");
        Ok(command)
    }

    /// Runs such a command to its end.
    pub(crate) fn run(&self, who: As, line: &[&str]) -> Result<Output> {
        command::run(self.outside(who, line)?)
    }

    /// Starts a program that stays.
    pub(crate) fn start(&self, name: &str, who: As, line: &[&str]) -> Result<Leashed> {
        let log = self.home.join(format!("{name}.log"));
        Leashed::start_command(name, self.outside(who, line)?, &log)
    }

    /// The service manager of the user `nobody`: systemd's own, with its bus.
    pub(crate) fn start_manager(&self) -> Result<Leashed> {
        let cgroup = self.cgroup.join("manager");
        fs::create_dir(&cgroup)?;
        for delegated in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(cgroup.join(delegated), Some(NOBODY), Some(NOBODY))?;
        }
        // It refuses to work on a machine that was started by something else.
        let script = format!(
            "echo 0 > {}/cgroup.procs; mkdir -p /run/systemd/system; exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             /lib/systemd/systemd --user --unit=basic.target --log-target=console",
            cgroup.display()
        );
        let manager = self.start("manager", As::Root, &["/bin/sh", "-ec", &script])?;
        eventually("the user's service manager", || {
            let answer = self.run(As::Nobody, &["systemctl", "--user", "show", "--property=Version"]);
            (answer.ok()?.code == 0).then_some(())
        })?;
        Ok(manager)
    }

    /// `eks-guard run -- /bin/sh -c SCRIPT` as `nobody`, started by the operator in this session.
    pub(crate) fn guarded(&self, operator: &Operator, script: &str) -> Result<Command> {
        let inner = operator.command(&["-q"], &["/bin/sh", "-c", script])?;
        let mut outer = Command::new("nsenter");
        self.enter(&mut outer);
        outer.arg(inner.get_program()).args(inner.get_args()).env_clear();
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(outer)
    }

    fn enter(&self, command: &mut Command) {
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command
            .args(["/bin/sh", "-ec", "cd \"$0\"; exec \"$@\""])
            .arg(&self.home);
    }
}
