//! How many instructions one call takes, counted by callgrind: the difference between many calls and few.

use std::hint::black_box;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rig::bench::{Row, Target};

use crate::guard::{self, Guard};
use crate::{RULES, own_path};

/// What is counted, and what it may come to: a tenth more than it does.
const CASES: [(&str, f64); 4] = [
    ("request-info", 2_710.0),
    ("decision", 7_680.0),
    ("condition", 64_500.0),
    ("snapshot", 3_000_000.0),
];

/// One row for each case.
pub(crate) fn rows() -> Result<Vec<Row>> {
    CASES
        .into_iter()
        .map(|(case, limit)| {
            let (few, many) = (20, 220);
            let calls = f64::from(many - few);
            let count = (counted(case, many)? - counted(case, few)?) / calls;
            let metric = format!("instructions: {case}");
            Ok(Row::alone(&metric, "", &[count], Target::OursAtMost(limit)))
        })
        .collect()
}

/// What is counted: one call again and again.
pub(crate) fn repeat(case: &str, times: u32) -> Result<()> {
    let guard = Guard::new()?;
    for _ in 0..times {
        let done = match case {
            "request-info" => guard::parse(),
            "decision" => guard.decides(RULES / 2),
            "condition" => guard.decides_on_object(),
            "snapshot" => guard.compile(),
            _ => bail!("no case is named {case}"),
        };
        ensure!(black_box(done), "{case} is refused");
    }
    Ok(())
}

fn counted(case: &str, times: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own_path()?)
        .args(["count", case, &times.to_string()])
        .output()
        .context("starting valgrind; `cargo xtask bench decision` installs it")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {told}");
    let collected = told
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .with_context(|| format!("callgrind counted nothing: {told}"))?;
    collected.1.trim().parse().context("reading callgrind's count")
}
