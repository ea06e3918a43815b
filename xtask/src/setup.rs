//! `cargo xtask setup`: looks what is missing, says what it will do about it, does it; a second run does nothing.
//! Work that does not depend on each other runs side by side; two setups at once wait for each other.

mod cargo_deny;
mod clients;
mod compiler;
mod go;
mod kernels;
mod oracle;
mod packages;
mod servers;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;
use std::{io, process, thread};

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
    /// Clients of other versions and languages, for the suite `compatible`.
    Clients,
    /// The evaluator of conditions that Kubernetes has, for the suite `conditions`.
    Oracle,
    /// cargo-deny, for the suite `tidy`.
    Deny,
    /// nginx, HAProxy and h2load, for `bench proxy`.
    Rivals,
    /// valgrind, for `bench decision`.
    Counter,
    /// A C++ compiler, for the engine of the suite `fuzz`.
    Fuzz,
    /// QEMU and other kernels, for the suite `kernels`.
    Kernels,
}

/// What demo and suites call besides the servers, and whom commands must not reach: a bus, a service manager, a key agent, a
/// terminal multiplexer.
const TOOLS: [&str; 9] = [
    "curl",
    "dbus-bin",
    "dbus-daemon",
    "iproute2",
    "nftables",
    "openssh-client",
    "systemd",
    "tmux",
    "util-linux",
];
/// What guests run in, and what makes their first root.
const GUESTS: [&str; 3] = ["qemu-system-x86", "binutils", "xz-utils"];
/// What counts instructions.
const COUNTER: [&str; 1] = ["valgrind"];
/// What compiles libFuzzer.
const FUZZ: [&str; 1] = ["g++"];
/// Who is measured beside the guard, and the load generator.
const RIVALS: [&str; 3] = ["nginx-light", "haproxy", "nghttp2-client"];

impl Need {
    pub(crate) const ALL: &[Need] = &[
        Need::Ebpf,
        Need::Servers,
        Need::Clients,
        Need::Oracle,
        Need::Deny,
        Need::Rivals,
        Need::Counter,
        Need::Fuzz,
        Need::Kernels,
    ];
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
        works.extend(go::missing(&servers::MODULES)?);
        works.extend(packages::missing("tools", &TOOLS));
    }
    if needs.contains(&Need::Clients) {
        works.extend(go::missing(&clients::MODULES)?);
        works.extend(clients::missing()?);
    }
    if needs.contains(&Need::Oracle) {
        works.extend(go::missing(&oracle::MODULES)?);
    }
    if needs.contains(&Need::Deny) {
        works.extend(cargo_deny::missing()?);
    }
    if needs.contains(&Need::Rivals) {
        works.extend(packages::missing("rivals", &RIVALS));
    }
    if needs.contains(&Need::Counter) {
        works.extend(packages::missing("counter", &COUNTER));
    }
    if needs.contains(&Need::Fuzz) {
        works.extend(packages::missing("C++", &FUZZ));
    }
    if needs.contains(&Need::Kernels) {
        works.extend(packages::missing("guests", &GUESTS));
        works.extend(kernels::missing()?);
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
        go::link_into_workspace(&servers::MODULES)?;
    }
    if needs.contains(&Need::Clients) {
        go::link_into_workspace(&clients::MODULES)?;
        clients::link_into_workspace()?;
    }
    if needs.contains(&Need::Oracle) {
        go::link_into_workspace(&oracle::MODULES)?;
    }
    if needs.contains(&Need::Kernels) {
        kernels::link_into_workspace()?;
    }
    Ok(())
}

/// Whether all clients are installed.
pub(crate) fn has_clients() -> Result<bool> {
    Ok(go::missing(&clients::MODULES)?.is_empty() && clients::missing()?.is_empty())
}

/// Makes `to` a link to `from`, whatever it was.
pub(crate) fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::read_link(to).is_ok_and(|current| current == from) {
        return Ok(());
    }
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("replacing {}", to.display()))
        }
        Ok(()) | Err(_) => symlink(from, to).with_context(|| format!("linking {}", to.display())),
    }
}

/// Makes a folder beside its place and moves it there: what is there is whole.
fn make_whole(place: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = place.with_extension(format!("new-{}", process::id()));
    fs::create_dir_all(&temporary).with_context(|| format!("making {}", temporary.display()))?;
    if let Err(error) = make(&temporary) {
        fs::remove_dir_all(&temporary).context("removing what is unfinished")?;
        return Err(error);
    }
    if place.exists() {
        fs::remove_dir_all(place).context("removing what is incomplete")?;
    }
    fs::rename(&temporary, place).with_context(|| format!("moving it to {}", place.display()))
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

/// Stable across builds of this program, unlike the hasher of the standard library.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
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

#[cfg(test)]
mod tests {
    #[test]
    fn hashes_as_published() {
        assert_eq!(super::fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
