//! The daemon tries its agents itself, or a command beside it does: what does not hold is in the status, the metrics, the node's
//! condition and its taints, as long as it does not. There is one Node object, so these tests share a layout and take turns.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use rig::leash::Leashed;
use rig::node::{Layout, NODE_NAME, NodeRig, Pod, shared};
use rig::wait;
use rustix::process::Signal;
use serde_json::Value;

use crate::displaced;
use crate::guard::{Guard, row};
use crate::pods::{agent, container};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9473);
const LAYOUT: Layout = Layout::ALL[2];

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

/// What the cluster was told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: String,
    reason: String,
    message: String,
    /// The value of the taint.
    taint: Option<String>,
}

/// The node's condition and taint.
fn told(rig: &NodeRig) -> Result<Told> {
    let node = rig.cluster().admin().get(&format!("/api/v1/nodes/{NODE_NAME}"))?;
    let conditions = node["status"]["conditions"]
        .as_array()
        .context("a node without conditions")?;
    ensure!(
        conditions.iter().any(|one| one["type"] == "Ready"),
        "the condition of others is gone: {node:#}"
    );
    let ours = conditions.iter().find(|one| one["type"] == "EksGuardEnforced");
    let field = |name: &str| {
        ours.and_then(|one| one[name].as_str())
            .unwrap_or("none")
            .to_owned()
    };
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let ours = taints.filter(|taint| taint["key"] == "eks-guard.dev/not-enforced");
    let mut values = ours
        .filter(|taint| taint["effect"] == "NoSchedule")
        .filter_map(|taint| taint["value"].as_str());
    Ok(Told {
        status: field("status"),
        reason: field("reason"),
        message: field("message"),
        taint: values.next().map(str::to_owned),
    })
}

/// Whether the cluster was told that the node holds, or why it does not.
fn is_told(rig: &NodeRig, expected: Option<&str>) -> bool {
    told(rig).is_ok_and(|told| match expected {
        None => told.status == "True" && told.taint.is_none(),
        Some(reason) => told.status == "False" && told.taint.as_deref() == Some(reason),
    })
}

/// Whether the status, the metrics and the cluster agree on a pod.
fn agree(rig: &NodeRig, status: &Value, uid: &str, holds: Holds) -> bool {
    let (gauge, reason) = match holds {
        Holds::Yes => ("1", None),
        Holds::No => ("0", Some("RouteOpen")),
    };
    let problems = row(status, uid).and_then(|row| row["verified"]["problems"].as_array());
    let line = format!("eks_guard_enforced{{namespace=\"watched\",pod=\"agent\"}} {gauge}\n");
    problems.is_some_and(|problems| problems.is_empty() == reason.is_none())
        && ask(rig, "/metrics").is_ok_and(|text| text.contains(&line))
        && is_told(rig, reason)
}

#[derive(Clone, Copy)]
enum Holds {
    Yes,
    No,
}

#[test]
fn what_does_not_hold_taints_the_node_until_it_holds_again() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, LAYOUT, "watched");
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&agent(rig, layout, namespace, "agent"))?;
    let _main = container(rig, &pod)?;
    let more = format!("  verify: {{intervalSeconds: 5}}\n  metrics: {{listen: \"{LISTEN}\"}}\n");
    let mut guard = Guard::start_with(rig, layout, &more)?;
    guard.serve(&pod)?;
    let uid = pod.uid().to_owned();
    guard.wait_until("the agent holds", |status| agree(rig, status, &uid, Holds::Yes))?;
    ensure!(ask(rig, "/healthz")?.contains(" 200 "), "not healthy");
    what_agents_do_is_counted(rig, &mut guard, &pod)?;
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

/// What goes through the proxy process, and what the kernel refuses, in the metrics of the loader.
fn what_agents_do_is_counted(rig: &NodeRig, guard: &mut Guard<'_>, pod: &Pod<'_>) -> Result<()> {
    let namespace = &pod.spec().namespace;
    pod.kubectl(&["get", "pods", "-n", namespace])?.ok()?;
    let refused = pod.kubectl(&["get", "configmaps", "-n", namespace])?;
    ensure!(refused.code != 0, "{refused:?}");
    let counted = |page: &str, name: &str| {
        let mut values = page.lines().filter_map(|line| {
            line.strip_prefix("eks_guard_")?
                .strip_prefix(name)?
                .strip_prefix(' ')
        });
        values.next().is_some_and(|value| value != "0")
    };
    let expected = [
        "requests_total{verb=\"list\",decision=\"allow\"}".to_owned(),
        "requests_total{verb=\"list\",decision=\"refuse\"}".to_owned(),
        "refusals_total{reason=\"NoRuleAllows\"}".to_owned(),
        "connections_total{outcome=\"Served\"}".to_owned(),
        "redirected_total".to_owned(),
        "flows_total".to_owned(),
        "proxy_up".to_owned(),
        // What the trials were refused.
        "kernel_refusals_total{hook=\"connect\"}".to_owned(),
        format!("pod_refusals_total{{namespace=\"{namespace}\",pod=\"agent\"}}"),
    ];
    guard.wait_until("everything is counted", |_| {
        ask(rig, "/metrics").is_ok_and(|page| expected.iter().all(|name| counted(&page, name)))
    })?;
    Ok(())
}

#[test]
fn a_lost_layer_taints_the_node_and_says_which() -> Result<()> {
    let (rig, namespace) = (shared()?, "lost");
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&agent(rig, LAYOUT, namespace, "agent"))?;
    let _main = container(rig, &pod)?;
    let mut guard = Guard::start_with(rig, LAYOUT, "  verify: {intervalSeconds: 5}\n")?;
    guard.serve(&pod)?;
    guard.wait_until("the node holds", |_| is_told(rig, None))?;

    let root = rig.cgroups().join(LAYOUT.kubepods());
    let out = displaced::programs(&guard, &root, &["connect4", "connect6"])?;
    guard.wait_until("the node is tainted", |_| is_told(rig, Some("LayerLost")))?;
    // The packet filter of the cgroup holds, and the daemon goes on to try.
    let status = guard.wait_until("the agent is tried without the layer", |status| {
        let problems = row(status, pod.uid()).map(|row| row["verified"]["problems"].to_string());
        problems.is_some_and(|problems| problems.contains("was redirected"))
    })?;
    let row = row(&status, pod.uid()).context("no row of the agent")?;
    ensure!(
        !row["verified"]["problems"].to_string().contains("reached"),
        "{row:#}"
    );
    let told_now = told(rig)?;
    ensure!(told_now.message.contains("program connect4"), "{told_now:?}");

    // Whoever asks gets an answer, whatever became of the file.
    let whole = fs::read_to_string(guard.file("node.yaml"))?;
    fs::write(guard.file("node.yaml"), format!("{whole}  noSuchThing: 1\n"))?;
    let asked = guard.ask(&["node", "status"])?;
    ensure!(
        asked.code == 0 && asked.stderr.contains("noSuchThing"),
        "{asked:?}"
    );
    ensure!(asked.stdout.contains("program connect4"), "{asked:?}");
    fs::write(guard.file("node.yaml"), whole)?;

    // A command beside this daemon tells the cluster nothing.
    let words = ["verify", "--node", "--watch", "--interval", "5", "-o", "json"];
    let _command = guard.start_on_the_node(&words, "watch.log")?;
    wait::until("the command knows whose node it is", || {
        Ok(rounds(&guard)?.iter().any(|round| round["toldBy"] == "daemon"))
    })?;

    drop(out);
    guard.wait_until("the node is as it was", |_| is_told(rig, None))?;
    Ok(())
}

/// What a command has shown so far, without what it said to a person.
fn rounds(guard: &Guard<'_>) -> Result<Vec<Value>> {
    let text = fs::read_to_string(guard.file("watch.log"))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn a_command_watches_the_node_where_its_daemon_does_not() -> Result<()> {
    let (rig, namespace) = (shared()?, "commanded");
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&agent(rig, LAYOUT, namespace, "agent"))?;
    let _main = container(rig, &pod)?;
    let mut guard = Guard::start(rig, LAYOUT)?;
    guard.serve(&pod)?;
    let listen = LISTEN.to_string();
    let words = [
        "verify",
        "--node",
        "--watch",
        "--interval",
        "5",
        "--listen",
        &listen,
        "-o",
        "json",
    ];
    let mut command = guard.start_on_the_node(&words, "watch.log")?;
    let gauge =
        |value: u32| format!("eks_guard_enforced{{namespace=\"{namespace}\",pod=\"agent\"}} {value}\n");
    let says = |enforced: &str, reason: Option<&str>, value: u32| {
        let shown = rounds(&guard)?
            .last()
            .is_some_and(|round| round["enforced"] == enforced);
        let counted = ask(rig, "/metrics").is_ok_and(|page| page.contains(&gauge(value)));
        Ok(shown && counted && is_told(rig, reason))
    };
    wait::until("the agent holds", || says("True", None, 1))?;
    let other = guard.on_the_node(&["verify", "--node", "--watch"])?;
    ensure!(other.code == 3 && other.stderr.contains("another"), "{other:?}");

    pod.netns().ip("link set lo down")?;
    wait::until("the node is tainted", || says("False", Some("RouteOpen"), 0))?;
    ended(&mut command, Signal::TERM, 1)?;
    ensure!(is_told(rig, Some("RouteOpen")), "what was told last stays");

    pod.netns().ip("link set lo up")?;
    let mut command = guard.start_on_the_node(&words, "watch.log")?;
    wait::until("the node is as it was", || says("True", None, 1))?;
    ended(&mut command, Signal::INT, 0)
}

fn ended(command: &mut Leashed, signal: Signal, code: i32) -> Result<()> {
    command.signal(signal)?;
    let mut found = None;
    wait::until("the command ends", || {
        found = command.exit_code()?;
        Ok(found.is_some())
    })?;
    ensure!(found == Some(code), "exit code {found:?}, not {code}");
    Ok(())
}
