//! Folders of cgroups: where cgroup2 is mounted, the removal of a tree with all its processes, and limits of memory.

mod memory;

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use rustix::fs::statfs;

pub use crate::cgroups::memory::MemoryLimit;

/// `CGROUP2_SUPER_MAGIC` and `CGROUP_SUPER_MAGIC` of the kernel's `linux/magic.h`.
const MAGIC: u64 = 0x6367_7270;
const OLDER_MAGIC: u64 = 0x0027_e0eb;

/// The cgroup2 mount, by type and not by place: hybrid layouts have it elsewhere.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .find(|path| is_of(path, MAGIC))
        .context("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

/// Whether a path is in a hierarchy of cgroups, of either version.
#[must_use]
pub fn is_cgroup(path: &Path) -> bool {
    is_of(path, MAGIC) || is_of(path, OLDER_MAGIC)
}

fn is_of(path: &Path, magic: u64) -> bool {
    statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(magic))
}

/// Kills what runs in a cgroup and below it, and removes both. What dies slowly makes it fail: repeat it. Who is in one of
/// the older version is on a leash, and dies by that.
pub fn remove(cgroup: &Path) -> io::Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    if is_of(cgroup, MAGIC) {
        fs::write(cgroup.join("cgroup.kill"), "1")?;
    }
    remove_folders(cgroup)
}

fn remove_folders(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_folders(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
