//! `cargo xtask bench`: measurements beside the field, each with targets that hold or do not.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::setup::{self, Need};
use crate::{console, paths, process};

/// The benches there are; each prints its table and writes `target/bench/NAME.json`.
const BENCHES: [&str; 3] = ["proxy", "datapath", "decision"];

#[derive(Args)]
pub(crate) struct Options {
    /// Names of benches; none or `all`: every one
    names: Vec<String>,
    /// How often everything is measured, interleaved
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |name: &str| options.names.iter().any(|given| given == name || given == "all");
    if let Some(name) = options
        .names
        .iter()
        .find(|name| *name != "all" && !BENCHES.contains(&name.as_str()))
    {
        bail!("no bench is named {name}; there are: {}", BENCHES.join(", "));
    }
    let chosen: Vec<&str> = BENCHES
        .into_iter()
        .filter(|name| options.names.is_empty() || wanted(name))
        .collect();
    let mut needs = Vec::new();
    for name in &chosen {
        needs.extend(match *name {
            "proxy" => vec![Need::Ebpf, Need::Servers, Need::Rivals],
            "datapath" => vec![Need::Ebpf, Need::Servers],
            _ => vec![Need::Counter],
        });
    }
    setup::run(&needs)?;
    if needs.contains(&Need::Ebpf) {
        build::build(Profile::Release)?;
    }
    for name in chosen {
        console::step(&format!(
            "bench {name}: nothing else should be running on this machine"
        ));
        match name {
            "proxy" => proxy(options.repetitions)?,
            "datapath" => datapath(options.repetitions)?,
            _ => decision(options.repetitions)?,
        }
    }
    Ok(())
}

fn proxy(repetitions: usize) -> Result<()> {
    console::step("building the rivals (release)");
    let args = [
        "build",
        "--locked",
        "--release",
        "--package",
        "eks-guard-tests",
        "--bins",
    ];
    process::run(process::cargo(&args), "building the rivals")?;
    let release = paths::workspace().join("target/release");
    let mut bench = process::as_root(&release.join("bench").to_string_lossy());
    bench.arg("proxy").arg("--guard").arg(release.join("eks-guard"));
    bench
        .arg("--kubectl")
        .arg(paths::workspace().join("target/rig/bin/kubectl"));
    bench.arg("--out").arg(paths::workspace().join("target/bench"));
    bench.arg("--repetitions").arg(repetitions.to_string());
    process::run(bench, "bench proxy")
}

/// Cargo starts it: it uses the guard's own library. It is the tests' build, because who measures is the same on every side;
/// the programs and the daemon are those of a release.
fn datapath(repetitions: usize) -> Result<()> {
    build::rig()?;
    let mut bench = process::cargo(&[
        "bench",
        "--locked",
        "--workspace",
        "--profile",
        "dev",
        "--bench",
        "node-datapath",
        "--",
    ]);
    process::run_as_root(&mut bench);
    bench.arg("--out").arg(paths::workspace().join("target/bench"));
    bench.arg("--repetitions").arg(repetitions.to_string());
    bench.env(
        "EKS_GUARD_BIN",
        paths::workspace().join("target/release/eks-guard"),
    );
    process::run(bench, "bench datapath")
}

/// A workspace of its own, with the engines that it compares with.
fn decision(repetitions: usize) -> Result<()> {
    console::step("building the engines (release; minutes at first)");
    let target = paths::workspace().join("target/decision");
    let mut build = process::cargo(&["build", "--locked", "--release", "--manifest-path"]);
    build.arg(paths::workspace().join("tests/decision/Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    process::run(build, "building the engines")?;
    let mut bench = Command::new(target.join("release/decision-bench"));
    bench.arg("--out").arg(paths::workspace().join("target/bench"));
    bench.arg("--repetitions").arg(repetitions.to_string());
    process::run(bench, "bench decision")
}
