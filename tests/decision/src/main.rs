//! `bench decision`: what one decision costs, beside Cedar and Rego deciding on the same rules. Times are paired; counts of
//! instructions are the gate, because they do not depend on the machine's mood.

mod guard;
mod instructions;
mod rivals;

use std::env;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rig::bench::{Report, Row, Target};

use guard::Guard;
use rivals::{Cedar, Rego};

/// Rules of all policies together, and the policies they stand in.
const RULES: usize = 500;
const POLICIES: usize = 50;

/// One batch of measuring takes at least so long.
const BATCH: Duration = Duration::from_millis(40);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["count", case, times] => instructions::repeat(case, times.parse()?),
        ["--out", out, "--repetitions", repetitions] => bench(Path::new(out), repetitions.parse()?),
        _ => bail!("decision-bench --out FOLDER --repetitions N | count CASE TIMES"),
    }
}

fn bench(out: &Path, repetitions: usize) -> Result<()> {
    let (guard, cedar, rego) = (Guard::new()?, Cedar::new()?, Rego::new()?);
    let mut rego = rego;
    for (team, wanted) in [(0, true), (RULES - 1, true), (RULES, false)] {
        ensure!(guard.decides(team) == wanted, "eks-guard on team {team}");
        ensure!(cedar.decides(team)? == wanted, "Cedar on team {team}");
        ensure!(rego.decides(team)? == wanted, "Rego on team {team}");
    }
    ensure!(guard.decides_on_object(), "eks-guard on an object");
    ensure!(
        guard.read_json() && guard.read_protobuf() && guard.compile() && guard::parse(),
        "a body is refused"
    );
    let mut times: [Vec<f64>; 8] = Default::default();
    for _ in 0..repetitions {
        let samples = [
            nanoseconds(|| guard.decides(RULES / 2)),
            nanoseconds(|| cedar.decides(RULES / 2)),
            nanoseconds(|| rego.decides(RULES / 2)),
            nanoseconds(|| guard::parse()),
            nanoseconds(|| guard.compile()),
            nanoseconds(|| guard.read_json()),
            nanoseconds(|| guard.read_protobuf()),
            nanoseconds(|| guard.decides_on_object()),
        ];
        times.iter_mut().zip(samples).for_each(|(all, one)| all.push(one));
    }
    let [decide, cedar, rego, parse, compile, json, protobuf, condition] = times;
    let micro = |samples: &[f64]| samples.iter().map(|ns| ns / 1e3).collect::<Vec<f64>>();
    let (decide, cedar, rego) = (micro(&decide), micro(&cedar), micro(&rego));
    let what = format!("decision, request parsed, {RULES} rules in {POLICIES} policies");
    let speed = |bytes: usize, samples: &[f64]| {
        samples
            .iter()
            .map(|ns| bytes as f64 / ns * 1e3)
            .collect::<Vec<f64>>()
    };
    let mut rows = vec![
        Row::paired(&what, "µs", &decide, ("Cedar", &cedar), Target::OursAtMost(2.0)),
        Row::paired(&what, "µs", &decide, ("Rego", &rego), Target::RatioAtMost(1.0)),
        Row::alone(
            "decision with a condition on the object",
            "µs",
            &micro(&condition),
            Target::OursAtMost(15.0),
        ),
        Row::alone("RequestInfo", "ns", &parse, Target::OursAtMost(400.0)),
        Row::alone(
            &format!("snapshot of {RULES} rules, without reading YAML"),
            "ms",
            &micro(&micro(&compile)),
            Target::OursAtMost(5.0),
        ),
        Row::alone(
            "JSON body",
            "MB/s",
            &speed(guard.json_len(), &json),
            Target::OursAtLeast(300.0),
        ),
        Row::alone(
            "protobuf body",
            "MB/s",
            &speed(guard.protobuf_len(), &protobuf),
            Target::OursAtLeast(150.0),
        ),
    ];
    rows.extend(instructions::rows()?);
    let report = Report::new(rows);
    println!("{}\n\n{}", report.machine, report.table());
    report.write(out, "decision")?;
    ensure!(report.holds(), "a target does not hold");
    Ok(())
}

/// Nanoseconds of one call: the best of several batches.
fn nanoseconds<T>(mut call: impl FnMut() -> T) -> f64 {
    let mut calls = 1_u32;
    let mut best = f64::INFINITY;
    let mut batches = 0;
    while batches < 5 {
        let began = Instant::now();
        for _ in 0..calls {
            let _ = black_box(call());
        }
        let took = began.elapsed();
        if took < BATCH {
            calls = calls.saturating_mul(2);
            continue;
        }
        batches += 1;
        best = best.min(took.as_secs_f64() * 1e9 / f64::from(calls));
    }
    best
}

/// The namespace that one rule is about.
fn team(number: usize) -> String {
    format!("team-{number}")
}

/// The policy that one rule stands in; each selects an agent of its own, and all of them the agent that is measured.
fn policy_of(rule: usize) -> usize {
    rule % POLICIES
}

fn own_path() -> Result<PathBuf> {
    env::current_exe().context("finding the own program")
}
