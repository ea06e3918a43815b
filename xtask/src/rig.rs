//! `cargo xtask rig`: the test cluster, for as long as you want it; with `--node`, a node and a pod beside it.

use std::net::IpAddr;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Need};
use crate::{build, console, process};

#[derive(Args)]
pub(crate) struct Options {
    /// Loopback address of the API server
    #[arg(long, default_value = "127.0.0.1", conflicts_with = "node")]
    bind: IpAddr,
    /// In network namespaces of its own, with a node and a pod (needs root)
    #[arg(long)]
    node: bool,
}

pub(crate) fn run(options: Options) -> Result<()> {
    setup::run(&[Need::Servers])?;
    build::rig()?;
    console::step("starting the test cluster");
    let program = process::built("start-rig");
    let rig = if options.node {
        let mut rig = process::as_root(&program.get_program().to_string_lossy());
        rig.arg("node");
        rig
    } else {
        let mut rig = program;
        rig.arg(options.bind.to_string());
        rig
    };
    process::run(rig, "the test cluster")
}
