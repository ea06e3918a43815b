//! The daemon's side: how soon it knows the pods of a large node, and what an agent costs it in memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rig::bench::process::{Program, memory_mb};
use rig::bench::{Row, Target};
use rig::daemon::Guard;
use rig::node::{API_SERVICE, Families, Layout, NodeRig, Pause, PodSpec};
use serde_json::Value;

use crate::worker::Worker;

/// Pods of a large node, and the agents on one that has nothing else.
const PODS: usize = 250;
const AGENTS: usize = PODS;
/// Connections of a repetition.
const KNOCKS: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

/// Starts a node, and daemons on it.
pub(crate) fn rows(repetitions: usize) -> Result<Vec<Row>> {
    let rig = NodeRig::start(Families::Dual)?;
    rig.cluster().create_namespace("bench")?;
    let mut rows = starts(&rig, repetitions)?;
    rows.extend(memory(&rig)?);
    rows.extend(knocks(&rig, repetitions)?);
    Ok(rows)
}

/// Connections through both processes of the daemon, up to where TLS would begin: each is accepted, its flow is taken, its caller
/// looked up, and its end recorded.
fn knocks(rig: &NodeRig, repetitions: usize) -> Result<Vec<Row>> {
    let layout = Layout::ALL[1];
    let mut guard = Guard::start(rig, layout)?;
    let pod = rig.run_pod(&PodSpec {
        layout,
        labels: agent(),
        ..PodSpec::new(rig, "bench", "knocks")
    })?;
    guard.serve(&pod)?;
    let status = guard.status()?;
    let pid = |name: &str| -> Result<u32> {
        Ok(u32::try_from(
            status[name].as_u64().context("a process is missing")?,
        )?)
    };
    let (loader, proxy) = (pid("loader")?, pid("proxy")?);
    let mut worker = Worker::start(&pod.container_cgroup(), &pod.netns().path())?;
    let server = SocketAddr::new(API_SERVICE.v4.into(), 443);
    let (mut rates, mut costs) = (Vec::new(), [const { Vec::new() }; 2]);
    for _ in 0..repetitions {
        let spent = || [loader, proxy].map(|pid| Program::cpu(&[pid]));
        let before = spent();
        rates.push(worker.knocks(server, KNOCKS)?);
        for ((cost, before), after) in costs.iter_mut().zip(before).zip(spent()) {
            cost.push((after - before).as_secs_f64() * 1e6 / KNOCKS as f64);
        }
    }
    let lost = guard.records()?;
    let lost = lost.iter().filter(|event| event["reason"] == "NoFlow").count();
    let mut rows = vec![
        Row::alone(
            "connections through the daemon per second, before TLS",
            "1/s",
            &rates,
            Target::None,
        ),
        Row::alone(
            "of them without a flow",
            "",
            &[lost as f64],
            Target::OursAtMost(0.0),
        ),
    ];
    for (who, cost) in ["loader", "proxy"].iter().zip(&costs) {
        let metric = format!("CPU of the {who} for each");
        rows.push(Row::alone(&metric, "µs", cost, Target::None));
    }
    Ok(rows)
}

fn agent() -> BTreeMap<String, String> {
    [("eks-guard.dev/agent".to_owned(), "shop".to_owned())].into()
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

/// What loader and proxy grow by when agents come, each with a listener, a record and a place in every table; and what is more
/// when each has just connected, so that all records are being written.
fn memory(rig: &NodeRig) -> Result<[Row; 2]> {
    let layout = Layout::ALL[1];
    let guard = Guard::start(rig, layout)?;
    let status = guard.status()?;
    let processes = [&status["loader"], &status["proxy"]].map(Value::as_u64);
    let resident = || -> Result<f64> {
        let each = processes.iter().map(|pid| {
            let pid = pid.context("a process is missing")?;
            memory_mb(u32::try_from(pid)?, "VmRSS")
        });
        each.sum()
    };
    let before = resident()?;
    let specs: Vec<PodSpec> = (0..AGENTS)
        .map(|number| PodSpec {
            layout,
            labels: agent(),
            ..PodSpec::new(rig, "bench", &format!("agent-{number}"))
        })
        .collect();
    let pods = rig.run_pods(&specs)?;
    wait_until(&guard.file("state/status.sock"), |status| {
        rows_of(status).filter(|row| row["port"].is_u64()).count() == AGENTS
    })?;
    let grown = || -> Result<f64> { Ok((resident()? - before) * 1e3 / AGENTS as f64) };
    let idle = grown()?;
    let server = SocketAddr::new(API_SERVICE.v4.into(), 443);
    for pod in &pods {
        Worker::start(&pod.container_cgroup(), &pod.netns().path())?.knocks(server, 1)?;
    }
    let metric = "memory of the daemon for each agent";
    Ok([
        Row::alone(metric, "KB", &[idle], Target::OursAtMost(20.0)),
        Row::alone(
            &format!("{metric}, when each has just connected"),
            "KB",
            &[grown()?],
            Target::None,
        ),
    ])
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
