//! `cargo xtask differential`: the guard and the API server asked about so many generated requests. Fails on a disagreement.

#![allow(clippy::print_stdout, reason = "a command-line program")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use rig::cluster::{Cluster, ClusterOptions};
use rig::differential::{Differential, Tally};

/// Generated requests to the guard and to the API server, compared.
#[derive(Parser)]
struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 5000)]
    requests: u64,
    /// Which ones.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the request with this number.
    #[arg(long)]
    only: Option<u64>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    println!("seed {}", arguments.seed);
    let cluster = Cluster::start(ClusterOptions::default())?;
    let mut differential = Differential::start(&cluster)?;
    let begin = Instant::now();
    let numbers = match arguments.only {
        Some(number) => number..number + 1,
        None => 0..arguments.requests,
    };
    let mut shown = 0;
    let tally = differential.run(arguments.seed, numbers, |tally| {
        println!("{:6.1} s  {tally}", begin.elapsed().as_secs_f32());
        for disagreement in &tally.disagreements[shown..] {
            println!("DISAGREEMENT {disagreement}");
        }
        shown = tally.disagreements.len();
    })?;
    differential.end()?;
    report(&tally, arguments.seed);
    Ok(if tally.disagreements.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(tally: &Tally, seed: u64) {
    println!("\nseed {seed}: {tally}");
    println!(
        "cells: {} tried, {} of them forwarded",
        tally.cells.len(),
        tally.forwarded_cells.len()
    );
    for (reason, count) in &tally.refused {
        println!("refused {count:7} {reason}");
    }
}
