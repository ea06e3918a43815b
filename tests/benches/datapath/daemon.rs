//! The daemon's side: how soon it knows the pods of a large node, and what an agent costs it in memory.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rig::bench::process::memory_mb;
use rig::bench::{Row, Target};
use rig::daemon::Guard;
use rig::node::{Families, Layout, NodeRig, Pause, PodSpec};
use serde_json::Value;

/// Pods of a large node, and agents among whom memory is divided.
const PODS: usize = 250;
const AGENTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

/// Starts a node, and daemons on it.
pub(crate) fn rows(repetitions: usize) -> Result<Vec<Row>> {
    let rig = NodeRig::start(Families::Dual)?;
    rig.cluster().create_namespace("bench")?;
    let mut rows = starts(&rig, repetitions)?;
    rows.push(memory(&rig)?);
    Ok(rows)
}

/// From the start of the process: the first on a node, and one that takes over what is pinned.
fn starts(rig: &NodeRig, repetitions: usize) -> Result<Vec<Row>> {
    let layout = Layout::ALL[0];
    let specs: Vec<PodSpec> = (0..PODS)
        .map(|number| PodSpec {
            layout,
            pause: Pause::LeftOut,
            ..PodSpec::new(rig, "bench", &format!("pod-{number}"))
        })
        .collect();
    let _pods = rig.run_pods(&specs)?;
    let is_known = |status: &Value| {
        status["synced"] == true && rows_of(status).filter(|row| row["class"] == "ordinary").count() == PODS
    };
    let (mut first, mut next) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let mut guard = Guard::prepare(rig, layout)?;
        for times in [&mut first, &mut next] {
            let begin = Instant::now();
            guard.restart()?;
            wait_until(&guard.file("state/status.sock"), is_known)?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            guard.kill()?;
        }
    }
    let target = Target::OursAtMost(1_000.0);
    Ok(vec![
        Row::alone(
            &format!("first start until {PODS} pods are classified"),
            "ms",
            &first,
            target,
        ),
        Row::alone(
            &format!("next start until {PODS} pods are classified"),
            "ms",
            &next,
            target,
        ),
    ])
}

/// What the process grows by when agents come, each with a listener, a record and a place in every table.
fn memory(rig: &NodeRig) -> Result<Row> {
    let layout = Layout::ALL[1];
    let guard = Guard::start(rig, layout)?;
    let pid = guard.id()?;
    let before = memory_mb(pid, "VmRSS")?;
    let specs: Vec<PodSpec> = (0..AGENTS)
        .map(|number| PodSpec {
            layout,
            labels: [("eks-guard.dev/agent".to_owned(), "shop".to_owned())].into(),
            ..PodSpec::new(rig, "bench", &format!("agent-{number}"))
        })
        .collect();
    let _pods = rig.run_pods(&specs)?;
    wait_until(&guard.file("state/status.sock"), |status| {
        rows_of(status).filter(|row| row["port"].is_u64()).count() == AGENTS
    })?;
    let grown = (memory_mb(pid, "VmRSS")? - before) * 1e3 / AGENTS as f64;
    Ok(Row::alone(
        "memory of the daemon for each agent",
        "KB",
        &[grown],
        Target::OursAtMost(20.0),
    ))
}

fn rows_of(status: &Value) -> impl Iterator<Item = &Value> {
    status["pods"].as_array().into_iter().flatten()
}

/// Asks the daemon itself, which takes less than a program that asks it.
fn wait_until(socket: &Path, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = status(socket)
            && is_so(&status)
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the daemon does not know its pods");
        thread::sleep(PAUSE);
    }
}

/// None while nobody listens.
fn status(socket: &Path) -> Option<Value> {
    let mut text = Vec::new();
    UnixStream::connect(socket).ok()?.read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).context("reading the status").ok()
}
