//! The guard and the API server asked about the same generated requests: nothing that is forwarded means something else there,
//! nothing that is refused arrives, and every way to use every resource has been tried. Needs root.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use anyhow::{Result, anyhow, ensure};
use rig::cluster::shared;
use rig::differential::coverage::{Cell, Task, tasks};
use rig::differential::{Differential, Tally, agreed};

/// More than one for every cell of the coverage.
const REQUESTS: u64 = 5000;
const SEED: u64 = 1;

/// What one run found, and the cells that the API server's discovery asks for.
struct Run {
    tally: Tally,
    cells: BTreeSet<Cell>,
}

fn run() -> Result<&'static Run> {
    static RUN: OnceLock<Result<Run, String>> = OnceLock::new();
    let run = RUN.get_or_init(|| compare().map_err(|error| format!("{error:#}")));
    run.as_ref().map_err(|error| anyhow!("{error}"))
}

fn compare() -> Result<Run> {
    let mut differential = Differential::start(shared()?)?;
    let tally = differential.run(SEED, 0..REQUESTS, |_| ())?;
    let cells = tasks(differential.resources()).iter().map(Task::cell).collect();
    differential.end()?;
    Ok(Run { tally, cells })
}

#[test]
fn generated_requests_mean_the_same_to_the_guard_and_to_the_api_server() -> Result<()> {
    let tally = &run()?.tally;
    agreed(tally)?;
    ensure!(
        tally.requests == REQUESTS && tally.forwarded > REQUESTS / 3 && tally.compared > REQUESTS / 10,
        "{tally}"
    );
    Ok(())
}

#[test]
fn every_verb_of_every_resource_in_every_encoding_has_been_tried() -> Result<()> {
    let run = run()?;
    let untried: Vec<String> = run
        .cells
        .difference(&run.tally.cells)
        .map(Cell::to_string)
        .collect();
    ensure!(
        run.cells.len() > 1000,
        "discovery shows {} cells",
        run.cells.len()
    );
    ensure!(untried.is_empty(), "not tried through the guard: {untried:#?}");
    Ok(())
}
