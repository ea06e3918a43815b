//! Root takes off one layer after the other, while the daemon lives.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use eks_guard::ebpf::node::detach;
use rig::command;
use rig::node::Layout;

use crate::siege::Siege;

#[test]
fn every_layer_that_root_takes_off_comes_back_and_nothing_gets_through() -> Result<()> {
    let mut siege = Siege::lay(Layout::ALL[0], "layers")?;
    let links = siege.pins()?.join("links");
    for link in fs::read_dir(links)? {
        let link = link?.path();
        let name = link
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        siege.repaired(&format!("program {name} is detached"), |_| {
            ensure!(detach(&link)?, "{name} has no pin");
            Ok(())
        })?;
    }
    siege.works()?;

    // The interface's program, and what other tools do to an interface.
    siege.repaired("program wire", |siege| {
        for link in fs::read_dir(siege.pins()?.join("wires"))? {
            detach(&link?.path())?;
        }
        Ok(())
    })?;
    let cable = siege.cable()?.to_owned();
    for (change, qdisc) in [
        ("add", &["clsact"][..]),
        ("del", &["clsact"]),
        ("add", &["ingress"]),
        ("del", &["ingress"]),
        ("replace", &["root", "pfifo"]),
        ("del", &["root"]),
    ] {
        let tc = [&["tc", "qdisc", change, "dev", &cable], qdisc].concat();
        siege.on_node(&tc)?.ok()?;
        siege.holds(&format!("qdisc {change} {qdisc:?}"))?;
    }

    // Pins, one and all, and what they are on.
    siege.repaired("program egress is not pinned", |siege| {
        Ok(fs::remove_file(siege.pins()?.join("links/egress"))?)
    })?;
    siege.repaired("map pods is not pinned", |siege| {
        Ok(fs::remove_file(siege.pins()?.join("maps/pods"))?)
    })?;
    siege.repaired("map flows is not pinned", |siege| {
        let mut umount = Command::new("/usr/bin/nsenter");
        umount
            .arg(siege.guard.mounts())
            .args(["umount", "--lazy"])
            .arg(siege.guard.file("bpf"));
        command::run(umount)?.ok().map(drop)
    })?;
    siege.works()
}

#[test]
fn a_table_that_is_flushed_and_a_listener_that_is_ended_come_back() -> Result<()> {
    let mut siege = Siege::lay(Layout::ALL[1], "listener")?;
    let table = siege.guard.table();
    let listed = siege.on_node(&["nft", "list", "table", "inet", &table])?.ok()?;
    ensure!(
        listed.contains("chain forward") && listed.contains("drop"),
        "{listed}"
    );
    // Nobody but the daemon can, where the kernel knows owners; elsewhere it is put back.
    for change in [["flush", "table"], ["delete", "table"]] {
        let changed = siege.on_node(&["nft", change[0], change[1], "inet", &table])?;
        if changed.code == 0 {
            siege.guard.wait_until("the table is back", |status| {
                status["repairs"].to_string().contains("nftables table")
            })?;
        }
        siege.holds(&format!("nft {}", change[0]))?;
        let now = siege.on_node(&["nft", "list", "table", "inet", &table])?.ok()?;
        ensure!(now.contains("chain forward"), "{now}");
    }

    let port = siege.port()?;
    siege.repaired("listener", |siege| {
        let own = format!("sport = :{port}");
        let ended = siege.in_agents_network(&["ss", "-K", "--tcp", "state", "listening", &own])?;
        ended.ok().map(drop)
    })?;
    siege.works()?;
    siege.holds("a listener that was ended")
}
