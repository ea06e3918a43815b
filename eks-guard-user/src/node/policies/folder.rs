//! Policies in a folder: every file read as a whole, again and again.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::node::policies::{MAX_POLICIES, PoliciesError};

/// Bytes that are read of one file at most; more than a policy may have.
const READ_LIMIT: u64 = 8 << 20;

/// The folder, and what was read last, good or bad.
pub(super) struct Folder {
    path: PathBuf,
    seen: Option<Vec<(String, String)>>,
}

impl Folder {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: None,
        }
    }

    /// Name and text of every file, if anything is another than it was.
    pub(super) fn read(&mut self) -> Result<Option<Vec<(String, String)>>, PoliciesError> {
        let mut texts = Vec::new();
        for path in self.files()? {
            let mut text = String::new();
            let read = File::open(&path).and_then(|file| file.take(READ_LIMIT).read_to_string(&mut text));
            read.map_err(|source| PoliciesError::Read {
                path: path.clone(),
                source,
            })?;
            texts.push((path.display().to_string(), text));
        }
        if self.seen.as_ref() == Some(&texts) {
            return Ok(None);
        }
        self.seen = Some(texts.clone());
        Ok(Some(texts))
    }

    fn files(&self) -> Result<Vec<PathBuf>, PoliciesError> {
        let failed = |source| PoliciesError::Read {
            path: self.path.clone(),
            source,
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_yaml = path
                .extension()
                .is_some_and(|ending| ending == "yaml" || ending == "yml");
            if is_yaml && path.is_file() {
                files.push(path);
            }
        }
        if files.len() > MAX_POLICIES {
            return Err(PoliciesError::TooMany);
        }
        files.sort();
        Ok(files)
    }
}
