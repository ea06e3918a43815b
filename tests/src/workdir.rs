//! The folder of one rig: gone when the rig is dropped, and also when its process is killed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::{fs, io};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::leash;

/// A fresh folder that others may walk through: a guarded command runs as another user.
pub struct Workdir {
    folder: TempDir,
    sweeper: Child,
}

impl Workdir {
    /// Makes the folder and starts its sweeper.
    pub fn create() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("eks-guard-rig-")
            .tempdir()
            .context("making a folder")?;
        let sweeper = leash::sweep_after(folder.path())?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        Ok(Self { folder, sweeper })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a folder inside that only its owner can enter.
    pub fn private_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        Ok(path)
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path().join(name);
        write_private(&path, text.as_ref()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        // The sweeper repeats what fails here; it ends when its input ends and the folder is gone.
        fs::remove_dir_all(self.folder.path()).ok();
        drop(self.sweeper.stdin.take());
        self.sweeper.wait().ok();
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text)
}
