//! `eks-guard verify --node` beside a daemon, with agents of both kinds of network: every route is closed under every profile, and
//! nothing of what was tried arrived at the API server.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use eks_guard_core::catalogue::report::{ProfileReport, Report};
use rig::leash::Leashed;
use rig::matrix::page::{self, OtherKernel};
use rig::matrix::{self, Column, POD};
use rig::node::{Layout, NodeRig, OTHER_CLUSTER, Pod, PodNetwork, PodSpec, Profile, shared};
use serde_json::Value;

use crate::guard::{Guard, row};

/// What is redirected under every profile.
const REDIRECTED: [&str; 12] = [
    "N01", "N02", "N03", "N06", "N07", "N09", "N20", "N21", "N28", "N30", "L01", "L11",
];
/// What is open to the same process outside of the pod.
const OPEN_TO_THE_NODE: [&str; 10] = [
    "N01", "N03", "N06", "N08", "N10", "N17", "N18", "N31", "A01", "A02",
];
/// Profiles of a pod with a network of its own.
const OWN_NETWORK: [&str; 4] = ["restricted", "default capabilities", "+NET_RAW", "+NET_ADMIN"];
/// What only frames written by hand could reach, and their profiles.
const BY_HAND: [&str; 3] = ["P02", "P03", "P04"];

pub(crate) fn agent(rig: &NodeRig, layout: Layout, namespace: &str, name: &str) -> PodSpec {
    let mut spec = PodSpec::new(rig, namespace, name);
    spec.layout = layout;
    spec.labels
        .insert("eks-guard.dev/agent".to_owned(), "shop".to_owned());
    spec
}

/// The process of a container, with its files.
pub(crate) fn container(rig: &NodeRig, pod: &Pod<'_>) -> Result<Leashed> {
    let mut main = pod.command(Profile::Restricted, Path::new("/bin/sleep"))?;
    main.arg("infinity");
    let log = rig.cluster().folder().join(format!("main-{}.log", pod.uid()));
    Leashed::start_command("main", main, &log)
}

fn direct_packets(rig: &NodeRig, addresses: &[IpAddr]) -> Result<u64> {
    Ok(rig.fixtures().api.arrivals_from(addresses)?.packets)
}

pub(crate) fn report_of(text: &str) -> Result<Report> {
    let statement: Value = serde_json::from_str(text)?;
    Ok(serde_json::from_value(statement["predicate"]["report"].clone())?)
}

fn profile<'r>(report: &'r Report, pod: &str, name: &str) -> Result<&'r ProfileReport> {
    let is_it = |profile: &&ProfileReport| profile.pod.as_deref() == Some(pod) && profile.name == name;
    let found = report.profiles.iter().find(is_it);
    found
        .filter(|profile| profile.not_offered.is_none())
        .context("the profile was not tried")
}

fn word<'r>(profile: &'r ProfileReport, id: &str) -> Result<(&'r str, &'r str)> {
    let row = profile
        .rows
        .iter()
        .find(|row| row.id == id)
        .context("a row is missing")?;
    let without = row
        .unguarded
        .as_ref()
        .map_or("-", |without| without.result.word());
    Ok((row.result.word(), without))
}

#[test]
fn every_route_out_of_a_pod_is_closed_under_every_profile() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[0], "verified");
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&agent(rig, layout, namespace, "agent"))?;
    let host = PodSpec {
        network: PodNetwork::Host,
        ..agent(rig, layout, namespace, "host")
    };
    let host = rig.run_pod(&host)?;
    let relay = rig.run_relay(&PodSpec {
        layout,
        ..PodSpec::new(rig, namespace, "relay")
    })?;
    let _mains = [container(rig, &pod)?, container(rig, &host)?];
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&pod)?;
    guard.serve(&host)?;
    let cluster = OTHER_CLUSTER.v4;
    let mut config = fs::OpenOptions::new()
        .append(true)
        .open(guard.file("node.yaml"))?;
    writeln!(config, "  otherClusters: [{cluster}/32]")?;
    guard.wait_until("both agents are guarded", |status| {
        let is_wired = row(status, pod.uid()).is_some_and(|row| row["interfaces"] != serde_json::json!([]));
        is_wired && status["problems"] == serde_json::json!([])
    })?;

    let before = direct_packets(rig, &pod.addresses())?;
    let relays: Vec<String> = relay.sockets().iter().map(ToString::to_string).collect();
    let mut words = vec!["verify", "--node", "-o", "json"];
    words.extend(relays.iter().flat_map(|relay| ["--relay", relay.as_str()]));
    let output = guard.on_the_node(&words)?;
    let report = report_of(&output.stdout).with_context(|| format!("{output:?}"))?;
    ensure!(
        report.problems().is_empty() && output.code == 0,
        "{:#?}\n{}",
        report.problems(),
        output.stderr
    );
    ensure!(
        direct_packets(rig, &pod.addresses())? == before,
        "packets of the pod arrived at the API server"
    );
    for name in OWN_NETWORK {
        let profile = profile(&report, "verified/agent", name)?;
        for id in REDIRECTED {
            ensure!(
                word(profile, id)?.0 == "REDIRECTED",
                "{name}: {id}: {:?}",
                word(profile, id)?
            );
        }
        for id in OPEN_TO_THE_NODE {
            ensure!(
                word(profile, id)? == (word(profile, id)?.0, "REACHED"),
                "{name}: {id}: {:?}",
                word(profile, id)?
            );
        }
        let may = name != "restricted";
        for id in BY_HAND {
            let expected = ("BLOCKED", if may { "REACHED" } else { "BLOCKED" });
            ensure!(
                word(profile, id)? == expected,
                "{name}: {id}: {:?}",
                word(profile, id)?
            );
        }
    }
    let host = profile(&report, "verified/host", "hostNetwork")?;
    ensure!(word(host, "P09")?.0 == "REDIRECTED", "{:?}", word(host, "P09")?);
    the_page_says_so(&columns(&report)?)
}

fn the_page_says_so(columns: &[Column]) -> Result<()> {
    matrix::record("verify-pod", columns)?;
    page::is_up_to_date("pod", columns, OtherKernel::Passed)
}

fn columns(report: &Report) -> Result<Vec<Column>> {
    let kernel = &report.facts.kernel;
    let mut columns = Vec::new();
    for name in OWN_NETWORK {
        let profile = profile(report, "verified/agent", name)?;
        columns.push(Column::tried(POD, profile, kernel)?);
        if name == "+NET_ADMIN" {
            columns.push(Column::without(POD, profile));
            columns.push(Column::closed_by(POD, profile));
        }
    }
    let host = profile(report, "verified/host", "hostNetwork")?;
    columns.push(Column::tried(POD, host, kernel)?);
    Ok(columns)
}
