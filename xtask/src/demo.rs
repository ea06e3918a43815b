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
    console::step("starting the demo");
    let mut demo = process::as_root(&process::built("demo").get_program().to_string_lossy());
    if options.keep {
        demo.arg("--keep");
    }
    process::run(demo, "the demo")
}
