//! `cargo xtask setup`: looks what is missing, says what it will do about it, does it; a second run does nothing.
//! Work that does not depend on each other runs side by side; two setups at once wait for each other.

mod cargo_deny;
mod compiler;
mod packages;
mod servers;

use std::fs::{self, File, TryLockError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub(crate) use crate::setup::cargo_deny::program as cargo_deny;
use crate::{console, paths};

/// Something a task cannot do without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Compiler and linker for the eBPF object.
    Ebpf,
    /// etcd, kube-apiserver, kube-controller-manager, kubectl.
    Servers,
    /// cargo-deny, for the suite `tidy`.
    Deny,
    /// nginx, HAProxy and h2load, for `bench proxy`.
    Rivals,
}

/// What demo and suites call besides the servers.
const TOOLS: [&str; 4] = ["curl", "iproute2", "nftables", "util-linux"];
/// Who is measured beside the guard, and the load generator.
const RIVALS: [&str; 3] = ["nginx-light", "haproxy", "nghttp2-client"];

impl Need {
    pub(crate) const ALL: [Need; 4] = [Need::Ebpf, Need::Servers, Need::Deny, Need::Rivals];
}

/// Work to do: shown first, then done.
struct Work {
    name: &'static str,
    plan: String,
    job: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// Sees to it that everything needed is there.
pub(crate) fn run(needs: &[Need]) -> Result<()> {
    let _lock = lock()?;
    let mut works = Vec::new();
    if needs.contains(&Need::Ebpf) {
        works.extend(compiler::missing()?);
    }
    if needs.contains(&Need::Servers) {
        works.extend(servers::missing()?);
        works.extend(packages::missing("tools", &TOOLS));
    }
    if needs.contains(&Need::Deny) {
        works.extend(cargo_deny::missing()?);
    }
    if needs.contains(&Need::Rivals) {
        works.extend(packages::missing("rivals", &RIVALS));
    }
    if works.is_empty() {
        console::step("setup: everything is there");
    } else {
        console::headline("setup will:");
        for work in &works {
            console::step(&format!("  - {}: {}", work.name, work.plan));
        }
        all(works)?;
    }
    if needs.contains(&Need::Servers) {
        servers::link_into_workspace()?;
    }
    Ok(())
}

/// Does all work side by side, and reports every failure, not only the first.
fn all(works: Vec<Work>) -> Result<()> {
    let running: Vec<_> = works
        .into_iter()
        .map(|work| {
            thread::spawn(move || {
                let begin = Instant::now();
                let result = (work.job)();
                match &result {
                    Ok(()) => console::step(&format!(
                        "{}: done in {}",
                        work.name,
                        console::seconds(begin.elapsed())
                    )),
                    Err(error) => console::step(&format!("{}: {error:#}", work.name)),
                }
                result.err().map(|_| work.name)
            })
        })
        .collect();
    let mut failed = Vec::new();
    for thread in running {
        match thread.join() {
            Ok(result) => failed.extend(result),
            Err(_) => failed.push("a panic"),
        }
    }
    if !failed.is_empty() {
        bail!(
            "setup did not finish: {}. Mend what is said above and run `cargo xtask setup` again",
            failed.join(", ")
        );
    }
    Ok(())
}

fn lock() -> Result<File> {
    let cache = paths::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    let path = cache.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        console::step("another setup is at work; waiting for it");
    }
    file.lock()
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}
