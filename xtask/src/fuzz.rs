//! `cargo xtask fuzz`: the readers of what an agent sends, against bytes that libFuzzer makes up. The stable compiler counts
//! the branches they reach; a crate of its own (`tests/fuzz`) has the targets and their seeds.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::setup::{self, Need};
use crate::test::count::Count;
use crate::{console, paths, process};

/// Counters in every branch, and the operands of comparisons.
const COUNTERS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What an input may cost. One of 16 KiB takes milliseconds; a busy machine may take long.
const BOUNDS: [&str; 3] = ["-max_len=16384", "-rss_limit_mb=1024", "-timeout=120"];

/// How long each target is tried in the suite `fuzz`.
const SUITE_SECONDS: u64 = 2;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz                               every target for a minute
  cargo xtask fuzz json yaml --seconds 3600      two of them for an hour each
  cargo xtask fuzz path --seed 7                 begin elsewhere
  cargo xtask fuzz path --input FILE             one input again, with a backtrace

What was found is kept in target/fuzz/corpus, and the next run begins with it. An input that breaks a promise is written to
target/fuzz/failures, with the command that shows it again; once mended, it belongs into tests/fuzz/seeds.")]
pub(crate) struct Options {
    /// Names of targets; none: all
    targets: Vec<String>,
    /// How long each is tried
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the engine's randomness begins
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Only this input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let known = targets()?;
    if let Some(name) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("no target is named {name}; there are: {}", known.join(", "));
    }
    let chosen: Vec<&String> = known
        .iter()
        .filter(|name| options.targets.is_empty() || options.targets.contains(name))
        .collect();
    let program = build()?;
    if let Some(input) = &options.input {
        let [target] = chosen[..] else {
            bail!("an input is for one target: cargo xtask fuzz TARGET --input FILE")
        };
        let mut again = engine(&program, target);
        again.env("RUST_BACKTRACE", "1").args(BOUNDS);
        again.arg(fs::canonicalize(input).with_context(|| format!("looking for {}", input.display()))?);
        return process::run(again, target);
    }
    for target in chosen {
        console::headline(&format!(
            "target {target}: {} s, seed {}",
            options.seconds, options.seed
        ));
        try_out(&program, target, options.seconds, options.seed)?;
    }
    Ok(())
}

/// Every target for a short while, its seeds first.
pub(crate) fn suite(filter: Option<&str>) -> Result<Count> {
    let program = build()?;
    let mut count = Count::default();
    for target in targets()? {
        if filter.is_some_and(|text| !target.contains(text)) {
            continue;
        }
        console::step(&format!("target {target}"));
        let outcome = try_out(&program, &target, SUITE_SECONDS, 1);
        if let Err(error) = &outcome {
            println!("target {target}: {error:#}");
        }
        count.add(&target, outcome.is_ok());
    }
    Ok(count)
}

/// One for each folder of seeds.
fn targets() -> Result<Vec<String>> {
    let seeds = seeds();
    let entries = fs::read_dir(&seeds).with_context(|| format!("reading {}", seeds.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

fn seeds() -> PathBuf {
    paths::workspace().join("tests/fuzz/seeds")
}

fn folder() -> PathBuf {
    paths::workspace().join("target/fuzz")
}

fn build() -> Result<PathBuf> {
    setup::run(&[Need::Fuzz])?;
    console::step("building the targets with counters (a minute or two at first)");
    // With a target named, build scripts and macros are left without counters, which nobody would hear there.
    let target = format!("{ARCH}-unknown-linux-gnu");
    let manifest = paths::workspace().join("tests/fuzz/Cargo.toml");
    let mut build = process::cargo(&["build", "--locked", "--release", "--target", &target]);
    build.arg("--manifest-path").arg(manifest);
    build.arg("--target-dir").arg(folder());
    build.env("CARGO_ENCODED_RUSTFLAGS", COUNTERS.join("\x1f"));
    process::run(build, "building the targets")?;
    Ok(folder().join(target).join("release/fuzz"))
}

fn engine(program: &Path, target: &str) -> Command {
    let mut engine = Command::new(program);
    engine.env("FUZZ_TARGET", target).current_dir(folder());
    engine
}

fn try_out(program: &Path, target: &str, seconds: u64, seed: u32) -> Result<()> {
    let (corpus, failures) = (
        folder().join("corpus").join(target),
        folder().join("failures").join(target),
    );
    for folder in [&corpus, &failures] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let before = files(&failures)?;
    let mut engine = engine(program, target);
    engine.args(BOUNDS).arg("-print_final_stats=1");
    engine
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={seed}"));
    engine.arg(format!("-artifact_prefix={}/", failures.display()));
    engine.arg(&corpus).arg(seeds().join(target));
    let status = engine.status().context("starting the engine")?;
    let new: Vec<PathBuf> = files(&failures)?
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    for file in &new {
        console::headline(&format!(
            "what broke it: cargo xtask fuzz {target} --input {}",
            file.display()
        ));
    }
    ensure!(
        status.success(),
        "target {target} ended with {status}; what it said is above"
    );
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
