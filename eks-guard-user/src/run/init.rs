//! PID 1 of a run: enters the cgroup, builds the boundary, starts the command and outlives it.
//!
//! It holds the eBPF links open. They live exactly as long as anything they guard: before it ends, every other
//! process of the namespace has been killed and reaped. Root, not dumpable: the command can neither signal nor trace it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::AddressFamily;
use rustix::process::{DumpableBehavior, WaitOptions, WaitStatus, set_dumpable_behavior, wait};

use crate::run::channel::{Channel, FromInit, Spec, ToInit};
use crate::run::hide::Sockets;
use crate::run::signals::{Arrived, Sender, Signals};
use crate::run::startup::{Startup, StartupError};
use crate::run::{EXEC, hide, mounts, privilege};

/// Exit code when the boundary could not be built; the guard has been told why.
const FAILED: u8 = 3;

pub(crate) fn main() -> ExitCode {
    let Ok(channel) = Channel::from_stdin() else {
        writeln!(
            io::stderr(),
            "eks-guard: this is an inner part of `eks-guard run` and not meant to be called"
        )
        .ok();
        return ExitCode::from(2);
    };
    match start(&channel) {
        Ok(supervisor) => supervisor.run(channel),
        Err(error) => {
            // When the guard is gone too, the exit code is all that is left to say.
            channel.send(&FromInit::Failed(error.to_string())).ok();
            ExitCode::from(FAILED)
        }
    }
}

/// Why the boundary was not built.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("cannot enter the run's cgroup: {0}")]
    Cgroup(io::Error),
    #[error("cannot {action}: {source}")]
    Step { action: &'static str, source: io::Error },
    #[error(transparent)]
    Hide(#[from] hide::HideError),
    #[error("{0}. --allow-startup-files leaves start-up files of shells to the command")]
    Startup(#[from] StartupError),
    #[error(
        "standard descriptor {0} of the command is a network socket, which was made outside the boundary: start it with a file, a terminal or a pipe"
    )]
    NetworkSocket(i32),
    #[error("the guard ended before the command was started")]
    NoGuard,
}

/// Names what was being done.
trait Doing<T> {
    fn doing(self, action: &'static str) -> Result<T, InitError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, action: &'static str) -> Result<T, InitError> {
        self.map_err(|source| InitError::Step {
            action,
            source: source.into(),
        })
    }
}

fn start(channel: &Channel) -> Result<Supervisor, InitError> {
    let mut fds = channel
        .receive_fds()
        .doing("receive the run's descriptors")?
        .into_iter();
    let cgroup = fds.next().ok_or(InitError::NoGuard)?;
    // Before anything else: no instruction of the command, and nothing it inherits, exists outside the cgroup.
    File::from(cgroup).write_all(b"0").map_err(InitError::Cgroup)?;
    let stdin = fds.next().ok_or(InitError::NoGuard)?;
    let links: Vec<OwnedFd> = fds.collect();
    let spec: Spec = channel
        .receive()
        .doing("read what to start")?
        .ok_or(InitError::NoGuard)?;
    if std::process::id() != 1 {
        return Err(InitError::Step {
            action: "be the first process of a namespace",
            source: io::ErrorKind::Other.into(),
        });
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("protect the first process")?;
    let covers = build(&spec, &stdin)?;
    let startup = Startup::guard(&spec.startup)?;
    privilege::keep_only(privilege::TO_START | rustix::thread::CapabilitySet::SYS_RESOURCE)
        .doing("give up privileges")?;
    let signals = Signals::for_init().doing("receive signals")?;
    channel.send(&FromInit::Started).doing("tell the guard")?;
    let command = spawn(&spec, stdin).doing("start the command")?;
    survive_memory_pressure();
    privilege::keep_only(privilege::TO_SUPERVISE).doing("give up privileges")?;
    Ok(Supervisor {
        signals,
        covers,
        startup,
        command,
        stops: 0,
        _links: links,
    })
}

/// The mount namespace as the command will see it.
fn build(spec: &Spec, stdin: &OwnedFd) -> Result<hide::Watch, InitError> {
    unshare(CloneFlags::CLONE_NEWNS).doing("make a mount namespace")?;
    mounts::make_private().doing("separate the mounts from the machine's")?;
    std::env::set_current_dir("/").doing("leave the working folder")?;
    // While `/proc` is still the machine's.
    let sockets = Sockets::of(spec.covers.uid).doing("look for sockets of the user's programs")?;
    mounts::proc_filesystem().doing("mount /proc of the new PID namespace")?;
    hide_other_processes()?;
    for mount in mounts::table().doing("read the mounts")? {
        // Leaving the cgroup needs a write here. Without root it is refused anyway; root without capabilities
        // could still write, and cannot remount.
        let kind = mount.kind.as_str();
        if ["cgroup", "cgroup2"].contains(&kind) && visible(&mount.point, &[CGROUP2_MAGIC, CGROUP_MAGIC]) {
            mounts::read_only(&mount.point).doing("make the cgroup folder read-only")?;
        }
    }
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let handed_on = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    handed_on.into_iter().try_for_each(refuse_network_socket)?;
    Ok(hide::apply(&spec.covers, &sockets, &handed_on)?)
}

/// A socket belongs to the cgroup it was made in: one from outside passes none of the run's programs.
fn refuse_network_socket(descriptor: BorrowedFd<'_>) -> Result<(), InitError> {
    match rustix::net::sockopt::socket_domain(descriptor) {
        Ok(AddressFamily::UNIX) | Err(rustix::io::Errno::NOTSOCK) => Ok(()),
        Ok(_) | Err(_) => Err(InitError::NetworkSocket(descriptor.as_raw_fd())),
    }
}

/// Other views of the machine's processes, in a chroot for example: whoever sees a process of the same user reads its
/// environment and walks into its mount namespace. Taking one mount away may bring another to light.
fn hide_other_processes() -> Result<(), InitError> {
    loop {
        let mounts = mounts::table().doing("read the mounts")?;
        let mut elsewhere = mounts
            .iter()
            .filter(|mount| mount.kind == "proc" && !mount.point.starts_with("/proc"));
        match elsewhere.find(|mount| visible(&mount.point, &[PROC_MAGIC])) {
            Some(mount) => mounts::detach(&mount.point).doing("hide another /proc")?,
            None => return Ok(()),
        }
    }
}

/// Whether what is found at a mount's path, on top of whatever is mounted there, is of such a kind.
fn visible(point: &Path, kinds: &[rustix::fs::FsWord]) -> bool {
    let kind = rustix::fs::statfs(point).map(|found| found.f_type);
    kind.is_ok_and(|kind| kinds.contains(&kind))
}

const PROC_MAGIC: rustix::fs::FsWord = 0x9fa0;
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;
const CGROUP_MAGIC: rustix::fs::FsWord = 0x0027_e0eb;

/// The command's process starts with nothing of this one but its output descriptors.
fn spawn(spec: &Spec, stdin: OwnedFd) -> io::Result<Pid> {
    let (ours, theirs) = Channel::pair()?;
    let theirs: OwnedFd = theirs.into();
    let child = Command::new("/proc/self/exe")
        .arg(EXEC)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .spawn()?;
    ours.send_fds(&[stdin.as_fd()])?;
    ours.send(spec)?;
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(io::Error::other)
}

/// The kernel kills whatever uses most memory first; that must be the command, not what keeps it in.
fn survive_memory_pressure() {
    // Where it is not permitted, the namespace dies with this process: closed, only less useful.
    std::fs::write("/proc/self/oom_score_adj", "-1000").ok();
}

/// Waits for the command.
struct Supervisor {
    signals: Signals,
    covers: hide::Watch,
    startup: Startup,
    command: Pid,
    /// How often the command was stopped.
    stops: u32,
    _links: Vec<OwnedFd>,
}

impl Supervisor {
    fn run(mut self, channel: Channel) -> ExitCode {
        let mut guard = Some(channel);
        let code = loop {
            match self.step(&mut guard) {
                Ok(Some(code)) => break code,
                Ok(None) => {}
                // Not being able to wait any more ends the run: closed.
                Err(_) => break FAILED,
            }
        };
        end_all_others();
        // The last look: whatever wrote is gone. One that cannot be looked at counts as written.
        let written = self.startup.changed();
        let code = if written.as_ref().is_ok_and(Vec::is_empty) {
            code
        } else {
            FAILED
        };
        if let Some(guard) = &guard {
            // Without a guard nobody asks.
            match written {
                Ok(written) if written.is_empty() => {}
                Ok(written) => _ = guard.send(&FromInit::StartupFiles(written)).ok(),
                Err(error) => {
                    _ = guard
                        .send(&FromInit::Failed(format!(
                            "cannot look at start-up files: {error}"
                        )))
                        .ok()
                }
            }
            guard.send(&FromInit::Ended(code)).ok();
        }
        ExitCode::from(code)
    }

    /// Waits for something to happen and handles it; the command's exit code when it ended.
    fn step(&mut self, guard: &mut Option<Channel>) -> io::Result<Option<u8>> {
        let [mounts_changed, files_changed, from_signals, from_guard] = self.poll(guard.as_ref())?;
        if files_changed && !self.startup.changed()?.is_empty() {
            // Said once everything has ended, with what else has changed by then.
            return Ok(Some(FAILED));
        }
        if mounts_changed && let Some(path) = self.covers.lost()? {
            let path = path.display();
            let message = format!("{path} was replaced or removed, and its cover with it: the run is ended");
            guard
                .as_ref()
                .map(|guard| guard.send(&FromInit::Failed(message)).ok());
            return Ok(Some(FAILED));
        }
        if from_guard {
            match guard.as_ref().map(Channel::receive).transpose() {
                Ok(Some(Some(ToInit::Signal(number)))) => self.forward(Signal::try_from(number).ok()),
                Ok(Some(Some(ToInit::GoOn(stop)))) => return self.go_on(stop, guard.as_ref()),
                // The guard is gone. The listener is too: nothing reaches the API server until the next run.
                Ok(_) | Err(_) => *guard = None,
            }
        }
        if from_signals {
            while let Some(Arrived { signal, sender }) = self.signals.next()? {
                // While the guard lives, it decides what the command is told; a signal from the terminal has reached
                // the command already, and one from inside the namespace is the command's own business.
                if signal != Signal::SIGCHLD && guard.is_none() && sender == Sender::Process(0) {
                    self.forward(Some(signal));
                }
            }
            return self.reap(guard.as_ref());
        }
        Ok(None)
    }

    /// What has happened: to the mounts, to start-up files, to a signal, to the guard.
    fn poll(&self, guard: Option<&Channel>) -> io::Result<[bool; 4]> {
        let mut fds = vec![
            PollFd::new(&self.covers, PollFlags::PRI),
            PollFd::new(&self.startup, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        fds.extend(guard.map(|guard| PollFd::new(guard, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok([false; 4]),
            Err(error) => return Err(error.into()),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok([ready(0), ready(1), ready(2), ready(3)])
    }

    fn forward(&self, signal: Option<Signal>) {
        // It may have ended this instant; then its exit is the next thing seen.
        signal.map(|signal| kill(self.command, signal).ok());
    }

    /// The guard was stopped along with the command and goes on. Meanwhile the shell may have let the command go on, and
    /// a person may have stopped it again: that stop is seen first, and stands.
    fn go_on(&mut self, stop: u32, guard: Option<&Channel>) -> io::Result<Option<u8>> {
        // Looked at before the stops are counted: what is stopped here and counted no further is that very stop. One that
        // goes on by itself is left alone, since SIGCONT would also take back a stop that is still on its way.
        let stopped = self.is_stopped();
        let ended = self.reap(guard)?;
        if ended.is_none() && stopped && stop == self.stops {
            self.forward(Some(Signal::SIGCONT));
        }
        Ok(ended)
    }

    /// State `T` in proc_pid_stat(5), behind the name in parentheses.
    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.command)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Collects every child that changed, orphans of the namespace included.
    fn reap(&mut self, guard: Option<&Channel>) -> io::Result<Option<u8>> {
        loop {
            match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == self.command.as_raw() => {
                    if status.stopped() {
                        self.stops = self.stops.wrapping_add(1);
                        guard.map(|guard| guard.send(&FromInit::Stopped(self.stops)).ok());
                    } else if let Some(code) = exit_code(status) {
                        return Ok(Some(code));
                    }
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// As shells say it: 128 and the signal's number.
fn exit_code(status: WaitStatus) -> Option<u8> {
    let signalled = status
        .terminating_signal()
        .map(|signal| signal.saturating_add(128));
    status
        .exit_status()
        .or(signalled)
        .map(|code| u8::try_from(code & 0xff).unwrap_or(FAILED))
}

/// Kills and reaps the rest of the namespace. The kernel would do it after this process is gone, and with it the links:
/// a process that outlives them, even for a moment, is not guarded. One signal to all is enough, since nothing forks
/// with a fatal signal pending, and repeating it for each of many thousand dead would take minutes.
fn end_all_others() {
    // No such process: all have ended.
    kill(Pid::from_raw(-1), Signal::SIGKILL).ok();
    // Orphans become this process's children: no child left means no process left.
    while matches!(wait(WaitOptions::empty()), Ok(_) | Err(rustix::io::Errno::INTR)) {}
}
