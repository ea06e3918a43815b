//! Where a probe runs: a cgroup of its own below a container's, the container's namespaces, and a profile. A process of one
//! thread enters them and starts the probe; it stays outside of the PID namespace, and out of the probe's reach.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, setns};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::probe::profile::Profile;
use crate::probe::{INSIDE, handed};

/// The place could not be entered.
const NOT_ENTERED: u8 = 3;

/// What a process joins. Each namespace that is missing stays as it is for the starting process.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Users.
    pub user: Option<File>,
    /// Cgroups.
    pub cgroup: Option<File>,
    /// Process ids.
    pub pid: Option<File>,
    /// Network.
    pub net: Option<File>,
    /// Mounts.
    pub mnt: Option<File>,
}

/// Where a probe runs.
#[derive(Debug)]
pub struct Place<'a> {
    /// Folder of a cgroup; none: that of the starting process.
    pub cgroup: Option<&'a Path>,
    /// Namespaces.
    pub namespaces: &'a Namespaces,
    /// Whom it runs as.
    pub profile: Profile,
    /// The probe, opened outside: inside there may be no such file.
    pub probe: &'a File,
}

/// The same for the process that enters it; files by paths that lead to those of the process that asks.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    cgroup: Option<PathBuf>,
    /// In the order in which they are entered: the user namespace gives the right to the others, and after the mounts no path
    /// means what it did.
    namespaces: Vec<PathBuf>,
    profile: Profile,
    probe: PathBuf,
}

impl Place<'_> {
    /// A command that becomes the probe there, and dies with the thread that starts it.
    ///
    /// # Errors
    /// The order cannot be written.
    pub fn command(&self) -> io::Result<Command> {
        let of = self.namespaces;
        let namespaces = [&of.user, &of.cgroup, &of.pid, &of.net, &of.mnt];
        let order = Order {
            cgroup: self.cgroup.map(Path::to_owned),
            namespaces: namespaces.into_iter().flatten().map(handed).collect(),
            profile: self.profile,
            probe: handed(self.probe),
        };
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(INSIDE)
            .arg(serde_json::to_string(&order)?)
            .env_clear();
        Ok(command)
    }
}

/// The inner process. Its exit code is the probe's.
pub(crate) fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // Nobody is left to tell when standard error is closed.
        writeln!(
            io::stderr(),
            "eks-guard: cannot start the probe in the pod: {error}"
        )
        .ok();
        ExitCode::from(NOT_ENTERED)
    })
}

fn run() -> io::Result<ExitCode> {
    let order = std::env::args().nth(2).ok_or(io::ErrorKind::InvalidInput)?;
    let order: Order = serde_json::from_str(&order)?;
    let probe = File::open(&order.probe)?;
    let namespaces: Vec<File> = order
        .namespaces
        .iter()
        .map(File::open)
        .collect::<io::Result<_>>()?;
    if let Some(cgroup) = &order.cgroup {
        fs::write(cgroup.join("cgroup.procs"), "0")?;
    }
    for namespace in &namespaces {
        // Of whatever kind it is.
        setns(namespace, CloneFlags::empty())?;
    }
    // Of one user with the probe, but not to be traced by it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    order.profile.take()?;
    // After that, because the kernel takes the request back from a process that becomes another user.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let program = own(&probe);
    let status = Command::new(program)
        .arg("suite")
        .env_clear()
        .current_dir("/")
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(NOT_ENTERED)))
}

/// The path by which the child that executes it finds a file of this process.
fn own(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
