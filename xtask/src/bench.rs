//! `cargo xtask bench`: measurements beside the field, each with targets that hold or do not.

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::setup::{self, Need};
use crate::{console, paths, process};

/// The benches there are; each prints its table and writes `target/bench/NAME.json`.
const BENCHES: [&str; 1] = ["proxy"];

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
    setup::run(&[Need::Ebpf, Need::Servers, Need::Rivals])?;
    build::build(Profile::Release)?;
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
    for name in BENCHES {
        if options.names.is_empty() || wanted(name) {
            console::step(&format!(
                "bench {name}: nothing else should be running on this machine"
            ));
            measure(name, options.repetitions)?;
        }
    }
    Ok(())
}

fn measure(name: &str, repetitions: usize) -> Result<()> {
    let release = paths::workspace().join("target/release");
    let mut bench = process::as_root(&release.join("bench").to_string_lossy());
    bench.arg(name).arg("--guard").arg(release.join("eks-guard"));
    bench
        .arg("--kubectl")
        .arg(paths::workspace().join("target/rig/bin/kubectl"));
    bench.arg("--out").arg(paths::workspace().join("target/bench"));
    bench.arg("--repetitions").arg(repetitions.to_string());
    process::run(bench, &format!("bench {name}"))
}
