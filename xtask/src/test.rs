//! `cargo xtask test`: suites of tests, their output as it comes, and one last line that counts.

pub(crate) mod count;
mod matrix;
mod payload;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::setup::{self, Need};
use crate::test::count::Count;
use crate::{console, fuzz, paths, process, tidy};

/// The order in which suites run; those not named here come last.
const ORDER: &[&str] = &[
    "tidy",
    "unit",
    "fuzz",
    "conditions",
    "cluster",
    "netns",
    "datapath",
    "run",
    "verify",
    "clients",
    "compatible",
    "refusals",
    "differential",
    "hostile",
    "errors",
    "failures",
    "readme",
    "daemon",
    "fleet",
    "faults",
    "kernels",
    "web",
    "node",
];

#[derive(Args)]
pub(crate) struct Options {
    /// Names of suites; none: all
    suites: Vec<String>,
    /// Only tests whose name contains this
    #[arg(long)]
    filter: Option<String>,
}

impl Options {
    pub(crate) fn only(suite: &str) -> Self {
        Self {
            suites: vec![suite.to_owned()],
            filter: None,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let known = known_suites()?;
    if let Some(name) = options.suites.iter().find(|name| !known.contains(name)) {
        bail!("no suite is named {name}; there are: {}", known.join(", "));
    }
    let mut chosen: Vec<&String> = known
        .iter()
        .filter(|name| options.suites.is_empty() || options.suites.contains(name))
        .collect();
    if options.suites.is_empty() && !setup::has_clients()? {
        console::step(
            "suite compatible is left out: its clients take minutes to build. `cargo xtask test compatible` does it once",
        );
        chosen.retain(|name| *name != "compatible");
    }
    prepare(&chosen)?;
    matrix::begin()?;
    let mut total = Count::default();
    let mut failures = Vec::new();
    for suite in chosen {
        console::headline(&format!("suite {suite}"));
        let begin = Instant::now();
        let count = match suite.as_str() {
            "tidy" => tidy::run()?,
            "unit" => unit(options)?,
            "fuzz" => fuzz::suite(options.filter.as_deref())?,
            name => rig_suite(name, options)?,
        };
        let count = count.or_failed_when_empty(suite, options.filter.is_some());
        console::headline(&format!(
            "suite {suite}: {count} in {}",
            console::seconds(begin.elapsed())
        ));
        for name in &count.failed {
            failures.push(format!("suite {suite}: {name}"));
        }
        total += count;
    }
    matrix::show()?;
    for name in failures {
        println!("{}: {name}", console::paint("31", "failed"));
    }
    println!("{total}");
    if !total.failed.is_empty() || total == Count::default() {
        std::process::exit(1);
    }
    Ok(())
}

/// Suites that need no rig: they are no files in `tests/tests`.
const WITHOUT_RIG: [&str; 3] = ["tidy", "unit", "fuzz"];
/// The suite that asks Kubernetes' evaluator, and no server.
const CONDITIONS: &str = "conditions";

/// Those without a rig, and one suite for each file in `tests/tests`.
fn known_suites() -> Result<Vec<String>> {
    let mut names = BTreeSet::from(WITHOUT_RIG.map(str::to_owned));
    names.extend(test_files(&paths::workspace().join("tests/tests"))?);
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_key(|name| {
        ORDER
            .iter()
            .position(|known| known == name)
            .unwrap_or(ORDER.len())
    });
    Ok(names)
}

fn prepare(suites: &[&String]) -> Result<()> {
    let rig = suites.iter().any(|suite| !WITHOUT_RIG.contains(&suite.as_str()));
    let mut needs = vec![Need::Ebpf];
    if suites
        .iter()
        .any(|suite| *suite != CONDITIONS && !WITHOUT_RIG.contains(&suite.as_str()))
    {
        needs.push(Need::Servers);
    }
    if suites.iter().any(|suite| *suite == CONDITIONS) {
        needs.push(Need::Oracle);
    }
    if suites.iter().any(|suite| *suite == "tidy") {
        needs.push(Need::Deny);
    }
    if suites.iter().any(|suite| *suite == "compatible") {
        needs.push(Need::Clients);
    }
    let kernels = suites.iter().any(|suite| *suite == "kernels");
    if kernels {
        needs.push(Need::Kernels);
    }
    setup::run(&needs)?;
    // Every suite compiles the program, and the program embeds the object.
    if rig {
        build::build(Profile::Debug)?;
    } else {
        crate::ebpf::build(paths::workspace())?;
    }
    if kernels { payload::build() } else { Ok(()) }
}

/// Tests inside the crates, their integration tests, and their examples in documentation.
fn unit(options: &Options) -> Result<Count> {
    let mut cargo = process::cargo(&[
        "test",
        "--locked",
        "--no-fail-fast",
        "--workspace",
        "--lib",
        "--bins",
    ]);
    for name in integration_tests()? {
        cargo.args(["--test", &name]);
    }
    process::run_as_root(&mut cargo);
    let mut count = count::run(cargo, options.filter.as_deref())?;
    let cargo = process::cargo(&["test", "--locked", "--no-fail-fast", "--workspace", "--doc"]);
    count += count::run(cargo, options.filter.as_deref())?;
    Ok(count)
}

/// Names of the integration tests of the crates that need no rig.
fn integration_tests() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for member in fs::read_dir(paths::workspace()).context("reading the workspace")? {
        let member = member?;
        if member.file_name() != "tests" {
            names.extend(test_files(&member.path().join("tests"))?);
        }
    }
    Ok(names)
}

/// Stems of the Rust files in a folder that may not be there.
fn test_files(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    let rust = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    Ok(rust
        .filter_map(|path| path.file_stem())
        .map(|stem| stem.to_string_lossy().into_owned())
        .collect())
}

fn rig_suite(name: &str, options: &Options) -> Result<Count> {
    // The whole workspace is named, or dependencies would be built a second time with other features.
    let mut cargo = process::cargo(&["test", "--locked", "--workspace", "--test", name]);
    matrix::collect(&mut cargo);
    process::run_as_root(&mut cargo);
    count::run(cargo, options.filter.as_deref())
}
