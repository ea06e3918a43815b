//! The proxy is a process of its own that may do next to nothing: what it lacks, and what its death and its loader's open.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::node::{Layout, NodeRig, Pod, shared};
use rig::wait;
use serde_json::Value;

use crate::guard::{Guard, READ_PODS, row};
use crate::reach::{direct_packets, spec, works};

/// A process id out of a status.
fn pid(status: &Value, which: &str) -> Result<i32> {
    let pid = status[which]
        .as_i64()
        .with_context(|| format!("no {which}: {status:#}"))?;
    Ok(i32::try_from(pid)?)
}

/// Waits until a proxy is there, and which one.
fn proxy_of(guard: &mut Guard<'_>) -> Result<i32> {
    let status = guard.wait_until("there is a proxy", |status| status["proxy"].is_u64())?;
    pid(&status, "proxy")
}

/// The status in which another proxy than `gone` serves the agent.
fn next_proxy(guard: &mut Guard<'_>, agent: &Pod<'_>, gone: i32) -> Result<Value> {
    let is_next = |status: &Value| status["proxy"].as_i64().is_some_and(|pid| pid != i64::from(gone));
    guard.wait_until("another proxy serves the agent", |status| {
        is_next(status) && row(status, agent.uid()).is_some_and(|row| row["port"].is_u64())
    })
}

/// An agent in a namespace of its own, and the guard that serves it.
fn served<'rig>(rig: &'rig NodeRig, layout: Layout, namespace: &str) -> Result<(Pod<'rig>, Guard<'rig>)> {
    rig.cluster().create_namespace(namespace)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&agent)?;
    Ok((agent, guard))
}

fn of(pid: i32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

/// `/proc/PID/status` as names and values.
fn facts(pid: i32) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(of(pid, "status"))?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect())
}

fn is_gone(pid: i32) -> Result<()> {
    wait::until(&format!("the end of process {pid}"), || {
        // One that is dead and not collected has no memory, and no open file.
        Ok(facts(pid).map_or(true, |facts| facts["State"].starts_with('Z')))
    })
}

#[test]
fn the_proxy_has_no_power_and_sees_no_file() -> Result<()> {
    let (agent, mut guard) = served(shared()?, Layout::ALL[0], "powerless")?;
    works(&agent)?;
    let proxy = proxy_of(&mut guard)?;
    let facts = facts(proxy)?;
    let user = ["980443"; 4].join("\t");
    for (name, expected) in [
        ("Uid", user.as_str()),
        ("Gid", user.as_str()),
        ("Groups", ""),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        ensure!(facts[name] == expected, "{name}: {} in {facts:#?}", facts[name]);
    }
    // Alone in a PID namespace, where it is the first.
    ensure!(facts["NSpid"].ends_with("\t1"), "{facts:#?}");

    // One mount, empty and read-only, for root too.
    let mounts = fs::read_to_string(of(proxy, "mountinfo"))?;
    ensure!(
        mounts.lines().count() == 1 && mounts.contains(" / / ro,") && mounts.contains(" tmpfs "),
        "{mounts}"
    );
    ensure!(
        fs::read_dir(of(proxy, "root"))?.count() == 0,
        "the proxy sees files"
    );
    let written = fs::create_dir(of(proxy, "root/written")).expect_err("a folder was made");
    ensure!(written.kind() == ErrorKind::ReadOnlyFilesystem, "{written}");

    // What it holds: sockets, what its runtime waits with, and the streams of its log lines. No map, no file.
    for entry in fs::read_dir(of(proxy, "fd"))? {
        let entry = entry?;
        let Ok(to) = fs::read_link(entry.path()) else {
            continue;
        };
        let to = to.display().to_string();
        let is_stream = ["1", "2"].contains(&entry.file_name().to_string_lossy().as_ref());
        let waits = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]"].contains(&to.as_str());
        ensure!(
            is_stream || waits || to.starts_with("socket:"),
            "descriptor {entry:?} is {to}"
        );
    }
    // The loader has what the proxy has not.
    let loader = pid(&guard.status()?, "loader")?;
    let held = fs::read_dir(of(loader, "fd"))?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    ensure!(
        held.into_iter()
            .any(|to| to.display().to_string() == "anon_inode:bpf-map")
    );
    Ok(())
}

#[test]
fn a_killed_proxy_leaves_agents_refused_until_the_next_one() -> Result<()> {
    let rig = shared()?;
    let (agent, mut guard) = served(rig, Layout::ALL[1], "proxies")?;
    works(&agent)?;
    let before = direct_packets(rig, &agent.addresses())?;
    let first = proxy_of(&mut guard)?;
    let loader = pid(&guard.status()?, "loader")?;

    // The loader is held, so that nobody starts the next one while it is looked.
    kill(Pid::from_raw(loader), Signal::SIGSTOP)?;
    kill(Pid::from_raw(first), Signal::SIGKILL)?;
    is_gone(first)?;
    let refused = agent.kubectl(&["get", "--raw", "/version"]);
    kill(Pid::from_raw(loader), Signal::SIGCONT)?;
    let refused = refused?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("refused"),
        "an agent without a proxy was answered: {refused:?}"
    );

    let status = next_proxy(&mut guard, &agent, first)?;
    ensure!(
        status["proxyRestarts"] == 1 && pid(&status, "loader")? == loader,
        "{status:#}"
    );
    works(&agent)?;
    // The record goes on, and says where something may be missing.
    guard.recorded("the gap", |event| {
        event["stage"] == "gap" && event["pod"]["uid"] == agent.uid()
    })?;
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "a packet arrived"
    );
    Ok(())
}

#[test]
fn a_killed_loader_takes_its_proxy_along() -> Result<()> {
    let rig = shared()?;
    let (agent, mut guard) = served(rig, Layout::ALL[2], "loaders")?;
    works(&agent)?;
    let before = direct_packets(rig, &agent.addresses())?;
    let proxy = proxy_of(&mut guard)?;
    let loader = pid(&guard.status()?, "loader")?;
    kill(Pid::from_raw(loader), Signal::SIGKILL)?;
    is_gone(proxy)?;
    let refused = agent.kubectl(&["get", "--raw", "/version"])?;
    ensure!(
        refused.code != 0,
        "an agent without a guard was answered: {refused:?}"
    );
    guard.kill()?;
    guard.restart()?;
    guard.serve(&agent)?;
    works(&agent)?;
    ensure!(proxy_of(&mut guard)? != proxy);
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "a packet arrived"
    );
    Ok(())
}

#[test]
fn policies_reach_the_proxy_that_runs_and_the_next_one() -> Result<()> {
    let (rig, namespace) = (shared()?, "reloaded");
    let (agent, mut guard) = served(rig, Layout::ALL[3], namespace)?;
    let configmaps = ["get", "configmaps", "-n", namespace, "-o", "name"];
    let mark = rig.cluster().audit().mark()?;
    agent.kubectl(&configmaps)?.expect_failure("no rule allows it")?;
    ensure!(
        !rig.cluster()
            .audit()
            .since(mark)?
            .iter()
            .any(|event| event.request_uri.contains("configmaps")),
        "a refused call arrived"
    );
    fs::write(
        guard.file("policies/read.yaml"),
        READ_PODS.replace("resources: [pods]", "resources: [pods, configmaps]"),
    )?;
    guard.wait_until("the policies are in force", |status| {
        status["policyGeneration"] == 2
    })?;
    agent.kubectl(&configmaps)?.ok()?;
    let proxy = proxy_of(&mut guard)?;
    kill(Pid::from_raw(proxy), Signal::SIGKILL)?;
    next_proxy(&mut guard, &agent, proxy)?;
    agent.kubectl(&configmaps)?.ok()?;
    Ok(())
}
