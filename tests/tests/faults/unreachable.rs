//! A daemon that starts while its API server cannot be reached.

use std::fs;

use anyhow::{Result, ensure};
use rig::node::{API, API_PORT, API_SERVICE, Families, Layout};
use serde_json::Value;

use crate::guard::row;
use crate::siege::Siege;

/// The API server is among what is closed, by every address that it has.
fn knows_it(status: &Value) -> bool {
    let known = status["api"].to_string();
    let all = [API, API_SERVICE].into_iter();
    all.flat_map(|host| host.sockets(Families::Dual, API_PORT))
        .all(|address| known.contains(&format!("\"{address}\"")))
}

#[test]
fn a_start_without_the_api_server_closes_what_was_closed() -> Result<()> {
    let mut siege = Siege::lay(Layout::ALL[3], "unreachable")?;
    // The weaker mode: what is not known to be closed is open.
    let config = siege.guard.file("node.yaml");
    let good = fs::read_to_string(&config)?;
    let kubeconfig = siege.guard.file("unreachable.kubeconfig");
    let admin = siege.rig.cluster().admin_kubeconfig();
    let text = fs::read_to_string(admin)?;
    // Nobody listens on that port.
    fs::write(&kubeconfig, text.replace(&format!(":{API_PORT}"), ":9"))?;
    let away = good.replace(&admin.display().to_string(), &kubeconfig.display().to_string());
    ensure!(away != good, "{good}");
    siege.guard.kill()?;
    fs::write(&config, format!("{away}  egress: {{mode: blockList}}\n"))?;

    // What was known is on the disk.
    siege.guard.restart()?;
    siege.guard.serve(&siege.agent)?;
    let status = siege.guard.wait_until("it is closed", knows_it)?;
    ensure!(status["synced"] == false, "{status:#}");
    siege.holds("an API server that is away")?;
    ensure!(siege.works().is_err(), "an API server that is away has answered");

    // It is not, but the kernel still has what was closed, and who is an agent.
    siege.guard.kill()?;
    fs::remove_file(siege.guard.file("state/known.json"))?;
    siege.guard.restart()?;
    let status = siege.guard.wait_until("it is closed", knows_it)?;
    let class = row(&status, siege.agent.uid()).map(|row| row["class"].clone());
    ensure!(class == Some("unknown".into()), "{status:#}");
    siege.holds("an API server that is away and a state that is lost")?;
    ensure!(siege.works().is_err(), "an agent without listener was answered");

    siege.guard.kill()?;
    fs::write(&config, good)?;
    siege.guard.restart()?;
    siege.guard.serve(&siege.agent)?;
    siege.works()?;
    siege.holds("an API server that is back")
}
