//! The same node with IPv4, with IPv6 and with both: what is guarded does not depend on what the cluster speaks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rig::node::{
    API, API_PORT, API_SERVICE, Families, IMDS, Layout, NODE, NodeRig, OTHER_CLUSTER, OUTSIDE, Pod,
    PodNetwork, PodSpec, Profile, shared,
};
use rig::place::SERVICE_ACCOUNT;
use rig::{command, programs};
use serde_json::json;

use crate::guard::{Guard, row};
use crate::reach::{direct_packets, spec, works};

/// What `dial` says with its exit code.
const CONNECTED: i32 = 0;
const REFUSED: i32 = 1;

#[test]
fn a_node_with_ipv6_only_is_guarded() -> Result<()> {
    let rig = NodeRig::start(Families::V6)?;
    agents_are_guarded_and_others_are_not(&rig, Layout::ALL[0])
}

#[test]
fn a_node_with_ipv4_only_is_guarded() -> Result<()> {
    let rig = NodeRig::start(Families::V4)?;
    agents_are_guarded_and_others_are_not(&rig, Layout::ALL[3])?;
    a_node_port_of_the_api_server_is_redirected(&rig, Layout::ALL[3])
}

#[test]
fn a_node_with_both_families_is_guarded() -> Result<()> {
    agents_are_guarded_and_others_are_not(shared()?, Layout::ALL[0])
}

fn agents_are_guarded_and_others_are_not(rig: &NodeRig, layout: Layout) -> Result<()> {
    let families = rig.families();
    let namespace = "families";
    rig.cluster().create_namespace(namespace)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", false))?;
    let host = rig.run_pod(&PodSpec {
        network: PodNetwork::Host,
        ..spec(rig, layout, namespace, "host", true)
    })?;
    let mut guard = Guard::start(rig, layout)?;
    let port = u16::try_from(guard.serve(&agent)?)?;

    let status = guard.wait_until("every address of the API server is known", |status| {
        status["api"] == json!(api(families))
    })?;
    ensure!(status["problems"] == json!([]), "{status:#}");
    ensure!(
        row(&status, agent.uid()).is_some_and(|row| row["interfaces"].as_array().map(Vec::len) == Some(1)),
        "the agent's cable is open: {status:#}"
    );

    through_the_guard_or_nowhere(rig, &agent, port)?;
    guard.serve(&host)?;
    works(&host).context("an agent in the node's own network")?;

    // Nobody stands before an ordinary pod.
    let before = direct_packets(rig, &ordinary.addresses())?;
    for address in api(families).into_iter().chain(OUTSIDE.sockets(families, 443)) {
        ensure!(
            dial(&ordinary, address)? == CONNECTED,
            "{address} is closed to an ordinary pod"
        );
    }
    ordinary.kubectl(&["get", "--raw", "/version"])?.ok()?;
    ensure!(
        direct_packets(rig, &ordinary.addresses())? > before,
        "not reached"
    );
    Ok(())
}

/// A Service of type NodePort in front of the API server: every node leads to it.
fn a_node_port_of_the_api_server_is_redirected(rig: &NodeRig, layout: Layout) -> Result<()> {
    let namespace = "node-ports";
    rig.cluster().create_namespace(namespace)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", false))?;
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&agent)?;
    let patch = json!({"spec": {"type": "NodePort"}});
    let service = "/api/v1/namespaces/default/services/kubernetes";
    let patched = rig.cluster().admin().merge(service, &patch)?;
    let port = &patched["spec"]["ports"][0]["nodePort"];
    let port = u16::try_from(port.as_u64().context("no port of nodes")?)?;
    rig.network().forward(NODE, "tcp", port, API, API_PORT)?;
    let address = NODE.sockets(rig.families(), port)[0];
    guard.wait_until("the port is the API server's", |status| {
        let api = status["api"].as_array();
        api.is_some_and(|api| api.contains(&json!(address)))
    })?;
    let before = direct_packets(rig, &agent.addresses())?;
    let authority = format!("{SERVICE_ACCOUNT}/ca.crt");
    let url = format!("https://{address}/api/v1/namespaces/{namespace}/pods");
    let mut curl = agent.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
    curl.args([
        "--silent",
        "--fail",
        "--max-time",
        "30",
        "--cacert",
        &authority,
        &url,
    ]);
    let listed = command::run(curl)?.ok()?;
    ensure!(listed.contains("\"agent\""), "{listed}");
    guard.recorded("the request by the port of the node", |event| {
        event["originalDestination"] == json!(address) && event["verb"] == "list"
    })?;
    ensure!(
        direct_packets(rig, &agent.addresses())? == before,
        "the node led past the guard"
    );
    let before = direct_packets(rig, &ordinary.addresses())?;
    ensure!(
        dial(&ordinary, address)? == CONNECTED,
        "closed to an ordinary pod"
    );
    ensure!(
        direct_packets(rig, &ordinary.addresses())? > before,
        "the port of the node does not lead to the API server by itself"
    );
    Ok(())
}

fn through_the_guard_or_nowhere(rig: &NodeRig, agent: &Pod<'_>, port: u16) -> Result<()> {
    let families = rig.families();
    let before = direct_packets(rig, &agent.addresses())?;
    works(agent)?;
    for address in api(families) {
        ensure!(dial(agent, address)? == CONNECTED, "{address} is not redirected");
    }
    // Loopback has both families, whatever the pod has.
    for loopback in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let listener = SocketAddr::new(loopback, port);
        ensure!(
            dial(agent, listener)? == CONNECTED,
            "nobody listens on {listener}"
        );
    }
    let fixtures = rig.fixtures();
    let closed = [
        (&fixtures.imds, IMDS, 80),
        (&fixtures.kubelet, NODE, 10250),
        (&fixtures.other_cluster, OTHER_CLUSTER, API_PORT),
        (&fixtures.outside, OUTSIDE, 443),
    ];
    for (fixture, host, port) in closed {
        let arrived = fixture.arrivals_from(&agent.senders())?.packets;
        for address in host.sockets(families, port) {
            ensure!(dial(agent, address)? == REFUSED, "{address} is open to an agent");
        }
        let since = fixture.arrivals_from(&agent.senders())?.packets - arrived;
        ensure!(since == 0, "{} packets came to {}", since, fixture.name());
    }
    let arrived = direct_packets(rig, &agent.addresses())? - before;
    ensure!(
        arrived == 0,
        "{arrived} packets of the agent came to the API server"
    );
    Ok(())
}

/// Every address of the API server, as a status names them.
fn api(families: Families) -> Vec<SocketAddr> {
    let mut all = API.sockets(families, API_PORT);
    all.extend(API_SERVICE.sockets(families, API_PORT));
    all.sort();
    all
}

fn dial(pod: &Pod<'_>, address: SocketAddr) -> Result<i32> {
    let mut dial = pod.command(Profile::Restricted, &programs::beside("dial")?)?;
    dial.arg(address.to_string());
    Ok(command::run(dial)?.code)
}
