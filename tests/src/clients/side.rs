//! One of the two ways to the API server: its namespace, and the home of the client that takes it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::clients::normal::Normal;

pub(super) struct Side {
    pub(super) namespace: String,
    pub(super) home: PathBuf,
}

/// Where in its home a client keeps its temporary files: two clients that do the same at the same time give them the same
/// names.
const TEMPORARY: &str = "tmp";

impl Side {
    /// With a home that everybody can write into.
    pub(super) fn new(namespace: String, home: PathBuf) -> Result<Self> {
        open_to_all(&home)?;
        open_to_all(&home.join(TEMPORARY))?;
        Ok(Self { namespace, home })
    }

    /// Copies what is in a folder into the home.
    pub(super) fn copy(&self, from: &Path) -> Result<()> {
        copy_tree(from, &self.home)
    }

    /// The environment of a client whose programs are in `bin`.
    pub(super) fn variables(&self, bin: &Path) -> Vec<(String, String)> {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        let folder = |name: &str| self.home.join(name).display().to_string();
        vec![
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), self.home.display().to_string()),
            ("KUBECACHEDIR".to_owned(), folder("cache")),
            ("TMPDIR".to_owned(), folder(TEMPORARY)),
            ("NAMESPACE".to_owned(), self.namespace.clone()),
        ]
    }

    /// What a client said here, without what the other side cannot have.
    pub(super) fn normal(&self, text: &str) -> String {
        Normal::get().output(text, &self.namespace, &self.home)
    }
}

pub(super) fn open_to_all(folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::set_permissions(folder, Permissions::from_mode(0o777))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_tree(&entry.path(), &to)?;
            fs::set_permissions(&to, Permissions::from_mode(0o777))?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| format!("copying {}", entry.path().display()))?;
            fs::set_permissions(&to, Permissions::from_mode(0o777))?;
        }
    }
    Ok(())
}
