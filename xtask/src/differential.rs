//! `cargo xtask differential`: generated requests to the guard and to the API server, whose words about them are compared.

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Need};
use crate::{build, console, process};

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask differential                               5,000 requests, as in CI
  cargo xtask differential --requests 200000 --seed 7    many more, others
  cargo xtask differential --seed 7 --only 1234          the one that did not agree, again

Each disagreement is printed with a command line that sends the request by hand. The exit code is 1 when there is one.")]
pub(crate) struct Options {
    /// How many requests
    #[arg(long, default_value_t = 5000)]
    requests: u64,
    /// Which ones: the same seed is the same requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the request with this number
    #[arg(long)]
    only: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(&[Need::Ebpf, Need::Servers])?;
    build::build(build::Profile::Debug)?;
    console::step("starting the test cluster");
    let mut differential = process::as_root(&process::built("differential").get_program().to_string_lossy());
    differential.args(["--requests", &options.requests.to_string()]);
    differential.args(["--seed", &options.seed.to_string()]);
    if let Some(number) = options.only {
        differential.args(["--only", &number.to_string()]);
    }
    process::run(differential, "the comparison")
}
