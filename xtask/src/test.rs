//! `cargo xtask test`: suites of tests, their output as it comes, and one last line that counts.

pub(crate) mod count;

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::setup::{self, Need};
use crate::test::count::Count;
use crate::{console, paths, process, tidy};

/// The order in which suites run; those not named here come last.
const ORDER: [&str; 8] = [
    "tidy", "unit", "cluster", "clients", "netns", "kernels", "web", "node",
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
    let chosen: Vec<&String> = known
        .iter()
        .filter(|name| options.suites.is_empty() || options.suites.contains(name))
        .collect();
    prepare(&chosen)?;
    let mut total = Count::default();
    for suite in chosen {
        console::headline(&format!("suite {suite}"));
        let begin = Instant::now();
        let count = match suite.as_str() {
            "tidy" => tidy::run()?,
            "unit" => unit(options)?,
            name => rig_suite(name, options)?,
        };
        let count = count.or_failed_when_empty(suite, options.filter.is_some());
        console::headline(&format!(
            "suite {suite}: {count} in {}",
            console::seconds(begin.elapsed())
        ));
        total += count;
    }
    println!("{total}");
    if total.failed > 0 || total == Count::default() {
        // The last line is the count; everything about the failures is above.
        std::process::exit(1);
    }
    Ok(())
}

/// `tidy`, `unit`, and one suite for each file in `tests/tests`.
fn known_suites() -> Result<Vec<String>> {
    let mut names = BTreeSet::from(["tidy".to_owned(), "unit".to_owned()]);
    let folder = paths::workspace().join("tests/tests");
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
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
    let rig = suites
        .iter()
        .any(|suite| !["tidy", "unit"].contains(&suite.as_str()));
    let mut needs = vec![Need::Ebpf];
    if rig {
        needs.push(Need::Servers);
    }
    if suites.iter().any(|suite| *suite == "tidy") {
        needs.push(Need::Deny);
    }
    setup::run(&needs)?;
    // Every suite compiles the program, and the program embeds the object.
    if rig {
        build::build(Profile::Debug)
    } else {
        crate::ebpf::build(paths::workspace()).map(|_| ())
    }
}

fn unit(options: &Options) -> Result<Count> {
    let mut cargo = process::cargo(&[
        "test",
        "--locked",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "eks-guard-tests",
    ]);
    process::run_as_root(&mut cargo);
    let mut count = count::run(cargo, options.filter.as_deref())?;
    let cargo = process::cargo(&[
        "test",
        "--locked",
        "--package",
        "eks-guard-tests",
        "--lib",
        "--bins",
    ]);
    count += count::run(cargo, options.filter.as_deref())?;
    Ok(count)
}

fn rig_suite(name: &str, options: &Options) -> Result<Count> {
    let mut cargo = process::cargo(&["test", "--locked", "--package", "eks-guard-tests", "--test", name]);
    process::run_as_root(&mut cargo);
    count::run(cargo, options.filter.as_deref())
}
