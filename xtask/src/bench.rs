//! `cargo xtask bench`: measurements beside the field, each with targets that hold or do not.

use anyhow::{Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::setup::{self, Need};
use crate::{console, paths, process};

/// The benches there are; each prints its table and writes `target/bench/NAME.json`.
const BENCHES: [&str; 2] = ["proxy", "datapath"];

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
    let mut needs = vec![Need::Ebpf, Need::Servers];
    if chosen.contains(&"proxy") {
        needs.push(Need::Rivals);
    }
    setup::run(&needs)?;
    build::build(Profile::Release)?;
    console::step("building what measures and what is measured beside us (release)");
    let args = [
        "build",
        "--locked",
        "--release",
        "--package",
        "eks-guard-tests",
        "--bins",
    ];
    process::run(process::cargo(&args), "building the programs of the benches")?;
    for name in chosen {
        console::step(&format!(
            "bench {name}: nothing else should be running on this machine"
        ));
        match name {
            "proxy" => proxy(options.repetitions)?,
            _ => datapath(options.repetitions)?,
        }
    }
    Ok(())
}

fn proxy(repetitions: usize) -> Result<()> {
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

/// Cargo starts it: it uses the guard's own library.
fn datapath(repetitions: usize) -> Result<()> {
    let mut bench = process::cargo(&[
        "bench",
        "--locked",
        "--package",
        "eks-guard-tests",
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
