//! `cargo xtask rig`: the test cluster, for as long as you want it.

use std::net::IpAddr;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Need};
use crate::{console, process};

#[derive(Args)]
pub(crate) struct Options {
    /// Loopback address of the API server
    #[arg(long, default_value = "127.0.0.1")]
    bind: IpAddr,
}

pub(crate) fn run(options: Options) -> Result<()> {
    setup::run(&[Need::Servers])?;
    process::run(
        process::cargo(&["build", "--locked", "--package", "eks-guard-tests", "--bins"]),
        "building the rig",
    )?;
    console::step("starting the test cluster");
    let address = options.bind.to_string();
    let args = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "eks-guard-tests",
        "--bin",
        "start-rig",
        "--",
        &address,
    ];
    process::run(process::cargo(&args), "the test cluster")
}
