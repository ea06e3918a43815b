//! Processes whose first act is a connect() to the API server, each in a cgroup that was made for it a moment before: none is
//! faster than the guard.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Result, ensure};
use rig::node::{API_PORT, API_SERVICE, Families, Layout, NodeRig, Pod, Qos, shared};
use rig::place::Place;
use rig::{leash, programs};

use crate::guard::{Guard, row};
use crate::reach::{direct_packets, spec, works};

/// Processes of a kind, and how many of them run at the same time.
const PROCESSES: usize = 1_000;
const AT_ONCE: usize = 25;
/// Pods that come while the daemon looks.
const PODS: usize = 40;

/// What became of a connect().
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// A connection, and no packet of it came to the API server: the guard has it.
    Redirected,
    Refused,
    /// Neither a connection nor `ECONNREFUSED`.
    Failed,
    /// Packets came to the API server, or may have.
    Reached,
}

type Histogram = BTreeMap<Outcome, usize>;

#[test]
fn a_thousand_first_connects_of_fresh_cgroups_never_reach() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[2], "first");
    rig.cluster().create_namespace(namespace)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let stranger = rig.run_pod(&spec(rig, layout, namespace, "stranger", false))?;
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&agent)?;

    let nested = |number| agent.container_cgroup().join(format!("deeper/child-{number}"));
    let of_agent = histogram(rig, &agent, nested)?;
    println!("first connects in fresh cgroups below an agent's pod: {of_agent:?}");
    ensure!(
        of_agent == Histogram::from([(Outcome::Redirected, PROCESSES)]),
        "{of_agent:?}"
    );

    // Nobody has told of these pods. The network is that of one that may reach the API server.
    let fresh = |number: usize| {
        let uid = format!("0d9c1f0e-7a51-4c52-8a0e-{number:012x}");
        rig.cgroups().join(layout.pod(Qos::ALL[number % 3], &uid))
    };
    let of_unknown = histogram(rig, &stranger, fresh)?;
    println!("first connects in fresh cgroups of pods that are not classified: {of_unknown:?}");
    ensure!(
        of_unknown == Histogram::from([(Outcome::Refused, PROCESSES)]),
        "{of_unknown:?}"
    );

    // Both are as they were: the one is guarded, the other is not.
    works(&agent)?;
    stranger.kubectl(&["get", "--raw", "/version"])?.ok().map(drop)
}

#[test]
fn pods_that_come_are_refused_until_they_are_redirected() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[1], "coming");
    rig.cluster().create_namespace(namespace)?;
    let mut guard = Guard::start(rig, layout)?;
    let (mut seen, mut pods) = (Histogram::new(), Vec::new());
    for number in 0..PODS {
        let pod = rig.run_pod(&spec(rig, layout, namespace, &format!("agent-{number}"), true))?;
        // Classified or not, with a listener or without: it is all the same.
        *seen
            .entry(dial(rig, &pod, &[pod.container_cgroup()])?[0])
            .or_default() += 1;
        pods.push(pod);
    }
    println!("first connects of agents that the daemon is just told of: {seen:?}");
    ensure!(
        !seen.contains_key(&Outcome::Reached) && !seen.contains_key(&Outcome::Failed),
        "{seen:?}"
    );
    // What was refused for a while is not refused for good.
    for pod in &pods {
        guard.wait_until("every agent has a listener", |status| {
            row(status, pod.uid()).is_some_and(|row| row["port"].is_u64())
        })?;
        let later = dial(rig, pod, &[pod.container_cgroup()])?;
        ensure!(later == [Outcome::Redirected], "{later:?}");
    }
    Ok(())
}

/// Makes the cgroups, and in each a process in the pod's network.
fn histogram(rig: &NodeRig, pod: &Pod<'_>, cgroup: impl Fn(usize) -> PathBuf) -> Result<Histogram> {
    let mut histogram = Histogram::new();
    let numbers: Vec<usize> = (0..PROCESSES).collect();
    for some in numbers.chunks(AT_ONCE) {
        let cgroups: Vec<PathBuf> = some.iter().map(|number| cgroup(*number)).collect();
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup)?;
        }
        for outcome in dial(rig, pod, &cgroups)? {
            *histogram.entry(outcome).or_default() += 1;
        }
        for cgroup in &cgroups {
            fs::remove_dir(cgroup)?;
        }
    }
    Ok(histogram)
}

/// A process in each cgroup, all at the same time.
fn dial(rig: &NodeRig, pod: &Pod<'_>, cgroups: &[PathBuf]) -> Result<Vec<Outcome>> {
    let addresses: Vec<IpAddr> = pod.addresses();
    let before = direct_packets(rig, &addresses)?;
    let program = programs::beside("dial")?;
    let mut children = Vec::new();
    for (number, cgroup) in cgroups.iter().enumerate() {
        let targets = API_SERVICE.sockets(Families::Dual, API_PORT);
        let place = Place {
            cgroup: Some(cgroup.clone()),
            netns: Some(pod.netns().path()),
            ..Place::default()
        };
        let mut command = leash::hold_in(&place, &program)?;
        command
            .arg(targets[number % targets.len()].to_string())
            .stdin(Stdio::null());
        children.push(leash::spawn(command)?);
    }
    let mut outcomes = Vec::new();
    for mut child in children {
        outcomes.push(match child.wait()?.code() {
            Some(0) => Outcome::Redirected,
            Some(1) => Outcome::Refused,
            _ => Outcome::Failed,
        });
    }
    if direct_packets(rig, &addresses)? != before {
        // Whose they were is not known.
        outcomes.fill(Outcome::Reached);
    }
    Ok(outcomes)
}
