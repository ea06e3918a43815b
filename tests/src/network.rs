//! A network of a test's own: nothing that is sent there leaves it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// Moves this thread, and the processes and threads it starts, to a network of its own: loopback and two addresses, and a
/// wire on which packets to addresses of nobody leave.
///
/// # Errors
/// Not root, or no iproute2.
pub fn enter_new() -> Result<()> {
    enter_new_without_wire()?;
    set_up(&[
        "link add wire type veth peer name far-end",
        "link set wire up",
        "link set far-end up",
        "route add 192.0.2.0/24 dev wire",
        "route add 203.0.113.0/24 dev wire",
        "route add 2001:db8::/32 dev wire",
        "route add 64:ff9b::/96 dev wire",
    ])
}

/// The same without the wire: what is sent to nobody fails at once.
///
/// # Errors
/// As `enter_new`.
pub fn enter_new_without_wire() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace, which needs root")?;
    set_up(&[
        "link set lo up",
        "addr add 198.51.100.7/32 dev lo",
        "addr add 2001:db8::7/128 dev lo nodad",
    ])
}

fn set_up(commands: &[&str]) -> Result<()> {
    for command in commands {
        let status = Command::new("ip").args(command.split(' ')).status();
        let status = status.context("starting ip, of iproute2")?;
        ensure!(status.success(), "ip {command}: {status}");
    }
    Ok(())
}
