//! `cargo xtask rig`: the test cluster, for as long as you want it.

use std::net::IpAddr;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Need};
use crate::{build, console, process};

#[derive(Args)]
pub(crate) struct Options {
    /// Loopback address of the API server
    #[arg(long, default_value = "127.0.0.1")]
    bind: IpAddr,
}

pub(crate) fn run(options: Options) -> Result<()> {
    setup::run(&[Need::Servers])?;
    build::rig()?;
    console::step("starting the test cluster");
    let mut rig = process::built("start-rig");
    rig.arg(options.bind.to_string());
    process::run(rig, "the test cluster")
}
