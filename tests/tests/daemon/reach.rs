//! Who reaches the API server while the daemon runs.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::path::Path;

use anyhow::{Result, ensure};
use rig::command;
use rig::daemon::{Guard, row};
use rig::leash;
use rig::node::{
    API_PORT, API_SERVICE, Families, Layout, NODE, NodeRig, Pod, PodNetwork, PodSpec, Profile, shared,
};
use rig::place::Place;
use serde_json::json;

/// A pod of the layout, an agent by its label or not.
pub(crate) fn spec(rig: &NodeRig, layout: Layout, namespace: &str, name: &str, is_agent: bool) -> PodSpec {
    let mut spec = PodSpec::new(rig, namespace, name);
    spec.layout = layout;
    if is_agent {
        spec.labels
            .insert("eks-guard.dev/agent".to_owned(), "shop".to_owned());
    }
    spec
}

/// Packets that came to the API server from the pod itself and not from the guard.
pub(crate) fn direct_packets(rig: &NodeRig, addresses: &[IpAddr]) -> Result<u64> {
    Ok(rig.fixtures().api.arrivals_from(addresses)?.packets)
}

/// The agent reads its pods through the guard.
pub(crate) fn works(pod: &Pod<'_>) -> Result<()> {
    let namespace = &pod.spec().namespace;
    let listed = pod
        .kubectl(&["get", "pods", "-n", namespace, "-o", "name"])?
        .ok()?;
    ensure!(listed.contains(&format!("pod/{}", pod.spec().name)), "{listed}");
    Ok(())
}

#[test]
fn agents_go_through_the_guard_and_others_are_left_alone() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[0], "guarded");
    rig.cluster().create_namespace(namespace)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", false))?;
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&agent)?;

    let before = direct_packets(rig, &agent.addresses())?;
    works(&agent)?;
    let mark = rig.cluster().audit().mark()?;
    let refused = agent.kubectl(&["delete", "pod", "ordinary", "-n", namespace])?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("no rule allows it"),
        "{refused:?}"
    );
    let arrived = rig.cluster().audit().since(mark)?;
    ensure!(
        arrived.iter().all(|event| event.verb != "delete"),
        "a refused call arrived: {arrived:?}"
    );
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "the agent's own packets reached the API server"
    );

    // Whose calls they were.
    let outcome = guard.recorded("the refusal", |event| event["verb"] == "delete")?;
    ensure!(outcome["pod"]["uid"] == agent.uid(), "{outcome:#}");
    ensure!(
        outcome["pod"]["name"] == "agent" && outcome["agent"] == "shop",
        "{outcome:#}"
    );
    ensure!(outcome["decision"] == "refuse", "{outcome:#}");

    // An ordinary pod talks to the API server itself, under its own name.
    let before = direct_packets(rig, &ordinary.addresses())?;
    ordinary.kubectl(&["get", "--raw", "/version"])?.ok()?;
    ensure!(
        direct_packets(rig, &ordinary.addresses())? > before,
        "not reached"
    );
    let status = guard.status()?;
    let class = |pod: &Pod<'_>| row(&status, pod.uid()).map(|row| row["class"].clone());
    let wires = row(&status, agent.uid()).and_then(|row| row["interfaces"].as_array());
    ensure!(
        wires.is_some_and(|wires| wires.len() == 1),
        "the agent's cable is open: {status:#}"
    );
    ensure!(
        status["attached"] == true && status["problems"] == json!([]),
        "{status:#}"
    );
    ensure!(class(&agent) == Some("agent".into()) && class(&ordinary) == Some("ordinary".into()));
    Ok(())
}

/// Where the node's kubelet answers beside the address that its object names: its end of every cable, and any address that
/// an interface of the node has.
const NOT_NAMED: [&str; 3] = ["169.254.1.1", "fe80::1%eth0", "10.244.255.1"];

#[test]
fn kubelets_are_closed_on_every_address_of_their_node() -> Result<()> {
    // A port that no fixture listens on, of those that a kubelet has.
    const PORT: u16 = 10_255;
    let (rig, layout, namespace) = (shared()?, Layout::ALL[2], "kubelets");
    rig.cluster().create_namespace(namespace)?;
    let node = &rig.network().node;
    node.ip("addr replace 10.244.255.1/32 dev lo")?;
    let _kubelet = node.enter(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?))?;
    let pod = |name, network, is_agent| {
        let spec = spec(rig, layout, namespace, name, is_agent);
        rig.run_pod(&PodSpec { network, ..spec })
    };
    let own = PodNetwork::Own(Families::Dual);
    let (agent, ordinary) = (pod("agent", own, true)?, pod("ordinary", own, false)?);
    let (host_agent, host) = (
        pod("host-agent", PodNetwork::Host, true)?,
        pod("host", PodNetwork::Host, false)?,
    );
    let mut guard = Guard::start_with(rig, layout, "  egress: {mode: blockList}\n")?;
    guard.serve(&agent)?;
    guard.serve(&host_agent)?;
    let connect = |pod: &Pod<'_>, address: &str| {
        let mut bash = pod.command(Profile::Restricted, Path::new("/bin/bash"))?;
        bash.args(["-c", &format!("exec 3<>/dev/tcp/{address}/{PORT}")]);
        command::run(bash)
    };
    for address in NOT_NAMED {
        let reached = connect(&ordinary, address)?;
        ensure!(
            reached.code == 0,
            "{address} is no address of the node: {reached:?}"
        );
        connect(&agent, address)?.expect_failure("Connection refused")?;
    }
    for address in ["127.0.0.1", "::1", "127.0.0.9"] {
        ensure!(connect(&host, address)?.code == 0, "{address}");
        connect(&host_agent, address)?.expect_failure("Connection refused")?;
    }
    Ok(())
}

#[test]
fn what_no_object_stands_for_reaches_nothing() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[1], "strangers");
    rig.cluster().create_namespace(namespace)?;
    let host = PodSpec {
        network: PodNetwork::Host,
        ..spec(rig, layout, namespace, "host", true)
    };
    let host = rig.run_pod(&host)?;
    let witness = rig.run_pod(&spec(rig, layout, namespace, "witness", false))?;
    let mut guard = Guard::start(rig, layout)?;
    // A cgroup as a pod's, in the network of one that may, and no object.
    let uid = "0f2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
    let cgroup = rig.cgroups().join(layout.pod(rig::node::Qos::Burstable, uid));
    fs::create_dir_all(&cgroup)?;
    guard.wait_until("the cgroup is seen", |status| {
        row(status, uid).is_some_and(|row| row["class"] == "unknown")
    })?;
    let server = API_SERVICE.sockets(Families::V4, API_PORT)[0];
    let place = Place {
        cgroup: Some(cgroup.clone()),
        netns: Some(witness.netns().path()),
        ..Place::default()
    };
    let url = format!("https://{server}/version");
    let ask = |place: &Place| {
        let mut curl = leash::hold_in(place, Path::new("/usr/bin/curl"))?;
        curl.args(["--silent", "--insecure", "--show-error", "--max-time", "60", &url]);
        command::run(curl)
    };
    let before = direct_packets(rig, &witness.addresses())?;
    let refused = ask(&place)?;
    ensure!(
        refused.code != 0,
        "an unknown cgroup reached the API server: {refused:?}"
    );
    ensure!(
        direct_packets(rig, &witness.addresses())? == before,
        "a packet arrived"
    );
    // The same from the pod whose network it is.
    let own = Place {
        cgroup: Some(witness.container_cgroup()),
        ..place
    };
    ensure!(ask(&own)?.code == 0, "the witness is shut out too");
    fs::remove_dir(&cgroup)?;

    // An agent in the node's own network has a listener there.
    guard.serve(&host)?;
    works(&host)
}

#[test]
fn what_is_closed_to_agents_is_opened_by_its_name_only() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[3], "opened");
    rig.cluster().create_namespace(namespace)?;
    let labelled = |name: &str| {
        let mut spec = spec(rig, layout, namespace, name, false);
        spec.labels
            .insert("eks-guard.dev/agent".to_owned(), name.to_owned());
        rig.run_pod(&spec)
    };
    let (named, wide) = (labelled("named")?, labelled("wide")?);
    let node = NODE.sockets(Families::V4, 10_250)[0];
    let entry = |more: &str| format!("allow: [{{to: {}, protocol: TCP{more}}}]", node.ip());
    let egress = format!(
        "  egress:\n    agents:\n      - {{agent: named, {}}}\n      - {{agent: wide, {}}}\n",
        entry(", port: 10250, opens: kubelet"),
        entry("")
    );
    let mut guard = Guard::start_with(rig, layout, &egress)?;
    for pod in [&named, &wide] {
        guard.serve(pod)?;
    }
    let ask = |pod: &Pod<'_>| {
        let mut curl = pod.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
        curl.args([
            "--silent",
            "--http0.9",
            "--max-time",
            "60",
            &format!("http://{node}/"),
        ]);
        command::run(curl)
    };
    let before = rig.fixtures().kubelet.arrivals_from(&wide.addresses())?.packets;
    let refused = ask(&wide)?;
    ensure!(
        refused.code != 0,
        "a prefix alone opened the kubelet: {refused:?}"
    );
    ensure!(
        rig.fixtures().kubelet.arrivals_from(&wide.addresses())?.packets == before,
        "a packet arrived"
    );
    let answered = ask(&named)?;
    ensure!(answered.stdout.contains("kubelet"), "{answered:?}");

    // A redirected socket names the pod's own address as its own.
    let mut curl = named.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
    let server = API_SERVICE.sockets(Families::V4, API_PORT)[0];
    let url = format!("https://{server}/version");
    curl.args([
        "--silent",
        "--insecure",
        "--output",
        "/dev/null",
        "--write-out",
        "%{local_ip}",
        &url,
    ]);
    let local = command::run(curl)?.ok()?;
    ensure!(
        named
            .addresses()
            .iter()
            .any(|address| address.to_string() == local.trim()),
        "the socket names {local}"
    );
    Ok(())
}
