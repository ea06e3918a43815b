//! Runs a command to its end and keeps what it said.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::leash;

/// What a finished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must succeed.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit code {}: {}{}", self.code, self.stderr, self.stdout);
        }
        Ok(self.stdout)
    }

    /// The command failed and said `text` on standard error.
    pub fn expect_failure(self, text: &str) -> Result<Self> {
        if self.code == 0 || !self.stderr.contains(text) {
            bail!("expected a failure that says {text:?}, got {self:?}");
        }
        Ok(self)
    }
}

/// Runs `command`; when this process dies, the command does too if it was made by `leash::hold`.
pub fn run(command: Command) -> Result<Output> {
    Running::start(command)?.end()
}

/// The same for a command that `leash::hold` made and that may hang: its process group is killed after this long.
pub fn run_within(limit: Duration, command: Command) -> Result<Output> {
    let running = Running::start(command)?;
    let (shown, group) = (running.shown.clone(), Pid::from_child(&running.child));
    let (output_tx, output) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || output_tx.send(running.end()));
        if let Ok(output) = output.recv_timeout(limit) {
            return output;
        }
        kill_process_group(group, Signal::KILL).with_context(|| format!("killing {shown}"))?;
        let output = output.recv();
        bail!("not done after {limit:?}: {shown}\n{output:#?}")
    })
}

struct Running {
    shown: String,
    child: Child,
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let shown = format!("{command:?}");
        let child = leash::spawn(command).with_context(|| format!("starting {shown}"))?;
        Ok(Self { shown, child })
    }

    fn end(self) -> Result<Output> {
        let Self { shown, child } = self;
        let output = child
            .wait_with_output()
            .with_context(|| format!("waiting for {shown}"))?;
        Ok(Output {
            code: exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).process_group(0);
        command
    }

    #[test]
    fn what_hangs_is_killed_with_all_that_it_started() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(run_within(hour, shell("echo said; exit 3")).unwrap().code, 3);
        let stuck = shell("echo begun; sleep infinity & wait");
        let error = run_within(Duration::from_millis(300), stuck)
            .unwrap_err()
            .to_string();
        assert!(error.contains("not done after"), "{error}");
    }
}
