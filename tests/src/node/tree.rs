//! The node's cgroups: a folder of the rig's own on the cgroup2 mount, which stands for the mount of a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result};

use crate::{cgroups, leash};

/// Gone, with every process in it, when it is dropped and when this process is killed.
pub(crate) struct Tree {
    root: PathBuf,
    mount: PathBuf,
    sweeper: Child,
}

impl Tree {
    /// An empty one.
    pub(crate) fn create() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mount = cgroups::mount()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = mount.join(format!("eks-guard-rig-{}-{number}", process::id()));
        fs::create_dir(&root).with_context(|| format!("making the cgroup {}", root.display()))?;
        let sweeper = leash::sweep_after(&root).inspect_err(|_| {
            // Nothing is in it yet.
            fs::remove_dir(&root).ok();
        })?;
        Ok(Self { root, mount, sweeper })
    }

    /// What stands for the cgroup2 mount of the node.
    #[must_use]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cgroup2 mount of this machine.
    #[must_use]
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // The sweeper goes on with what fails here.
        remove(&self.root).ok();
        drop(self.sweeper.stdin.take());
        self.sweeper.wait().ok();
    }
}

/// Kills what is in a cgroup and removes it; waits until the dead have left.
pub(crate) fn remove(cgroup: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match cgroups::remove(cgroup) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}
