//! cargo-deny, which checks licences, sources and banned crates; kept apart from whatever version the user has.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::setup::Work;
use crate::{paths, process};

const VERSION: &str = "0.20.2";

/// The program of the pinned version, once set up.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(root()?.join("bin/cargo-deny"))
}

pub(super) fn missing() -> Result<Option<Work>> {
    if program()?.exists() {
        return Ok(None);
    }
    let root = root()?;
    let plan = format!(
        "cargo install cargo-deny {VERSION} into {} (3 to 6 minutes)",
        root.display()
    );
    let job = move || {
        let mut cargo = Command::new(paths::cargo());
        cargo
            .args([
                "install",
                "cargo-deny",
                "--version",
                VERSION,
                "--locked",
                "--root",
            ])
            .arg(&root);
        process::run_quiet(cargo, "installing cargo-deny")
    };
    Ok(Some(Work {
        name: "cargo-deny",
        plan,
        job: Box::new(job),
    }))
}

fn root() -> Result<PathBuf> {
    Ok(paths::cache()?.join(format!("tools/cargo-deny-{VERSION}")))
}
