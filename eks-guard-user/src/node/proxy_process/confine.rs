//! How the proxy gives up what it was started with. In this order, because each step needs what a later one takes: other
//! people's descriptors, the machine's file system, its user and capabilities, and most system calls.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, Uid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};

use rustix::thread::set_thread_uid;

use crate::ebpf::bpf_is_refused;
use crate::node::proxy_process::syscalls;
use crate::run::{mounts, privilege};

/// User and group of the proxy: a number that no image and no account of a node has by chance, so that nothing else on the node
/// is that user.
const USER: u32 = 980_443;

/// The proxy could not be confined, and does not serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    /// The kernel refuses a step.
    #[error("cannot {doing}")]
    Step {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Something is possible that must not be.
    #[error("the proxy is not confined: it can still {0}")]
    NotConfined(&'static str),
}

/// Confines the only thread of this process, for good, and tries whether it is. `ports` are those of the API server.
///
/// # Errors
/// A step fails, or something can still be done that must not be: the caller must not go on.
pub(super) fn confine(kept: &[BorrowedFd<'_>], ports: &BTreeSet<u16>) -> Result<(), ConfineError> {
    let step = |doing| move |source| ConfineError::Step { doing, source };
    privilege::close_inherited(kept).map_err(step("close inherited descriptors"))?;
    raise_descriptors().map_err(step("set the limits"))?;
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(own)
        .map_err(io::Error::from)
        .map_err(step("make namespaces of its own"))?;
    mounts::make_private()
        .map_err(io::Error::from)
        .map_err(step("separate the mounts from the machine's"))?;
    mounts::empty_root().map_err(step("leave the machine's file system"))?;
    privilege::become_user(USER, USER, &[]).map_err(step("become its user"))?;
    // Both are reset by the change of the user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(io::Error::from)
        .map_err(step("protect its memory"))?;
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .map_err(step("tie itself to the loader"))?;
    see_nothing()?;
    restrict(ports)
        .map_err(io::Error::other)
        .map_err(step("restrict its connections"))?;
    syscalls::enter().map_err(step("filter its system calls"))?;
    do_nothing()
}

/// As many connections as the machine lets it have, and no memory in files.
fn raise_descriptors() -> io::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    let (descriptors, none) = (
        Rlimit {
            current: most,
            maximum: most,
        },
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    setrlimit(Resource::Nofile, descriptors)?;
    Ok(setrlimit(Resource::Core, none)?)
}

/// As far as this kernel can: no file, no connection but to the API server's ports (Linux 6.7), no signal to a process and no
/// abstract socket outside (6.12).
fn restrict(ports: &BTreeSet<u16>) -> Result<(), RulesetError> {
    const KNOWN: ABI = ABI::V6;
    let towards = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp));
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(ports.iter().map(towards))?
        .restrict_self()?;
    Ok(())
}

/// Before the filter hides it: the file system is empty and cannot be written, whoever asks.
fn see_nothing() -> Result<(), ConfineError> {
    if fs::read_dir("/").is_ok_and(|entries| entries.count() > 0) {
        return Err(ConfineError::NotConfined("see files"));
    }
    match fs::create_dir("/written") {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        Ok(()) | Err(_) => Err(ConfineError::NotConfined("write files")),
    }
}

fn do_nothing() -> Result<(), ConfineError> {
    let possible = [
        ("open files", fs::File::open("/").is_ok()),
        ("call bpf()", !bpf_is_refused()),
        ("start programs", Command::new("/").spawn().is_ok_and(|_| true)),
        (
            "make packet sockets",
            socket(AddressFamily::PACKET, SocketType::RAW, None).is_ok(),
        ),
        ("make namespaces", unshare(CloneFlags::CLONE_NEWUSER).is_ok()),
        ("become root", set_thread_uid(Uid::ROOT).is_ok()),
    ];
    match possible.iter().find(|(_, is_possible)| *is_possible) {
        Some((what, _)) => Err(ConfineError::NotConfined(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use landlock::{CompatLevel, Compatible};
    use rustix::thread::set_no_new_privs;

    use super::*;

    #[test]
    fn connections_go_to_the_api_servers_port_only() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (api, other) = (listen(), listen());
        let (api, other) = (api.local_addr().unwrap(), other.local_addr().unwrap());
        // A thread and what it starts: the test's own go on without.
        let restricted = thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            restrict(&[api.port()].into()).unwrap();
            (
                TcpStream::connect(api),
                TcpStream::connect(other),
                fs::File::open("/etc/hostname"),
            )
        });
        let (to_api, to_other, file) = restricted.join().unwrap();
        to_api.unwrap();
        assert_eq!(file.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let kernel_can = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::ConnectTcp);
        if kernel_can.is_ok() {
            assert_eq!(to_other.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
