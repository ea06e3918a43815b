//! Which network is a pod's sandbox: its processes may be elsewhere, and what they have left behind still sends.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rig::daemon::{Guard, row};
use rig::leash::Leashed;
use rig::node::{API, API_PORT, Families, Layout, Pause, PodSpec, Profile, shared};
use rig::{programs, wait};

use crate::reach::{direct_packets, spec};

/// The first process of the pod makes itself another network, with a loopback. A child stays, and waits to be let loose.
const HIDE: &str = r#"
(while [ ! -e "$1" ]; do sleep 0.1; done; shift; exec "$@") &
exec unshare --user --map-root-user --net sh -c 'ip link set lo up && exec sleep infinity'
"#;

#[test]
fn a_pod_whose_first_process_is_elsewhere_keeps_its_cable_closed() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[1], "elsewhere");
    rig.cluster().create_namespace(namespace)?;
    // Some runtimes have no process of their own in a sandbox.
    let agent = rig.run_pod(&PodSpec {
        pause: Pause::LeftOut,
        ..spec(rig, layout, namespace, "agent", true)
    })?;
    let mut guard = Guard::start(rig, layout)?;
    let go = guard.file("go");
    let mut hide = agent.command(Profile::Default, Path::new("/bin/sh"))?;
    hide.args(["-c", HIDE, "sh"])
        .arg(&go)
        .arg(programs::beside("hammer")?);
    hide.arg(agent.sandbox().context("no network of its own")?.gateway()?);
    let targets = API.sockets(Families::Dual, API_PORT);
    hide.args(targets.iter().map(ToString::to_string));
    let log = rig.cluster().folder().join(format!("hide-{}.log", agent.uid()));
    let _hidden = Leashed::start_command("hide", hide, &log)?;

    let status = guard.wait_until("the guard has looked at the pod", |status| {
        row(status, agent.uid()).is_some_and(|row| row["port"].is_u64())
    })?;
    let wires = row(&status, agent.uid()).and_then(|row| row["interfaces"].as_array());
    ensure!(
        wires.is_some_and(|wires| wires.len() == 1),
        "the agent's cable is open: {status:#}"
    );
    fs::write(&go, "")?;
    wait::until("the hammer hammers", || {
        let said = fs::read_to_string(&log)?;
        Ok(said.lines().filter(|line| line.starts_with("round ")).count() > 2)
    })?;
    let arrived = direct_packets(rig, &agent.addresses())?;
    ensure!(arrived == 0, "{arrived} packets of the agent's own arrived");
    Ok(())
}
