//! What happens to the daemon itself, and to what it reads.

use std::fs;

use anyhow::Result;
use rig::node::Layout;
use rustix::process::Signal;

use crate::siege::{Siege, eventually};

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
    // `node status` would read it, too.
    let log = siege.guard.file("daemon.log");
    eventually("the mistake is said", || {
        Ok(fs::read_to_string(&log)?.contains("the configuration in force is older"))
    })?;
    siege.holds("a broken configuration")?;
    siege.works()?;

    fs::write(&config, good)?;
    siege.works()
}
