//! Starts processes that die with this one, whatever kills it.
//! The kernel sends the signal when the *thread* that forked ends, so one thread that never ends does all forking.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::{fs, io, process, thread};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::place::Place;
use crate::programs;

/// A process on the leash: killed and reaped on drop, killed by the kernel when this process dies.
pub struct Leashed {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Leashed {
    /// Starts `program` in a process group of its own; both its outputs go to the file `log`.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        place: &Place,
        program: &Path,
        args: &[A],
        log: &Path,
    ) -> Result<Self> {
        let mut command = hold_in(place, program)?;
        command.args(args);
        Self::start_command(name, command, log)
    }

    /// The same with a command that [`hold_in`] made.
    pub fn start_command(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = spawn(command).with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error with the end of its log when the process has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.log_tail()),
        }
    }

    /// Its exit code, once it has ended by itself.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.and_then(|status| status.code()))
    }

    /// Kills it with SIGKILL, as a power failure would.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process_group(Pid::from_child(&self.child), signal)
            .with_context(|| format!("signalling {}", self.name))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // An error here means that it died by itself in between.
            self.kill().ok();
        }
    }
}

/// A command that runs `program` on the leash of this process, in its own process group.
pub fn hold(program: &Path) -> Result<Command> {
    hold_in(&Place::default(), program)
}

/// The same in a place of its own: the first instruction of `program` runs there.
pub fn hold_in(place: &Place, program: &Path) -> Result<Command> {
    let mut command = Command::new(programs::beside("leash")?);
    command
        .arg("hold")
        .arg(process::id().to_string())
        .arg(serde_json::to_string(place).context("describing a place")?)
        .arg(program)
        .process_group(0);
    Ok(command)
}

/// Starts the process that removes `folder`, which may be one of cgroups, when this one is gone. Keep the child: its
/// standard input is the sign of life.
pub fn sweep_after(folder: &Path) -> Result<Child> {
    let mut command = Command::new(programs::beside("leash")?);
    command.arg("sweep").arg(folder).process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().context("starting the sweeper of the work folder")
}

/// Forks on the one thread that lives as long as the process.
pub fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (order_tx, order_rx) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, child_tx) in order_rx {
                // The one who asked may have given up; its child is dropped here and goes with this process.
                child_tx.send(command.spawn()).ok();
            }
        });
        Mutex::new(order_tx)
    });
    let (child_tx, child_rx) = mpsc::channel();
    let gone = || io::Error::other("the spawner thread is gone");
    spawner
        .lock()
        .map_err(|_| gone())?
        .send((command, child_tx))
        .map_err(|_| gone())?;
    child_rx.recv().map_err(|_| gone())?
}
