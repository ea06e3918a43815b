//! A limit of memory for processes that run already: for whatever more they ask, the kernel kills one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::{cgroups, leash};

/// Who is in it keeps the memory it has. Gone when it is dropped and when this process is killed.
pub struct MemoryLimit {
    folder: PathBuf,
    /// The file that says how many were killed.
    events: &'static str,
    sweeper: Child,
}

impl MemoryLimit {
    /// One that nobody is in yet. Where the machine's hierarchy for memory is the one of all cgroups, it is made below
    /// `cgroup`, in which there must be no process.
    pub fn below(cgroup: &Path, bytes: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (parent, limit, events) = match older_hierarchy()? {
            Some(mount) => (mount, "memory.limit_in_bytes", "memory.oom_control"),
            None => {
                share_memory(cgroup)?;
                (cgroup.to_owned(), "memory.max", "memory.events")
            }
        };
        let folder = parent.join(format!("eks-guard-rig-memory-{}-{number}", process::id()));
        fs::create_dir(&folder).with_context(|| format!("making the cgroup {}", folder.display()))?;
        let sweeper = leash::sweep_after(&folder).inspect_err(|_| {
            // Nothing is in it yet.
            fs::remove_dir(&folder).ok();
        })?;
        let made = Self {
            folder,
            events,
            sweeper,
        };
        made.write(limit, &bytes.to_string())?;
        Ok(made)
    }

    /// Holds a process to it from now on.
    pub fn hold(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// How many processes the kernel has killed for want of memory.
    pub fn kills(&self) -> Result<u64> {
        let text = fs::read_to_string(self.folder.join(self.events))?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(name, _)| *name == "oom_kill");
        let (_, count) = found.with_context(|| format!("no count of kills in {text}"))?;
        Ok(count.parse()?)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("writing {text} to {}", path.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The sweeper goes on with what fails here.
        cgroups::remove(&self.folder).ok();
        drop(self.sweeper.stdin.take());
        self.sweeper.wait().ok();
    }
}

/// Where memory has a hierarchy of its own.
fn older_hierarchy() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = mounts.find(|mount| {
        matches!(mount[..], [_, _, "cgroup", options, ..] if options.split(',').any(|option| option == "memory"))
    });
    Ok(found.and_then(|mount| mount.get(1).map(PathBuf::from)))
}

/// Lets the children of a cgroup have limits of memory; those above it must first.
fn share_memory(cgroup: &Path) -> Result<()> {
    let mount = cgroups::mount()?;
    let mut path: Vec<&Path> = cgroup
        .ancestors()
        .take_while(|above| above.starts_with(&mount))
        .collect();
    path.reverse();
    for above in path {
        fs::write(above.join("cgroup.subtree_control"), "+memory")
            .with_context(|| format!("sharing memory below {}", above.display()))?;
    }
    Ok(())
}
