//! The first process of a guest: mounts what a node has, loads modules, runs the test binary, says how it ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use rustix::system::{RebootCommand, finit_module, reboot, uname};
use rustix::termios::tcdrain;

use crate::matrix;
use crate::vm::report::Line;

/// The test binary.
pub(super) const PAYLOAD: &str = "/payload";
/// The `eks-guard` under test.
pub(super) const EKS_GUARD: &str = "/eks-guard";
/// Names of the tests to run, one a line.
pub(super) const TESTS: &str = "/tests";
/// Modules to load, in the order of their names.
pub(super) const MODULES: &str = "/modules";
/// The path on which tests look for programs.
pub(super) const PROGRAMS: &str = "/usr/bin";

/// Where tests leave columns of the matrix.
const COLUMNS: &str = "/tmp/matrix";
/// The serial line for results; the kernel has the first.
const RESULTS: &str = "/dev/ttyS1";

/// (file system, where)
const MOUNTS: [(&str, &str); 8] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
    ("tmpfs", "/tmp"),
    // Over the kernel's own types, as on a kernel built without them: the programs need none, and whoever loads an object
    // reads all of them first, for a second of emulation each time.
    ("tmpfs", "/sys/kernel/btf"),
];

/// Does everything, and ends the machine. Returns only when that is refused.
pub fn main() -> Result<()> {
    let outcome = serve();
    if let Err(error) = &outcome {
        // Nobody is left to tell when this fails too; the host sees a guest that ended without a word.
        say(&Line::Failed(format!("{error:#}"))).ok();
    }
    drain().ok();
    // The machine is started so that a restart is its end.
    reboot(RebootCommand::Restart).context("ending the machine")
}

fn serve() -> Result<()> {
    for (kind, target) in MOUNTS {
        mount(kind, target, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {kind} at {target}"))?;
    }
    say(&Line::Up)?;
    load_modules()?;
    let release = uname().release().to_string_lossy().into_owned();
    say(&Line::Release(release))?;
    let lsm =
        fs::read_to_string("/sys/kernel/security/lsm").context("reading the active security modules")?;
    say(&Line::Lsm(lsm.trim().to_owned()))?;
    let ended = run_tests()?;
    tell_columns()?;
    say(&Line::Ended(ended))
}

/// Only then: nobody else writes to the serial line any more.
fn tell_columns() -> Result<()> {
    if !Path::new(COLUMNS).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(COLUMNS).context("reading the folder of columns")? {
        let text = fs::read_to_string(entry?.path()).context("reading columns")?;
        text.lines()
            .try_for_each(|line| say(&Line::Column(line.to_owned())))?;
    }
    Ok(())
}

fn load_modules() -> Result<()> {
    let entries = fs::read_dir(MODULES).context("reading the folder of modules")?;
    let mut modules = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    modules.sort();
    for path in modules {
        let loaded = File::open(&path).and_then(|file| Ok(finit_module(file, c"", 0)?));
        loaded.with_context(|| format!("loading {}", path.display()))?;
    }
    Ok(())
}

/// How the test binary ended.
fn run_tests() -> Result<String> {
    let tests = fs::read_to_string(TESTS).context("reading the names of the tests")?;
    let mut command = Command::new(PAYLOAD);
    // More than the guest has processors: many tests wait for what must not come.
    command
        .args(["--exact", "--test-threads=3"])
        .args(tests.lines())
        .env("PATH", PROGRAMS)
        .env("RUST_BACKTRACE", "0")
        .env("EKS_GUARD_BIN", EKS_GUARD)
        .env(matrix::FOLDER, COLUMNS)
        .stdin(Stdio::null())
        .stdout(results()?)
        .stderr(results()?);
    let child = Pid::from_child(&command.spawn().context("starting the test binary")?);
    // The first process inherits every orphan of a test, and must reap it.
    loop {
        match wait(WaitOptions::empty()).context("waiting for the test binary")? {
            Some((pid, status)) if pid == child => return Ok(describe(status)),
            Some(_) | None => {}
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("{status:?}"),
    }
}

fn say(line: &Line) -> Result<()> {
    if let Some(text) = line.write() {
        writeln!(results()?, "{text}").context("writing to the serial line")?;
    }
    Ok(())
}

fn drain() -> Result<()> {
    tcdrain(results()?).context("waiting for the serial line")
}

fn results() -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(RESULTS);
    opened.with_context(|| format!("opening {RESULTS}"))
}
