//! Which runs are alive: `/run/eks-guard/<run>/alive` is locked by its guard for as long as the guard lives.
//! The next start removes what dead guards left, under a lock of the folder so that two starts do not meet.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the file that a guard holds locked.
const ALIVE: &str = "alive";
/// Name of the file that is locked while runs are added and removed.
const GATE: &str = "gate";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct StateError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The folder of one run, removed when dropped.
#[derive(Debug)]
pub struct RunState {
    folder: PathBuf,
    root: PathBuf,
    _alive: File,
}

impl RunState {
    /// Registers a run as alive, after `remove_leftovers` was told which runs are.
    ///
    /// # Errors
    /// The folder cannot be made, locked or read.
    pub fn create(
        root: &Path,
        run: &str,
        remove_leftovers: impl FnOnce(&BTreeSet<String>),
    ) -> Result<RunState, StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(failed("make", root))?;
        fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(failed("protect", root))?;
        let _gate = gate(root)?;
        let (alive, dead) = survey(root)?;
        remove_leftovers(&alive);
        for folder in dead {
            fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
        }
        let folder = root.join(run);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed("make", &folder))?;
        let path = folder.join(ALIVE);
        let alive = open(&path)?;
        alive
            .try_lock()
            .map_err(|error| failed("lock", &path)(error.into()))?;
        Ok(RunState {
            folder,
            root: root.to_path_buf(),
            _alive: alive,
        })
    }
}

impl Drop for RunState {
    fn drop(&mut self) {
        // A failure here leaves a folder whose lock is free: the next start removes it.
        let _gate = gate(&self.root);
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "state folder not removed; the next start will");
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError { action, path, source }
}

fn gate(root: &Path) -> Result<File, StateError> {
    let path = root.join(GATE);
    let file = open(&path)?;
    file.lock().map_err(failed("lock", &path))?;
    Ok(file)
}

fn open(path: &Path) -> Result<File, StateError> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))
}

/// Names of living runs, folders of dead ones. The gate is held: nobody is between making and locking.
fn survey(root: &Path) -> Result<(BTreeSet<String>, Vec<PathBuf>), StateError> {
    let (mut alive, mut dead) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(root).map_err(failed("read", root))? {
        let folder = entry.map_err(failed("read", root))?.path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        match File::open(folder.join(ALIVE)).map(|file| file.try_lock()) {
            Ok(Err(_)) => drop(alive.insert(name)),
            Ok(Ok(())) | Err(_) => dead.push(folder),
        }
    }
    Ok((alive, dead))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::run::state::RunState;

    #[test]
    fn living_runs_are_kept_and_dead_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("state");
        let first = RunState::create(&root, "one", |alive| assert!(alive.is_empty())).unwrap();
        fs::create_dir_all(root.join("dead")).unwrap();
        fs::write(root.join("dead/alive"), "").unwrap();
        fs::create_dir_all(root.join("torn")).unwrap();
        let second = RunState::create(&root, "two", |alive| assert!(alive.iter().eq(["one"]))).unwrap();
        assert!(!root.join("dead").exists() && !root.join("torn").exists());
        assert!(root.join("one").exists());
        drop(first);
        assert!(!root.join("one").exists() && root.join("two").exists());
        drop(second);
        assert!(!root.join("two").exists());
    }

    #[test]
    fn the_same_run_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = RunState::create(folder.path(), "one", |_| {}).unwrap();
        assert!(RunState::create(folder.path(), "one", |_| {}).is_err());
    }
}
