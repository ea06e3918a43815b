//! Debian packages: whether they are there, and getting them.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::setup::Work;
use crate::{console, process};

/// apt works for one caller at a time.
static APT: Mutex<()> = Mutex::new(());

/// A piece of work that installs what is missing of `wanted`; none when all is there.
pub(super) fn missing(name: &'static str, wanted: &[&'static str]) -> Option<Work> {
    let wanted = absent(wanted);
    (!wanted.is_empty()).then(|| Work {
        name,
        plan: plan(&wanted),
        job: Box::new(move || install(&wanted)),
    })
}

/// Those of `wanted` that are not installed.
pub(super) fn absent(wanted: &[&'static str]) -> Vec<&'static str> {
    let wanted = wanted.iter().copied();
    wanted.filter(|package| !installed(package)).collect()
}

/// What `install` will do, in words.
pub(super) fn plan(packages: &[&str]) -> String {
    format!("install the Debian packages {}", packages.join(" "))
}

pub(super) fn installed(package: &str) -> bool {
    let status = process::output_of("dpkg-query", &["--show", "--showformat=${Status}", package]);
    status.is_some_and(|status| status.ends_with(" installed"))
}

/// Fetches Debian's package lists; false where there is no apt or no network.
pub(super) fn update() -> bool {
    let _one = APT.lock().unwrap_or_else(PoisonError::into_inner);
    fetch_lists()
}

fn fetch_lists() -> bool {
    console::step("apt-get update, to see what Debian offers");
    let mut apt = process::as_root("apt-get");
    apt.arg("update");
    process::run_quiet(apt, "apt-get update").is_ok()
}

/// Installs packages; services that they would start are not started.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let _one = APT.lock().unwrap_or_else(PoisonError::into_inner);
    fetch_lists();
    let mut apt = process::as_root("env");
    // RUNLEVEL=1 is what Debian's init scripts take for "do not start services".
    apt.args(["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    apt.args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    process::run_quiet(apt, "installing Debian packages").context("install them yourself with apt-get")
}
