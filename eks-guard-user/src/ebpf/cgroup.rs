//! The cgroup of a run: found on the cgroup2 mount wherever that is, guarded before anything runs in it, emptied by force.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::ebpf::cgroup2_mount::{self, FindError};

/// Folder of all runs, below the cgroup2 mount.
const PARENT: &str = "eks-guard";
/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Why the cgroup of a run is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The run id would name something else than one folder.
    #[error("run id {0:?} is not a plain name")]
    BadRunId(String),
    /// There is no cgroup2 to make one in.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Not root, or a read-only mount.
    #[error("cannot create the cgroup {path}: run as root (sudo), with the cgroup2 mount writable")]
    Create {
        /// The cgroup.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the cgroup could not be used.
    #[error("cannot use {path}")]
    Use {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Killed processes are still there.
    #[error(
        "processes in {path} do not die (see {path}/cgroup.procs): they wait in the kernel; the cgroup is left in place"
    )]
    StillPopulated {
        /// The cgroup.
        path: PathBuf,
    },
}

/// The cgroup of one run. Dropping it kills what is left in it and removes it.
#[derive(Debug)]
pub struct RunCgroup {
    path: PathBuf,
    id: u64,
    present: Present,
    /// Locked for as long as the guard lives: whoever shares the cgroup file system can tell, whatever else it shares.
    _alive: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Present {
    Yes,
    Removed,
}

impl RunCgroup {
    /// Makes `<cgroup2 mount>/eks-guard/<run_id>`, which must not exist yet.
    ///
    /// # Errors
    /// No cgroup2 mount, not root, or the cgroup exists.
    pub fn create(run_id: &str) -> Result<Self, CgroupError> {
        if !is_plain_name(run_id) {
            return Err(CgroupError::BadRunId(run_id.to_owned()));
        }
        let parent = cgroup2_mount::find()?.join(PARENT);
        let path = parent.join(run_id);
        let failed = |source| CgroupError::Create {
            path: path.clone(),
            source,
        };
        create_below(&parent, &path).map_err(failed)?;
        // Its own inode number is the id of a cgroup on 64-bit kernels, the only ones supported.
        match lock(&path).and_then(|alive| Ok((alive.metadata()?.ino(), alive))) {
            Ok((id, alive)) => Ok(Self {
                path,
                id,
                present: Present::Yes,
                _alive: alive,
            }),
            Err(source) => {
                remove_tree(&path).map_err(failed)?;
                Err(failed(source))
            }
        }
    }

    /// What a process writes its id to (or `0`) to enter. Permission is checked at opening: a process that has dropped
    /// its privileges since may still enter.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn procs_fd(&self) -> Result<OwnedFd, CgroupError> {
        let path = self.path.join("cgroup.procs");
        let file = OpenOptions::new().write(true).open(&path);
        file.map(OwnedFd::from)
            .map_err(|source| CgroupError::Use { path, source })
    }

    /// The folder itself, to attach programs to.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn folder_fd(&self) -> Result<OwnedFd, CgroupError> {
        let folder = File::open(&self.path);
        folder.map(OwnedFd::from).map_err(|source| CgroupError::Use {
            path: self.path.clone(),
            source,
        })
    }

    /// Key of the cgroup in the `pods` map.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kills every process in it, waits until they are gone, and removes it.
    ///
    /// # Errors
    /// Processes that do not die, or the kernel refuses.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        self.present = Present::Removed;
        clear(&self.path)
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        if self.present == Present::Removed {
            return;
        }
        if let Err(error) = clear(&self.path) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the run's cgroup is left behind"
            );
        }
    }
}

/// Removes cgroups of runs whose guard is dead (killed, say), with what still runs in them: those that are not said to
/// be alive and that nobody holds locked. Returns how many it removed; those it could not remove are logged and stay closed.
pub fn remove_leftovers(is_alive: impl Fn(&str) -> bool) -> usize {
    let Ok(mount) = cgroup2_mount::find() else {
        return 0;
    };
    let Ok(runs) = fs::read_dir(mount.join(PARENT)) else {
        return 0;
    };
    let mut removed = 0;
    for run in runs.flatten() {
        let name = run.file_name();
        let is_folder = run.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || name.to_str().is_some_and(&is_alive) {
            continue;
        }
        // Held until it is gone. A guard in another container, say, has it locked and no state that is seen from here.
        let Ok(_dead) = lock(&run.path()) else {
            continue;
        };
        match clear(&run.path()) {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a dead run's cgroup stays"
            ),
        }
    }
    removed
}

/// Takes the lock of a run; an error while somebody else has it.
fn lock(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    folder.try_lock()?;
    Ok(folder)
}

fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain)
}

/// Another run that ends may remove the empty parent at any time.
fn create_below(parent: &Path, path: &Path) -> io::Result<()> {
    for _ in 0..8 {
        fs::create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    fs::create_dir(path)
}

fn clear(path: &Path) -> Result<(), CgroupError> {
    let kill = path.join("cgroup.kill");
    match fs::write(&kill, "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => return Ok(()),
        result => result.map_err(|source| CgroupError::Use { path: kill, source })?,
    }
    wait_until_empty(path)?;
    remove_tree(path).map_err(|source| CgroupError::Use {
        path: path.to_owned(),
        source,
    })?;
    if let Some(parent) = path.parent() {
        // The last run turns off the light; with another one there it fails, as it should.
        let _other_runs = fs::remove_dir(parent);
    }
    Ok(())
}

/// The kernel raises POLLPRI on `cgroup.events` when the last process is gone.
fn wait_until_empty(path: &Path) -> Result<(), CgroupError> {
    let events = path.join("cgroup.events");
    let failed = |source: io::Error| CgroupError::Use {
        path: events.clone(),
        source,
    };
    let mut file = File::open(&events).map_err(failed)?;
    let deadline = Instant::now() + KILL_DEADLINE;
    loop {
        let mut text = String::new();
        file.rewind().map_err(failed)?;
        file.read_to_string(&mut text).map_err(failed)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CgroupError::StillPopulated {
                path: path.to_owned(),
            });
        }
        let timeout = Timespec::try_from(left).map_err(|error| failed(io::Error::other(error)))?;
        match rustix::event::poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Children first: what ran in the cgroup may have made some.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_name_one_folder() {
        for good in ["a", "01J9-run_7"] {
            assert!(is_plain_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\0b", &"x".repeat(65)] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
    }
}
