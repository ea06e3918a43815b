//! Where the programs are that `cargo xtask setup` and `cargo xtask build` made.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A program of the rig: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`, or a client in Go.
pub fn server(name: &str) -> Result<PathBuf> {
    let link = workspace().join("target/rig/bin").join(name);
    fs::canonicalize(&link).with_context(|| format!("no {name} for the rig yet; run `cargo xtask setup`"))
}

/// The folder of a client that a package manager installed: `python`, `mcp` or `kube-rs`.
pub fn client(name: &str) -> Result<PathBuf> {
    let link = workspace().join("target/rig/clients").join(name);
    fs::canonicalize(&link).with_context(|| format!("no {name} for the rig yet; run `cargo xtask setup`"))
}

/// The probe of the same build as this program.
pub fn probe() -> Result<PathBuf> {
    beside("eks-guard-probe")
}

/// The `eks-guard` under test: `EKS_GUARD_BIN`, or the one of the development build.
pub fn eks_guard() -> Result<PathBuf> {
    let path = env::var_os("EKS_GUARD_BIN")
        .map_or_else(|| workspace().join("target/debug/eks-guard"), PathBuf::from);
    fs::canonicalize(&path).with_context(|| {
        format!(
            "no eks-guard at {}; run `cargo xtask build --debug`",
            path.display()
        )
    })
}

/// A program of the same build: beside the test binary's folder (`target/debug/deps/..`) or beside the program that asks.
pub fn beside(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().context("finding this program")?;
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found.with_context(|| format!("the program `{name}` is not built; run `cargo xtask build --debug`"))
}
