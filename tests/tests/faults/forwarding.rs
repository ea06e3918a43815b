//! An address that only the node's own rewriting knows.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use rig::command;
use rig::node::{API, API_PORT, Addresses, Families, Layout, Pod, Profile, shared};

use crate::guard::{Guard, row};
use crate::siege::{alone, direct_packets, spec};

/// Nobody has it, and no Service stands for it.
const ALIAS: Addresses = Addresses {
    v4: std::net::Ipv4Addr::new(198, 51, 100, 77),
    v6: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x77),
};

/// Whether somebody answers there.
fn asks(pod: &Pod<'_>, families: Families) -> Result<bool> {
    let server = ALIAS.sockets(families, API_PORT)[0];
    let mut curl = pod.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
    let url = format!("https://{server}/version");
    curl.args([
        "--silent",
        "--insecure",
        "--output",
        "/dev/null",
        "--max-time",
        "5",
        &url,
    ]);
    Ok(command::run(curl)?.code == 0)
}

#[test]
fn an_address_that_the_node_rewrites_to_the_api_server_leads_nowhere() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[2], "aliases");
    let _alone = alone(layout);
    rig.cluster().create_namespace(namespace)?;
    rig.network().forward(ALIAS, "tcp", API_PORT, API, API_PORT)?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", Some("shop")))?;
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", None))?;
    for families in [Families::V4, Families::V6] {
        ensure!(asks(&agent, families)?, "the alias leads nowhere by itself");
    }
    let mut guard = Guard::start(rig, layout)?;
    guard.serve(&agent)?;
    // The weaker mode: sockets may go to addresses that nothing names.
    let config = guard.file("node.yaml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, format!("{text}  egress: {{mode: blockList}}\n"))?;
    guard.wait_until("the mode is in force", |status| {
        row(status, agent.uid()).is_some_and(|row| row["egress"] == "blockList")
    })?;
    let before = direct_packets(rig, &agent)?;
    for families in [Families::V4, Families::V6] {
        ensure!(
            !asks(&agent, families)?,
            "the API server answered behind the rewriting"
        );
        ensure!(asks(&ordinary, families)?, "others are cut off, too");
    }
    ensure!(direct_packets(rig, &agent)? == before, "a packet arrived");
    let status = guard.wait_until("what was dropped is counted", |status| {
        status["forwardingDropped"]
            .as_u64()
            .is_some_and(|dropped| dropped > 0)
    })?;
    ensure!(status["forwardingClosed"] == true, "{status:#}");
    Ok(())
}
