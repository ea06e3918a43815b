//! What a process costs, from /proc: CPU time of all its threads, resident memory now and at its peak.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A program of the bench, ended by pid when dropped.
pub struct Program {
    /// Its name in tables.
    pub name: String,
    child: Child,
}

impl Program {
    /// Starts a program; its output goes nowhere.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The program's processes: itself and its children (nginx has workers).
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own)
            .chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()))
            .collect()
    }

    /// CPU time used so far by the processes in `pids`.
    #[must_use]
    pub fn cpu(pids: &[u32]) -> Duration {
        Duration::from_nanos(pids.iter().map(|pid| cpu_ns(*pid)).sum())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// On-CPU nanoseconds of all threads (first field of schedstat).
fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Resident memory in MB: now (`VmRSS`) or at the peak (`VmHWM`).
///
/// # Errors
/// The process is gone.
pub fn memory_mb(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("process is gone")?;
    let Some(kib) = status
        .lines()
        .find(|line| line.starts_with(field))
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok())
    else {
        bail!("no {field} in /proc/{pid}/status");
    };
    Ok(f64::from(kib) / 1024.0)
}

/// Resets the peak (`VmHWM`) to what is resident now.
///
/// # Errors
/// The process is gone or belongs to somebody else.
pub fn reset_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the memory peak")
}
