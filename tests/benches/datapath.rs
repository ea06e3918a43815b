//! What the guard costs a node: connections, packets and throughput of pods with the guard and beside it, the programs'
//! own time and size, the daemon's start and memory. Run it with `cargo xtask bench datapath`.

#[path = "datapath/daemon.rs"]
mod daemon;
#[path = "datapath/measure.rs"]
mod measure;
#[path = "datapath/programs.rs"]
mod programs;
#[path = "datapath/worker.rs"]
mod worker;
#[path = "datapath/world.rs"]
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rig::bench::Report;
use rig::programs::workspace;

/// What the guard costs a node.
#[derive(Parser)]
struct Arguments {
    /// Folder for the JSON report; left out: `target/bench` of the workspace.
    #[arg(long)]
    out: Option<PathBuf>,
    /// How often everything is repeated, interleaved.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// What cargo says to everything that it runs as a bench.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Only what connections and packets cost, which takes a tenth of the time.
    Pods,
    /// Only what the daemon takes.
    Daemon,
    /// A process whose connections are measured; told what to do on its standard input.
    #[command(hide = true)]
    Worker,
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut rows = Vec::new();
    match arguments.part {
        Some(Part::Worker) => {
            worker::serve()?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Part::Pods) => rows.extend(measure::run(arguments.repetitions)?),
        Some(Part::Daemon) => rows.extend(daemon::rows(arguments.repetitions)?),
        None => {
            rows.extend(measure::run(arguments.repetitions)?);
            rows.extend(daemon::rows(arguments.repetitions)?);
        }
    }
    let report = Report::new(rows);
    // cargo runs a bench in the folder of its package.
    let out = arguments.out.unwrap_or_else(|| workspace().join("target/bench"));
    report.write(&out, "datapath")?;
    println!("datapath: {}\n\n{}", report.machine, report.table());
    Ok(if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
