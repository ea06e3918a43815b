//! Runs other programs: loud (their output is the output), or quiet (a line now and then, everything on failure).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, pipe};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};

use crate::{console, paths};

const HEARTBEAT: Duration = Duration::from_secs(15);
const KEPT_LINES: usize = 40;

/// A cargo command in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(paths::cargo());
    cargo.args(args).current_dir(paths::workspace());
    cargo
}

/// A program of the development build.
pub(crate) fn built(name: &str) -> Command {
    Command::new(paths::workspace().join("target/debug").join(name))
}

/// Runs with its output on the terminal.
pub(crate) fn run(mut command: Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{what}: cannot start {command:?}"))?;
    if !status.success() {
        bail!("{what} failed ({status}); what it said is above");
    }
    Ok(())
}

/// Runs without its output; says every now and then that it is still at work, and shows the end of the output if it fails.
pub(crate) fn run_quiet(mut command: Command, what: &str) -> Result<()> {
    let begin = Instant::now();
    let (reader, writer) = pipe().context("making a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("{what}: cannot start {command:?}"))?;
    // The command holds the writing ends; the output would never end while we hold them too.
    drop(command);
    let (line_tx, line_rx) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if line_tx.send(line).is_err() {
                return;
            }
        }
    });
    let mut kept: VecDeque<String> = VecDeque::new();
    let (mut count, mut last_beat) = (0_u32, Instant::now());
    loop {
        match line_rx.recv_timeout(HEARTBEAT) {
            Ok(line) => {
                count += 1;
                kept.push_back(line);
                if kept.len() > KEPT_LINES {
                    kept.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if last_beat.elapsed() >= HEARTBEAT {
            last_beat = Instant::now();
            let last = kept.back().map(|line| line.trim()).unwrap_or_default();
            console::step(&format!(
                "{what}: still at it after {:.0} s, step {count}: {last}",
                begin.elapsed().as_secs_f32()
            ));
        }
    }
    let status = child.wait().with_context(|| format!("waiting for {what}"))?;
    if !status.success() {
        let output: Vec<String> = kept.into();
        bail!("{what} failed ({status}):\n{}", output.join("\n"));
    }
    Ok(())
}

/// Standard output of a program that must succeed; `None` when it is missing or fails.
pub(crate) fn output_of(program: impl AsRef<Path>, args: &[&str]) -> Option<String> {
    let output = Command::new(program.as_ref())
        .args(args)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command that runs as root: itself when we are, through sudo when not.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}

/// Makes what cargo starts run as root: the guard needs it, compiling does not.
pub(crate) fn run_as_root(cargo: &mut Command) {
    if is_root() {
        return;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let runner = format!("sudo -E env PATH={}", path.display());
    let target = format!(
        "CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER",
        env::consts::ARCH.to_uppercase()
    );
    cargo.env(target, runner);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}
