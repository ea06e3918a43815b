//! `cargo xtask demo`: the main job of eks-guard on real parts, told as a story.

use anyhow::Result;
use clap::Args;

use crate::build::{self, Profile};
use crate::setup::{self, Need};
use crate::{console, process};

#[derive(Args)]
pub(crate) struct Options {
    /// Leave the test cluster running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: Options) -> Result<()> {
    setup::run(&[Need::Ebpf, Need::Servers])?;
    build::build(Profile::Debug)?;
    process::run(
        process::cargo(&["build", "--locked", "--package", "eks-guard-tests", "--bins"]),
        "building the demo",
    )?;
    console::step("starting the demo");
    let mut demo = process::cargo(&[
        "run",
        "--quiet",
        "--locked",
        "--package",
        "eks-guard-tests",
        "--bin",
        "demo",
        "--",
    ]);
    if options.keep {
        demo.arg("--keep");
    }
    process::run_as_root(&mut demo);
    process::run(demo, "the demo")
}
