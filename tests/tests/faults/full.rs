//! Whatever has a limit, at its limit.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use eks_guard::ebpf::node::{Destination, NodeConfig, NodeLimits};
use eks_guard::ebpf::{NodeDatapath, NodeRequest};
use rig::command;
use rig::leash::Leashed;
use rig::node::{API, API_PORT, API_SERVICE, Families, IMDS, Layout, Profile};
use rig::{programs, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::guard::{Guard, row};
use crate::siege::{Siege, direct_packets, spec, start_hammer};

/// Maps with hardly any room, as if they had been filled: the daemon opens those that it finds.
fn make_small_maps(guard: &Guard<'_>, root: &Path) -> Result<()> {
    let config = NodeConfig {
        levels: (1..=8).collect(),
        ..NodeConfig::default()
    };
    let api = API.sockets(Families::Dual, API_PORT).into_iter();
    NodeDatapath::open(&NodeRequest {
        cgroup: root,
        pins: &guard.pins(),
        destinations: &api.map(Destination::Api).collect::<Vec<_>>(),
        config: &config,
        limits: NodeLimits {
            flows: 4,
            pods: 2,
            links: 1,
            prefixes: 128,
            ..NodeLimits::default()
        },
    })?;
    Ok(())
}

fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

#[test]
fn maps_that_are_full_refuse_and_say_so() -> Result<()> {
    let (layout, namespace) = (Layout::ALL[2], "full");
    let egress = "  egress: {mode: blockList}\n";
    let mut siege = Siege::lay_after(layout, namespace, egress, |guard| {
        let root = rig::node::shared()?.cgroups().join(layout.kubepods());
        make_small_maps(guard, &root)
    })?;
    let rig = siege.rig;

    // Flows: nobody takes them while daemon and proxy are stopped.
    let refused = flow_refusals(&siege.guard.status()?);
    siege.guard.signal(Signal::STOP)?;
    let holder = hold_connections(&siege)?;
    siege.holds("a full table of flows")?;
    siege.guard.signal(Signal::CONT)?;
    siege
        .guard
        .wait_until("flows without room are counted", |status| {
            flow_refusals(status) > refused
        })?;
    drop(holder);
    wait::until("there is room for flows again", || Ok(siege.works().is_ok()))?;

    // Destinations: an agent that might go anywhere goes nowhere that is not named.
    let config = siege.guard.file("node.yaml");
    let good = fs::read_to_string(&config)?;
    let clusters: Vec<String> = (0..200).map(|number| format!("10.200.{number}.0/24")).collect();
    fs::write(
        &config,
        format!("{good}  otherClusters: [{}]\n", clusters.join(", ")),
    )?;
    let uid = siege.agent.uid().to_owned();
    let mode = |status: &Value, mode: &str| row(status, &uid).is_some_and(|row| row["egress"] == mode);
    siege
        .guard
        .wait_until("that not all is closed is said", |status| {
            problems(status).contains("no room is left in the eBPF map api4") && mode(status, "allowList")
        })?;
    siege.holds("destinations without room")?;
    fs::write(&config, good)?;
    siege.guard.wait_until("all is closed again", |status| {
        status["problems"].as_array().is_some_and(Vec::is_empty) && mode(status, "blockList")
    })?;

    // Pods, and interfaces: the first agent has the only place there is for its cable.
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", None))?;
    siege.guard.wait_until("the last place is taken", |status| {
        row(status, ordinary.uid()).is_some_and(|row| row["class"] == "ordinary")
    })?;
    let late = rig.run_pod(&spec(rig, layout, namespace, "late", Some("shop")))?;
    siege
        .guard
        .wait_until("that an agent is not on record is said", |status| {
            problems(status).contains("no room is left in the eBPF map pods")
        })?;
    let before = direct_packets(rig, &late)?;
    let tries = start_hammer(rig, &late)?;
    hammers(&tries, "an agent that is not on record")?;
    ensure!(direct_packets(rig, &late)? == before, "a packet arrived");
    drop(ordinary);
    siege
        .guard
        .wait_until("there is room for the agent, and none for its cable", |status| {
            status["attached"] == false && problems(status).contains("no room is left in the eBPF map links")
        })?;
    hammers(&tries, "an agent whose cable is not on record")?;
    ensure!(direct_packets(rig, &late)? == before, "a packet arrived");
    siege.holds("maps that are full")?;
    wait::until("the first agent is served", || Ok(siege.works().is_ok()))
}

/// More connections of the agent than there is room for, open until the process is dropped.
fn hold_connections(siege: &Siege<'_>) -> Result<Leashed> {
    let api = API_SERVICE.sockets(Families::V4, API_PORT)[0];
    let script = format!(
        "for fd in {{10..17}}; do eval \"exec $fd<>/dev/tcp/{}/{}\"; done; echo held; exec sleep infinity",
        api.ip(),
        api.port()
    );
    let mut bash = siege.agent.command(Profile::Restricted, Path::new("/bin/bash"))?;
    bash.args(["-c", &script]);
    let log = siege.guard.file("holder.log");
    let holder = Leashed::start_command("holder", bash, &log)?;
    wait::until("connections wait", || {
        Ok(fs::read_to_string(&log)?.contains("held"))
    })?;
    Ok(holder)
}

/// Another agent's hammer goes on.
fn hammers(tries: &Leashed, what: &str) -> Result<()> {
    let rounds = || -> Result<usize> { Ok(fs::read_to_string(tries.log())?.lines().count()) };
    let first = rounds()?;
    wait::until(what, || Ok(rounds()? > first + 2))
}

fn flow_refusals(status: &Value) -> u64 {
    status["refusals"]["flow"].as_u64().unwrap_or(0)
}

#[test]
fn sockets_without_room_for_their_destination_are_refused() -> Result<()> {
    // Each has a filter of the size of all that memory, and the kernel does not translate any number of those.
    const EACH: usize = 50;
    let mut siege = Siege::lay(Layout::ALL[1], "sockets")?;
    let targets: Vec<String> = [API, API_SERVICE]
        .iter()
        .flat_map(|host| host.sockets(Families::Dual, API_PORT))
        .map(|socket| socket.to_string())
        .collect();
    let before = connects(&siege.guard.status()?);
    // Where the kernel translates no filters for just anybody, it takes a capability to fill up a socket.
    let mut hoard = siege
        .agent
        .command(Profile::Privileged, &programs::beside("hoard")?)?;
    hoard.arg(EACH.to_string()).args(&targets);
    let said = command::run(hoard)?.ok()?;
    let all = EACH * targets.len();
    ensure!(said == format!("refused {all} others 0\n"), "{said}");
    siege.holds("sockets without room")?;
    siege.guard.wait_until("each is counted", |status| {
        connects(status) - before == all as u64
    })?;
    siege.works()
}

#[test]
fn a_flood_of_refusals_hides_no_attempt_and_is_counted_exactly() -> Result<()> {
    // More than the ring buffer holds.
    const FLOOD: u64 = 5000;
    let mut siege = Siege::lay(Layout::ALL[1], "flood")?;
    let before = siege.guard.status()?;
    let target = IMDS.sockets(Families::V4, 80)[0];
    let script = format!(
        "for ((i = 0; i < {FLOOD}; i++)); do : 3<>/dev/tcp/{}/{}; done 2>/dev/null",
        target.ip(),
        target.port()
    );
    siege.guard.signal(Signal::STOP)?;
    let mut bash = siege.agent.command(Profile::Restricted, Path::new("/bin/bash"))?;
    bash.args(["-c", &script]);
    command::run(bash)?;
    siege.holds("a flood while the daemon is stopped")?;
    siege.guard.signal(Signal::CONT)?;
    let lost = |status: &Value| status["eventsLost"].as_u64().unwrap_or(0);
    let after = siege
        .guard
        .wait_until("lost events are counted", |status| lost(status) > lost(&before))?;
    ensure!(connects(&after) - connects(&before) == FLOOD, "{after:#}");
    siege.guard.recorded("that events were lost", |event| {
        event["lost"].is_u64()
            && event["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("came faster"))
    })?;

    // Frames go on, and each is seen: in the sum of all, and where events are read again.
    let attempts = |status: &Value| status["bypassAttempts"].as_u64().unwrap_or(0);
    ensure!(
        attempts(&after) > attempts(&before),
        "the attempts meanwhile are not counted"
    );
    let uid = siege.agent.uid().to_owned();
    let of_pod = move |status: &Value| {
        let row = row(status, &uid);
        row.and_then(|row| row["bypassAttempts"].as_u64()).unwrap_or(0)
    };
    let seen = of_pod(&after);
    siege
        .guard
        .wait_until("attempts are seen again", |status| of_pod(status) > seen)?;
    siege.holds("a flood that is over")?;
    siege.works()
}

/// connect() calls that the programs refused.
fn connects(status: &Value) -> u64 {
    status["refusals"]["connect"].as_u64().unwrap_or(0)
}
