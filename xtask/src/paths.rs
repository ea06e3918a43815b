//! Where things are kept.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    // The folder of this crate stands in the workspace.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// What survives `cargo clean`: built servers, by version.
pub(crate) fn cache() -> Result<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = named.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(base
        .context("no cache folder: set HOME or XDG_CACHE_HOME")?
        .join("eks-guard"))
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Result<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = named.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    Ok(home
        .context("no folder for cargo: set HOME or CARGO_HOME")?
        .join("bin"))
}

/// The cargo that runs this.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
