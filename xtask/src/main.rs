//! Every automation of the project, one subcommand a file. CI runs the same commands as a person.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an automation tells the person in front of it what it does"
)]

mod bench;
mod build;
mod console;
mod crd;
mod demo;
mod differential;
mod ebpf;
mod fuzz;
mod paths;
mod process;
mod protobuf;
mod rig;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install and build what the other tasks need; says what before it does it
    Setup,
    /// Build the eBPF object and the eks-guard program
    Build(build::Options),
    /// Start a test cluster and drive a real kubectl through the guard, step by step
    Demo(demo::Options),
    /// Run suites of tests: all, or the named ones
    Test(test::Options),
    /// Start the test cluster and keep it until Ctrl-C
    Rig(rig::Options),
    /// Measure against the field: all, or the named ones
    Bench(bench::Options),
    /// Send generated requests to the guard and to the API server, and compare what both say about them
    Differential(differential::Options),
    /// Try the readers of what an agent sends with bytes that an engine makes up
    Fuzz(fuzz::Options),
    /// Check the house rules: the suite `tidy` alone
    Tidy,
    /// Write the generated files again: the tables of the pinned Kubernetes, and the CustomResourceDefinition
    #[command(hide = true)]
    Generate,
}

fn main() -> ExitCode {
    console::start_clock();
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run(setup::Need::ALL),
        Task::Build(options) => build::run(options),
        Task::Demo(options) => demo::run(options),
        Task::Test(options) => test::run(&options),
        Task::Rig(options) => rig::run(options),
        Task::Bench(options) => bench::run(&options),
        Task::Differential(options) => differential::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Tidy => test::run(&test::Options::only("tidy")),
        Task::Generate => crd::write().and_then(|()| protobuf::run()),
    }
}
