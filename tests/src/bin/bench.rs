//! Runs one bench or all: prints the table, writes `target/bench/NAME.json`, fails when a target does not hold.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rig::bench::{proxy, rivals};

/// Paired benchmarks of eks-guard.
#[derive(Parser)]
struct Arguments {
    /// `proxy` or `all`.
    #[arg(default_value = "all")]
    name: String,
    /// Release build of eks-guard.
    #[arg(long)]
    guard: PathBuf,
    /// The rig's kubectl.
    #[arg(long)]
    kubectl: PathBuf,
    /// Folder for the JSON reports.
    #[arg(long)]
    out: PathBuf,
    /// How often everything is repeated, interleaved.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !matches!(arguments.name.as_str(), "proxy" | "all") {
        bail!("no bench named {}; there is: proxy, all", arguments.name);
    }
    let bare = std::env::current_exe()?.with_file_name("bare-proxy");
    let programs = rivals::Programs {
        guard: arguments.guard,
        bare,
        kubectl: arguments.kubectl,
    };
    let report = proxy::run(&programs, arguments.repetitions)?;
    report
        .write(Path::new(&arguments.out), "proxy")
        .context("writing the report")?;
    println!("proxy: {}\n\n{}", report.machine, report.table());
    Ok(if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
