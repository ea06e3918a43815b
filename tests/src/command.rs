//! Runs a command to its end and keeps what it said.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

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
pub fn run(mut command: Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let child = leash::spawn(command).with_context(|| format!("starting {shown}"))?;
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {shown}"))?;
    Ok(Output {
        code: exit_code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}
