//! `cargo xtask build`: the eBPF object, then the program that embeds it, and the probe beside it.

use std::{env, fs};

use anyhow::{Context, Result};
use clap::Args;

use crate::setup::{self, Need};
use crate::{console, ebpf, paths, process};

/// The program that `eks-guard verify` starts inside.
const PROBE: &str = "eks-guard-probe";

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
            console::step("building eks-guard-probe (release, linked statically)");
            static_probe()?;
            console::step("target/release/eks-guard and target/release/eks-guard-probe are ready");
        }
        Profile::Debug => rig()?,
    }
    Ok(())
}

/// The probe runs in any container, whatever C library is there. In a folder of its own: the flag would build every other
/// program's dependencies again.
fn static_probe() -> Result<()> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut cargo = process::cargo(&["build", "--locked", "--release", "--package", PROBE]);
    cargo
        .args(["--target", &target, "--target-dir", "target/probe"])
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    process::run(cargo, "building eks-guard-probe")?;
    let built = paths::workspace()
        .join("target/probe")
        .join(target)
        .join("release")
        .join(PROBE);
    let ready = paths::workspace().join("target/release").join(PROBE);
    fs::copy(&built, &ready)
        .with_context(|| format!("copying {} to {}", built.display(), ready.display()))?;
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
