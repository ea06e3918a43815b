//! Policy files: read, and compiled into the snapshot that decides.

use std::fs;
use std::path::PathBuf;

/// What the policy files of a run allow.
#[derive(Debug)]
pub struct Policies {
    /// How many files.
    pub files: usize,
}

impl Policies {
    /// Reads and compiles all files.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Policies, Vec<String>> {
        let mut problems = Vec::new();
        for file in files {
            if let Err(error) = fs::read_to_string(file) {
                problems.push(format!("cannot read policy {}: {error}", file.display()));
            }
        }
        if problems.is_empty() {
            Ok(Policies { files: files.len() })
        } else {
            Err(problems)
        }
    }
}
