//! What happens to the daemon itself, and to what it reads.

use std::fs;

use anyhow::{Context, Result, ensure};
use rig::node::Layout;
use rustix::process::Signal;

use crate::siege::Siege;

#[test]
fn a_daemon_that_is_stopped_killed_or_misled_opens_nothing() -> Result<()> {
    let mut siege = Siege::lay(Layout::ALL[3], "daemons")?;
    siege.guard.signal(Signal::STOP)?;
    siege.holds("a stopped daemon")?;
    siege.guard.signal(Signal::CONT)?;
    siege.works()?;

    // A newer program in the place of the older one, under load.
    for _ in 0..3 {
        siege.guard.kill()?;
        siege.holds("a killed daemon")?;
        siege.guard.restart()?;
        siege.guard.serve(&siege.agent)?;
        siege.holds("a daemon that starts again")?;
    }
    siege.works()?;

    // A configuration that is none stays out of force, and it is said.
    let config = siege.guard.file("node.yaml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, "kind: [")?;
    siege.guard.wait_until("the mistake is said", |status| {
        status["problems"].to_string().contains("node.yaml")
    })?;
    siege.holds("a broken configuration")?;
    siege.works()?;

    // The API server cannot be reached from the start on: what was known is closed.
    let upstream = fs::read_to_string(siege.rig.cluster().admin_kubeconfig())?;
    let server = upstream
        .lines()
        .find(|line| line.contains("server:"))
        .context("no server")?;
    let away = siege.guard.file("away");
    fs::write(
        &away,
        upstream.replace(server.trim(), "server: https://127.0.0.1:9"),
    )?;
    let pointed = good.replace(
        &siege.rig.cluster().admin_kubeconfig().display().to_string(),
        &away.display().to_string(),
    );
    siege.guard.kill()?;
    fs::write(&config, pointed)?;
    siege.guard.restart()?;
    siege.guard.serve(&siege.agent)?;
    let status = siege.guard.status()?;
    ensure!(status["synced"] == false, "{status:#}");
    siege.holds("an API server that is away")?;
    siege.guard.kill()?;
    fs::write(&config, good)?;
    siege.guard.restart()?;
    siege.guard.serve(&siege.agent)?;
    siege.works()
}
