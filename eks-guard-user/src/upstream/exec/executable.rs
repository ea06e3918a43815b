//! The file a credential plugin is started from. The guarded command runs as the same user as the plugin, so a program
//! that user can change would be a way out of the boundary: the file is pinned at the start and checked at every use.

use std::env::split_paths;
use std::ffi::OsString;
use std::fs::{Metadata, metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf, absolute};

use crate::upstream::{KubeconfigOptions, RunAs};

/// Where plugins are looked for when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A plugin's file as it was at the start.
pub(super) struct Executable {
    path: PathBuf,
    identity: Identity,
}

#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Executable {
    pub(super) fn pin(path: PathBuf) -> Result<Self, String> {
        let meta = metadata(&path)
            .map_err(|error| format!("its exec plugin {} cannot be read: {error}", path.display()))?;
        Ok(Self {
            path,
            identity: Identity::of(&meta),
        })
    }

    /// As it was found, symbolic links not followed: some programs look at their own name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn check_unchanged(&self) -> Result<(), String> {
        let same = metadata(&self.path).is_ok_and(|meta| Identity::of(&meta) == self.identity);
        if same {
            return Ok(());
        }
        Err(format!(
            "credential plugin {} was changed or replaced since the guard started, and is not trusted any more: end \
             the run and start it again",
            self.path.display()
        ))
    }

    /// What the operator should know when the plugin's user could change the program.
    pub(super) fn warning(&self, user: Option<&RunAs>) -> Option<String> {
        let user = user?;
        let real = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let loose = [self.path.as_path(), &real]
            .into_iter()
            .flat_map(Path::ancestors)
            .find(|path| metadata(path).map_or(true, |meta| writable_by(&meta, user)))?;
        Some(format!(
            "the credential plugin {} can be changed by the user the agent runs as ({} is theirs): install it where \
             only root writes",
            self.path.display(),
            loose.display()
        ))
    }
}

impl Identity {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The program a `command` stands for: a path, or a name to look for in `PATH`.
pub(super) fn find(command: &str, options: &KubeconfigOptions) -> Option<PathBuf> {
    if command.contains('/') {
        return absolute(command).ok().filter(|path| is_executable(path));
    }
    let search = options
        .search_path
        .clone()
        .unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    split_paths(&search)
        // A relative entry of PATH would find whatever lies in the working folder.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(command))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn writable_by(meta: &Metadata, user: &RunAs) -> bool {
    // A sticky folder such as /tmp keeps what others own in place.
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    let others = meta.mode() & 0o002 != 0 && !sticky;
    let group = meta.mode() & 0o020 != 0 && meta.gid() == user.gid && !sticky;
    user.uid != 0 && (meta.uid() == user.uid || group || others)
}
