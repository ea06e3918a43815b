//! The pods' side: everything that is compared is measured in turns, each turn a small part, so that a machine that is slow
//! for a while is slow for all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya::sys::{Stats, enable_stats};
use rig::bench::{Row, Target};

use crate::programs::{self, Program, Runs};
use crate::worker::Worker;
use crate::world::{API, DATAGRAMS, PEER, SINK, Who, World};

/// Turns of a repetition, and what each pod does in one.
const TURNS: usize = 40;
const CONNECTIONS: usize = 100;
const PACKETS: usize = 2_000;
const STREAM: Duration = Duration::from_millis(200);
/// Connections of a burst, a repetition.
const BURST: usize = 20_000;
/// Runs of a program that a figure is made of, at least.
const RUNS: u64 = 100;

/// The verifier refuses to walk more than a million instructions, other kernels' walk other ways, and starts wait for it.
const WALKED: f64 = 50_000.0;
const BURST_RATE: f64 = 10_000.0;
const ACCEPT_PATIENCE: Duration = Duration::from_secs(60);

/// Samples by what was measured and whose they are.
type Samples = BTreeMap<(String, Who), Vec<f64>>;

/// Measures everything, `repetitions` times.
pub(crate) fn run(repetitions: usize) -> Result<Vec<Row>> {
    let world = World::create()?;
    let mut worker = world.worker()?;
    let mut samples = Samples::new();
    for _ in 0..repetitions * TURNS {
        for who in Who::ALL {
            world.turn_to(&worker, who)?;
            turn(who, &mut worker, &mut samples)?;
        }
    }
    let mut rows = compared(&samples);
    // The last turn was the agent's, and its interface is closed.
    let programs = programs::pinned_below(&world.pins)?;
    rows.extend(bursts(&world, &mut worker, repetitions)?);
    rows.extend(times(&world, &programs, &mut worker)?);
    for program in &programs {
        let size = program.size()?;
        for (what, count, target) in [
            ("", size.instructions, Target::None),
            (
                " that the verifier walks",
                size.verified,
                Target::OursAtMost(WALKED),
            ),
        ] {
            let metric = format!("instructions of {}{what}", program.name);
            rows.push(Row::alone(&metric, "", &[f64::from(count)], target));
        }
    }
    Ok(rows)
}

fn turn(who: Who, worker: &mut Worker, samples: &mut Samples) -> Result<()> {
    let mut keep = |what: &str, figure: f64| {
        samples.entry((what.to_owned(), who)).or_default().push(figure);
    };
    for (family, number) in [("IPv4", 0), ("IPv6", 1)] {
        let (connect, whole) = worker.connections(PEER[number].parse()?, CONNECTIONS)?;
        keep(&format!("connect() {family}"), connect);
        keep(&format!("connection {family}"), whole);
        let (connect, whole) = worker.connections(API[number].parse()?, CONNECTIONS)?;
        keep(&format!("connect() to the API server {family}"), connect);
        keep(&format!("connection to the API server {family}"), whole);
    }
    keep("datagram", worker.datagrams(DATAGRAMS.parse()?, PACKETS)?);
    keep("stream", worker.stream(SINK.parse()?, STREAM)? / 1e6);
    Ok(())
}

fn compared(samples: &Samples) -> Vec<Row> {
    let of = |what: &str, who| samples.get(&(what.to_owned(), who)).cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for family in ["IPv4", "IPv6"] {
        for (who, name, limit) in [
            (Who::Ordinary, "an ordinary pod", 1_000.0),
            (Who::Agent, "an agent, not redirected", 2_000.0),
        ] {
            for (what, target) in [
                ("connect()", Target::OursAtMost(limit)),
                ("connection", Target::None),
            ] {
                let what = format!("{what} {family}");
                let (ours, bare) = (of(&what, who), of(&what, Who::Bare));
                rows.push(Row::added(
                    &format!("added to a {what}, {name}"),
                    "ns",
                    &ours,
                    ("no guard", &bare),
                    target,
                ));
            }
        }
        let what = format!("connect() to the API server {family}");
        let (ours, bare) = (of(&what, Who::Agent), of(&what, Who::Bare));
        rows.push(Row::paired(
            &format!("redirected connect() {family}"),
            "ns",
            &ours,
            ("no guard, not redirected", &bare),
            Target::None,
        ));
    }
    for (who, name) in [(Who::Ordinary, "an ordinary pod"), (Who::Agent, "an agent")] {
        rows.push(Row::added(
            &format!("added to a datagram, {name}"),
            "ns",
            &of("datagram", who),
            ("no guard", &of("datagram", Who::Bare)),
            Target::None,
        ));
    }
    for (who, name, target) in [
        (Who::Ordinary, "an ordinary pod", Target::RatioAtLeast(0.99)),
        (Who::Agent, "an agent", Target::None),
    ] {
        rows.push(Row::paired(
            &format!("throughput of a TCP stream, {name}"),
            "MB/s",
            &of("stream", who),
            ("no guard", &of("stream", Who::Bare)),
            target,
        ));
    }
    rows
}

/// Connections as fast as they come: each must find its flow entry.
fn bursts(world: &World, agent: &mut Worker, repetitions: usize) -> Result<Vec<Row>> {
    let api: SocketAddr = API[0].parse()?;
    let counters = || {
        (
            world.accepted.load(Ordering::SeqCst),
            world.taken.load(Ordering::SeqCst),
        )
    };
    let (mut fastest, mut lost) = (0.0_f64, 0);
    for _ in 0..repetitions {
        let (accepted, taken) = counters();
        fastest = fastest.max(agent.burst(api, BURST)?);
        let deadline = Instant::now() + ACCEPT_PATIENCE;
        while counters().0 < accepted + BURST {
            ensure!(Instant::now() < deadline, "connections were not accepted");
            std::thread::yield_now();
        }
        lost += BURST - (counters().1 - taken);
    }
    let written = world.datapath.stats()?;
    ensure!(written.failed() == 0, "the programs failed: {written:?}");
    Ok(vec![
        Row::alone(
            "redirected connections per second, fastest repetition",
            "1/s",
            &[fastest],
            Target::OursAtLeast(BURST_RATE),
        ),
        Row::alone(
            "flow entries lost meanwhile",
            "",
            &[lost as f64],
            Target::OursAtMost(0.0),
        ),
    ])
}

/// What each program takes of the time of each pod.
fn times(world: &World, programs: &[Program], worker: &mut Worker) -> Result<Vec<Row>> {
    let _counted = enable_stats(Stats::RunTime)?;
    let mut rows = Vec::new();
    for (who, name, addresses) in [
        (Who::Ordinary, "an ordinary pod", PEER),
        (Who::Agent, "an agent, not redirected", PEER),
        (Who::Agent, "an agent, redirected", API),
    ] {
        world.turn_to(worker, who)?;
        let before = programs
            .iter()
            .map(Program::runs)
            .collect::<Result<Vec<Runs>>>()?;
        for address in addresses {
            worker.connections(address.parse()?, CONNECTIONS * TURNS)?;
        }
        for (program, before) in programs.iter().zip(before) {
            if let Some((time, count)) = program.runs()?.since(before)
                && count >= RUNS
            {
                let each = count as f64 / (CONNECTIONS * TURNS * addresses.len()) as f64;
                let metric = format!("{} of {name}, {each:.1} times a connection", program.name);
                rows.push(Row::alone(&metric, "ns", &[time], Target::None));
            }
        }
    }
    Ok(rows)
}
