//! The verdict matrix of the suites that ran: they leave its columns in a folder, and a program of the rig prints them.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{console, paths, process};

/// As in `tests/src/matrix.rs`.
const FOLDER: &str = "EKS_GUARD_MATRIX";

fn folder() -> PathBuf {
    paths::workspace().join("target/matrix")
}

/// Forgets what earlier suites have left. The folder is made here, so that it can be removed here, whoever wrote into it.
pub(super) fn begin() -> Result<()> {
    let folder = folder();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => fs::create_dir_all(&folder),
    }
    .with_context(|| format!("emptying {}", folder.display()))
}

/// Lets a suite leave its columns.
pub(super) fn collect(cargo: &mut Command) {
    cargo.env(FOLDER, folder());
}

/// Prints them, if there are any.
pub(super) fn show() -> Result<()> {
    let folder = folder();
    let mut left = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    if left.next().is_none() {
        return Ok(());
    }
    console::headline("verdict matrix");
    let mut program = process::built("matrix");
    program.arg(folder);
    process::run(program, "the verdict matrix")
}
