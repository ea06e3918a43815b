//! The daemon tries its agents itself: what does not hold is in the status, the metrics, the node's condition and its taints, as
//! long as it does not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use rig::node::{Layout, NODE_NAME, NodeRig, shared};
use serde_json::Value;

use crate::guard::{Guard, row};
use crate::pods::{agent, container};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9473);

/// What monitoring reads.
fn ask(rig: &NodeRig, path: &str) -> Result<String> {
    let mut stream = rig
        .network()
        .node
        .connect(LISTEN, std::time::Duration::from_secs(60))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: metrics\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The node's condition and whether it is tainted.
fn told(rig: &NodeRig) -> Result<(String, bool)> {
    let node = rig.cluster().admin().get(&format!("/api/v1/nodes/{NODE_NAME}"))?;
    let conditions = node["status"]["conditions"]
        .as_array()
        .context("a node without conditions")?;
    ensure!(
        conditions.iter().any(|one| one["type"] == "Ready"),
        "the condition of others is gone: {node:#}"
    );
    let ours = conditions.iter().find(|one| one["type"] == "EksGuardEnforced");
    let status = ours.and_then(|one| one["status"].as_str()).unwrap_or("none");
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let mut ours = taints.filter(|taint| taint["key"] == "eks-guard.dev/not-enforced");
    Ok((
        status.to_owned(),
        ours.any(|taint| taint["effect"] == "NoSchedule"),
    ))
}

/// Whether the status, the metrics and the cluster agree on a pod.
fn agree(rig: &NodeRig, status: &Value, uid: &str, holds: Holds) -> bool {
    let (gauge, condition, tainted) = match holds {
        Holds::Yes => ("1", "True", false),
        Holds::No => ("0", "False", true),
    };
    let problems = row(status, uid).and_then(|row| row["verified"]["problems"].as_array());
    let line = format!("eks_guard_enforced{{namespace=\"watched\",pod=\"agent\"}} {gauge}\n");
    problems.is_some_and(|problems| problems.is_empty() != tainted)
        && ask(rig, "/metrics").is_ok_and(|text| text.contains(&line))
        && told(rig).is_ok_and(|told| told == (condition.to_owned(), tainted))
}

#[derive(Clone, Copy)]
enum Holds {
    Yes,
    No,
}

#[test]
fn what_does_not_hold_taints_the_node_until_it_holds_again() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[2], "watched");
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&agent(rig, layout, namespace, "agent"))?;
    let _main = container(rig, &pod)?;
    let more = format!("  verify: {{intervalSeconds: 5}}\n  metrics: {{listen: \"{LISTEN}\"}}\n");
    let mut guard = Guard::start_with(rig, layout, &more)?;
    guard.serve(&pod)?;
    let uid = pod.uid().to_owned();
    guard.wait_until("the agent holds", |status| agree(rig, status, &uid, Holds::Yes))?;
    ensure!(ask(rig, "/healthz")?.contains(" 200 "), "not healthy");
    ensure!(
        ask(rig, "/other")?.contains(" 404 "),
        "more is answered than there is"
    );

    // Nobody can be redirected to a listener on a loopback that is down.
    pod.netns().ip("link set lo down")?;
    guard.wait_until("the node is tainted", |status| {
        agree(rig, status, &uid, Holds::No)
    })?;
    let table = guard.ask(&["node", "status"])?.ok()?;
    ensure!(table.contains("FAILED"), "{table}");

    pod.netns().ip("link set lo up")?;
    guard.wait_until("the node is as it was", |status| {
        agree(rig, status, &uid, Holds::Yes)
    })?;
    let leftovers = std::fs::read_dir(pod.container_cgroup())?.filter_map(Result::ok);
    let leftovers = leftovers.filter(|entry| entry.file_name().to_string_lossy().starts_with("eks-guard"));
    // A trial may be under way; its cgroup is gone when it is over.
    ensure!(leftovers.count() <= 1, "cgroups of trials are left");
    Ok(())
}
