//! Whoever has no memory left is killed, and nothing opens.

use anyhow::{Context, Result, ensure};
use rig::cgroups::MemoryLimit;
use rig::node::Layout;
use rig::wait;
use serde_json::Value;

use crate::guard::row;
use crate::siege::Siege;

/// Less than any process has: the next page is one too many.
const NOTHING: u64 = 64 * 1024;

fn pid(status: &Value, which: &str) -> Result<u32> {
    let pid = status[which].as_u64().with_context(|| format!("no {which}"))?;
    Ok(pid.try_into()?)
}

#[test]
fn a_lack_of_memory_opens_nothing_whomever_it_kills() -> Result<()> {
    let mut siege = Siege::lay(Layout::ALL[3], "memory")?;
    let status = siege.guard.status()?;
    let (proxy, loader) = (pid(&status, "proxy")?, pid(&status, "loader")?);

    // The proxy: the loader starts the next one, whose memory is the loader's.
    let limit = MemoryLimit::below(siege.rig.cgroups(), NOTHING)?;
    limit.hold(proxy)?;
    wait::until("the proxy is killed", || {
        // Whatever comes of it: requests take memory.
        siege.works().ok();
        Ok(limit.kills()? > 0)
    })?;
    siege.holds("a proxy that was killed")?;
    let uid = siege.agent.uid().to_owned();
    let status = siege
        .guard
        .wait_until("another proxy serves the agent", |status| {
            let is_another = status["proxy"]
                .as_u64()
                .is_some_and(|pid| pid != u64::from(proxy));
            is_another && row(status, &uid).is_some_and(|row| row["port"].is_u64())
        })?;
    ensure!(status["proxyRestarts"] == 1, "{status:#}");
    siege.works()?;

    // An agent's process.
    let limit = MemoryLimit::below(siege.agent.cgroup(), NOTHING)?;
    limit.hold(siege.hammer())?;
    wait::until("the process that tries is killed", || Ok(limit.kills()? > 0))?;
    siege.try_again()?;

    // The loader, and its proxy with it.
    let limit = MemoryLimit::below(siege.rig.cgroups(), NOTHING)?;
    limit.hold(loader)?;
    wait::until("the loader is killed", || {
        siege.guard.status().ok();
        Ok(limit.kills()? > 0)
    })?;
    siege.holds("a loader that was killed")?;
    ensure!(siege.works().is_err(), "an agent without a guard was answered");
    siege.guard.kill()?;
    siege.guard.restart()?;
    siege.guard.serve(&siege.agent)?;
    siege.holds("a daemon that starts again")?;
    siege.works()
}
