//! What stays closed when the daemon dies, when labels go, and when the sandbox is another.

use anyhow::{Result, ensure};
use rig::node::{Layout, shared};
use serde_json::json;

use crate::guard::{Guard, row};
use crate::reach::{direct_packets, spec, works};

#[test]
fn a_killed_daemon_leaves_agents_shut_out_and_the_next_one_takes_over() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[2], "killed");
    rig.cluster().create_namespace(namespace)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", false))?;
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&agent)?;
    works(&agent)?;

    // The label goes: an agent stays one.
    let path = format!("/api/v1/namespaces/{namespace}/pods/agent");
    let unlabelled = json!({"metadata": {"labels": {"eks-guard.dev/agent": null}}});
    rig.cluster().admin().merge(&path, &unlabelled)?;
    let before = direct_packets(rig, &agent.addresses())?;
    works(&agent)?;

    guard.kill()?;
    let refused = agent.kubectl(&["get", "--raw", "/version"])?;
    ensure!(
        refused.code != 0,
        "an agent without a guard was answered: {refused:?}"
    );
    ordinary.kubectl(&["get", "--raw", "/version"])?.ok()?;
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "a packet arrived"
    );

    // The next daemon has what the kernel and the disk kept; the pod has no label any more.
    guard.restart()?;
    guard.serve(&agent)?;
    works(&agent)?;
    let status = guard.status()?;
    ensure!(
        row(&status, agent.uid()).is_some_and(|row| row["class"] == "agent"),
        "{status:#}"
    );
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "a packet arrived"
    );
    Ok(())
}

#[test]
fn another_sandbox_gets_another_listener() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[3], "sandboxes");
    rig.cluster().create_namespace(namespace)?;
    let mut agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let mut guard = Guard::start(rig, layout)?;
    let first = guard.serve(&agent)?;
    works(&agent)?;
    agent.restart_container()?;
    works(&agent)?;
    agent.recreate_sandbox()?;
    let uid = agent.uid().to_owned();
    guard.wait_until("the listener has moved", |status| {
        row(status, &uid).is_some_and(|row| row["port"].as_u64().is_some_and(|port| port != first))
    })?;
    let before = direct_packets(rig, &agent.addresses())?;
    works(&agent)?;
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "a packet arrived"
    );

    // Agents run here: the guard stays.
    let running = guard.ask(&["node", "uninstall"])?;
    ensure!(
        running.code != 0 && running.stderr.contains("end it first"),
        "{running:?}"
    );
    guard.kill()?;
    let refused = guard.ask(&["node", "uninstall"])?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("agents run"),
        "{refused:?}"
    );
    let refused = agent.kubectl(&["get", "--raw", "/version"])?;
    ensure!(refused.code != 0, "the guard was taken off: {refused:?}");
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "a packet arrived"
    );
    Ok(())
}
