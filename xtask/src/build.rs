//! `cargo xtask build`: the eBPF object, then the program that embeds it.

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Need};
use crate::{console, ebpf, paths, process};

#[derive(Args)]
pub(crate) struct Options {
    /// Optimised build (the default)
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Development build: what tests and demo use
    #[arg(long)]
    debug: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Release,
    Debug,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let profile = if options.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    setup::run(&[Need::Ebpf])?;
    build(profile)
}

/// Builds both; what they need is set up already.
pub(crate) fn build(profile: Profile) -> Result<()> {
    console::step("building the eBPF object");
    ebpf::build(paths::workspace())?;
    match profile {
        Profile::Release => {
            console::step("building eks-guard (release)");
            let args = ["build", "--locked", "--release", "--package", "eks-guard-user"];
            process::run(process::cargo(&args), "building eks-guard")?;
            console::step("target/release/eks-guard is ready");
        }
        Profile::Debug => rig()?,
    }
    Ok(())
}

/// Builds every program of the workspace, with the features that tests are built with: a dependency compiles once.
pub(crate) fn rig() -> Result<()> {
    console::step("building eks-guard and the rig (debug)");
    process::run(
        process::cargo(&["build", "--locked", "--workspace", "--bins"]),
        "building the workspace",
    )
}
