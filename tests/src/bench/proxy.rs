//! The guard beside nginx, HAProxy, a bare hyper proxy and `kubectl proxy`: latency, CPU per request, big lists,
//! handshakes, memory. Method and anchors are in docs/performance.md.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::bench::load::Shape;
use crate::bench::process::{memory_mb, reset_peak};
use crate::bench::rivals::{HUGE, LIST, Programs, SMALL, Stage, Subject};
use crate::bench::{Report, Row, Target};

const GUARD: &str = "eks-guard";
const RIVALS: [&str; 4] = ["nginx", "haproxy", "bare hyper", "kubectl proxy"];
const LIST_GB: f64 = 0.020;

/// Samples by cell and subject, one a repetition.
type Samples = BTreeMap<(&'static str, &'static str), Vec<f64>>;

/// Runs everything, `repetitions` times interleaved.
///
/// # Errors
/// A program does not come up or a load fails.
#[expect(
    clippy::print_stderr,
    reason = "progress of a long measurement, for the person who waits"
)]
pub fn run(programs: &Programs, repetitions: usize) -> Result<Report> {
    let stage = Stage::start()?;
    let mut subjects = vec![
        stage.direct(),
        stage.nginx()?,
        stage.haproxy()?,
        stage.bare(programs)?,
        stage.kubectl_proxy(programs)?,
        stage.guard(programs)?,
    ];
    let idle = guard_memory(&subjects, "VmRSS")?;
    let mut samples = Samples::new();
    for repetition in 1..=repetitions {
        for subject in &mut subjects {
            eprintln!("repetition {repetition} of {repetitions}: {}", subject.name);
            measure(subject, &mut samples).with_context(|| format!("measuring {}", subject.name))?;
        }
    }
    let stream = stream_memory(&mut subjects)?;
    Ok(Report::new(rows(&samples, idle, stream)))
}

fn measure(subject: &mut Subject, samples: &mut Samples) -> Result<()> {
    let name = subject.name;
    let mut keep = |cell: &'static str, value: f64| samples.entry((cell, name)).or_default().push(value);
    let (load, _) = subject.cell(Shape::Single { requests: 4_000 }, SMALL)?;
    keep("p50", load.p50);
    keep("p99", load.p99);
    let (load, cpu) = subject.cell(Shape::H1 { connections: 32 }, SMALL)?;
    keep("h1 rate", load.rate);
    keep("h1 cpu", cpu);
    if subject.tls() {
        let (load, cpu) = subject.cell(
            Shape::H2 {
                connections: 4,
                streams: 8,
            },
            SMALL,
        )?;
        keep("h2 rate", load.rate);
        keep("h2 cpu", cpu);
        let (_, cpu) = subject.cell(Shape::Handshakes { connections: 300 }, SMALL)?;
        keep("handshake", cpu);
    }
    let (_, cpu) = subject.cell(Shape::Single { requests: 20 }, LIST)?;
    keep("list", LIST_GB / (cpu / 1e6));
    Ok(())
}

/// One line of the table for each rival: metric, unit, cell, how to read the cell, and the promise with its rival.
type Line = (
    &'static str,
    &'static str,
    &'static str,
    Reading,
    Option<(&'static str, Target)>,
);

/// How a sample becomes a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    /// As measured.
    Plain,
    /// Over what the same repetition took without a proxy.
    Added,
}

const LINES: [Line; 8] = [
    (
        "added p50, 1 connection",
        "µs",
        "p50",
        Reading::Added,
        Some(("nginx", Target::RatioAtMost(2.0))),
    ),
    ("added p99, 1 connection", "µs", "p99", Reading::Added, None),
    (
        "CPU per request, h1 × 32",
        "µs",
        "h1 cpu",
        Reading::Plain,
        Some(("bare hyper", Target::RatioAtMost(2.0))),
    ),
    (
        "CPU per request, h2 4 × 8",
        "µs",
        "h2 cpu",
        Reading::Plain,
        Some(("bare hyper", Target::RatioAtMost(2.0))),
    ),
    (
        "requests per second, h1 × 32",
        "1/s",
        "h1 rate",
        Reading::Plain,
        None,
    ),
    (
        "requests per second, h2 4 × 8",
        "1/s",
        "h2 rate",
        Reading::Plain,
        None,
    ),
    ("20 MB list", "GB/CPU-s", "list", Reading::Plain, None),
    (
        "CPU per connection: handshake and one request",
        "µs",
        "handshake",
        Reading::Plain,
        None,
    ),
];

fn rows(samples: &Samples, idle: f64, stream: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    for (metric, unit, cell, reading, promise) in LINES {
        let ours = read(samples, cell, GUARD, reading);
        for rival in RIVALS {
            let theirs = read(samples, cell, rival, reading);
            if theirs.is_empty() {
                continue;
            }
            let target = promise
                .filter(|(name, _)| *name == rival)
                .map_or(Target::None, |(_, target)| target);
            rows.push(Row::paired(metric, unit, &ours, (rival, &theirs), target));
        }
    }
    rows.push(Row::alone(
        "resident memory, idle",
        "MB",
        &[idle],
        Target::OursAtMost(30.0),
    ));
    rows.push(Row::alone(
        "memory peak added by a 200 MB list",
        "MB",
        &[stream],
        Target::OursAtMost(16.0),
    ));
    rows
}

fn read(samples: &Samples, cell: &'static str, name: &'static str, reading: Reading) -> Vec<f64> {
    let of = |name| samples.get(&(cell, name)).cloned().unwrap_or_default();
    match reading {
        Reading::Plain => of(name),
        Reading::Added => of(name)
            .iter()
            .zip(of("direct"))
            .map(|(proxied, direct)| proxied - direct)
            .collect(),
    }
}

fn guard_memory(subjects: &[Subject], field: &str) -> Result<f64> {
    memory_mb(guard_pid(subjects)?, field)
}

fn guard_pid(subjects: &[Subject]) -> Result<u32> {
    let guard = subjects
        .iter()
        .find(|subject| subject.name == GUARD)
        .context("no guard among the subjects")?;
    guard.pids().first().copied().context("the guard has no process")
}

/// Peak of resident memory while 200 MB stream through, over what was resident just before.
fn stream_memory(subjects: &mut [Subject]) -> Result<f64> {
    let pid = guard_pid(subjects)?;
    reset_peak(pid)?;
    let before = memory_mb(pid, "VmRSS")?;
    let guard = subjects
        .iter_mut()
        .find(|subject| subject.name == GUARD)
        .context("no guard among the subjects")?;
    guard.cell(Shape::Single { requests: 1 }, HUGE)?;
    Ok(memory_mb(pid, "VmHWM")? - before)
}
