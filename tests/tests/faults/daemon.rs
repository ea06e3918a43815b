//! What happens to the daemon itself, and to what it reads.

use std::fs;

use anyhow::{Context, Result, ensure};
use rig::node::Layout;
use rig::wait;
use rustix::process::Signal;

use crate::siege::Siege;

#[test]
fn a_daemon_that_is_stopped_killed_or_misled_opens_nothing() -> Result<()> {
    let metrics = "  metrics: {listen: \"127.0.0.1:9473\"}\n";
    let mut siege = Siege::lay_after(Layout::ALL[3], "daemons", metrics, |_| Ok(()))?;
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
    // `node status` reads one itself.
    let former = siege.guard.file("former.yaml");
    fs::write(&former, &good)?;
    ensure!(problems(&siege)? == 0, "something is wrong before");
    fs::write(&config, "kind: [")?;
    wait::until("the mistake is said", || {
        let status = siege.guard.status_by(&former)?;
        Ok(status["problems"]
            .to_string()
            .contains("the configuration in force is older"))
    })?;
    ensure!(problems(&siege)? == 1, "the metric does not say it");
    siege.holds("a broken configuration")?;
    siege.works()?;

    fs::write(&config, good)?;
    wait::until("nothing is wrong", || Ok(problems(&siege)? == 0))?;
    siege.works()
}

/// `eks_guard_problems`, as monitoring reads it.
fn problems(siege: &Siege<'_>) -> Result<u64> {
    let metrics = siege.on_node(&["curl", "--silent", "--fail", "http://127.0.0.1:9473/metrics"])?;
    let text = metrics.ok()?;
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("eks_guard_problems "));
    Ok(found.with_context(|| text.clone())?.parse()?)
}
