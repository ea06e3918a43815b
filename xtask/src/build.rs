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
    let (folder, flag) = match profile {
        Profile::Release => ("release", &["--release"][..]),
        Profile::Debug => ("debug", &[][..]),
    };
    console::step(&format!("building eks-guard ({folder})"));
    let mut cargo = process::cargo(&["build", "--locked", "--package", "eks-guard-user"]);
    cargo.args(flag);
    process::run(cargo, "building eks-guard")?;
    console::step(&format!("target/{folder}/eks-guard is ready"));
    Ok(())
}
