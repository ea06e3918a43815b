//! Network namespaces without names: held by a file descriptor, gone with the last of it, so nothing is left to remove.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{panic, process, thread};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace. Sockets made inside it keep it too, as do processes that run in it.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// A new one with loopback up; addresses of IPv6 are usable at once. Needs root.
    pub fn create() -> Result<Self> {
        let file = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            // Nobody else is on these links, and waiting for the search for duplicates would only take time.
            for name in ["all", "default"] {
                sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
                sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
            }
            ip("link set lo up")?;
            File::open("/proc/thread-self/ns/net").context("holding a network namespace")
        })?;
        Ok(Self { file })
    }

    /// Runs `work` on a thread inside. Sockets that it makes stay inside wherever they are used.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.file.as_fd(), kind).context("entering a network namespace")?;
            work()
        })
    }

    /// A path by which other processes of the same user can open it while this value lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()))
    }

    /// Its inode number: what `/proc/PID/ns/net` of a process inside shows.
    pub fn id(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self
            .file
            .metadata()
            .context("looking at a network namespace")?
            .ino())
    }

    /// Runs commands of ip(8), one a line, inside.
    pub fn ip(&self, commands: &str) -> Result<()> {
        self.enter(|| ip(commands))
    }

    /// Runs a script of nft(8) inside.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.enter(|| nft(script))
    }

    /// Asks nft(8) inside; it answers in JSON.
    pub fn nft_json(&self, args: &[&str]) -> Result<String> {
        let args = [&["-j"], args].concat();
        self.enter(|| feed("nft", &args, ""))
    }

    /// Sets `/proc/sys/net/NAME` inside.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.enter(|| sysctl(name, value))
    }

    /// A connection that starts inside.
    pub fn connect(&self, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
        self.enter(|| Ok(TcpStream::connect_timeout(&to, patience)?))
    }
}

/// Runs commands of ip(8), one a line, in the network namespace of this thread.
pub fn ip(commands: &str) -> Result<()> {
    feed("ip", &["-batch", "-"], commands).map(|_| ())
}

/// Runs a script of nft(8) in the network namespace of this thread.
pub fn nft(script: &str) -> Result<()> {
    feed("nft", &["-f", "-"], script).map(|_| ())
}

/// Loopback and two addresses.
const HOST: &str = "\
link set lo up
addr add 198.51.100.7/32 dev lo
addr add 2001:db8::7/128 dev lo nodad
";

/// A wire on which packets to addresses of nobody leave.
const WIRE: &str = "\
link add wire type veth peer name far-end
link set wire up
link set far-end up
route add 192.0.2.0/24 dev wire
route add 203.0.113.0/24 dev wire
route add 2001:db8::/32 dev wire
route add 64:ff9b::/96 dev wire
";

/// Moves this thread, and the processes and threads it starts, to a network of its own: loopback and two addresses, and a
/// wire on which packets to addresses of nobody leave.
pub fn enter_new() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace, which needs root")?;
    ip(&[HOST, WIRE].concat())
}

/// The same without the wire: what is sent to nobody fails at once.
pub fn enter_new_without_wire() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace, which needs root")?;
    ip(HOST)
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    // The kernel shows the values of the namespace of the thread that opens the file.
    fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| format!("setting {name}"))
}

fn feed(program: &str, args: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {program}; `cargo xtask setup` installs it"))?;
    // It reads all before it says anything, so the pipes cannot block each other.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}\n{input}", said.trim());
    }
    written.with_context(|| format!("writing to {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Threads have namespaces of their own; the caller's must not change.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match thread::scope(|scope| scope.spawn(work).join()) {
        Ok(result) => result,
        Err(payload) => panic::resume_unwind(payload),
    }
}
