//! The embedded programs: what they are called, where they attach, and how they get into the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError};
use aya::programs::{CgroupSkb, CgroupSock, CgroupSockAddr, Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use crate::ebpf::load_error::LoadError;
use crate::ebpf::sys::AttachType;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/eks-guard.o"));

/// Programs of a cgroup and where they are attached. The redirect last: a connection without its flow entry is of no use.
pub(crate) const PROGRAMS: [(&str, AttachType); 9] = [
    ("sock_release", AttachType::SockRelease),
    ("egress", AttachType::Egress),
    ("sock_create", AttachType::SockCreate),
    ("getpeername4", AttachType::GetPeerName4),
    ("getpeername6", AttachType::GetPeerName6),
    ("sendmsg4", AttachType::Sendmsg4),
    ("sendmsg6", AttachType::Sendmsg6),
    ("connect4", AttachType::Connect4),
    ("connect6", AttachType::Connect6),
];

/// Further programs of a node's cgroup: a run has no address but the host's, so they would have nothing to say there.
pub(crate) const NODE_PROGRAMS: [(&str, AttachType); 2] = [
    ("getsockname4", AttachType::GetSockName4),
    ("getsockname6", AttachType::GetSockName6),
];

/// The program of the host side of a pod's interface.
pub(crate) const WIRE: &str = "wire";

/// Oldest kernel the programs are tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// How often the verifier may be interrupted, and how long the signals get to pass.
const INTERRUPTIONS: u32 = 20;
/// As [`INTERRUPTIONS`].
const AFTER_INTERRUPTION: Duration = Duration::from_millis(5);

/// The embedded object, as it was built.
pub(crate) fn bytes() -> &'static [u8] {
    OBJECT
}

/// Refuses kernels the programs are not tested on.
pub(crate) fn check_kernel() -> Result<(), LoadError> {
    if running_kernel().is_some_and(|version| version >= OLDEST_KERNEL) {
        return Ok(());
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Err(LoadError::OldKernel { found: release })
}

/// Major and minor number of the running kernel.
pub(crate) fn running_kernel() -> Option<(u32, u32)> {
    kernel_version(&rustix::system::uname().release().to_string_lossy())
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Parses the object and makes its maps.
pub(crate) fn parse(loader: &mut EbpfLoader<'_>) -> Result<Ebpf, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoObject);
    }
    let loaded = loader.load(OBJECT);
    loaded.map_err(|source| LoadError::Object(Box::new(source)))
}

/// Loads one program; the descriptor is the object's.
pub(crate) fn load<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
    attach: AttachType,
) -> Result<BorrowedFd<'a>, LoadError> {
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    let refused = |source| LoadError::Program {
        name,
        source: Box::new(source),
    };
    load_patiently(program, attach).map_err(refused)?;
    Ok(program.fd().map_err(refused)?.as_fd())
}

/// A signal to this thread interrupts the verifier, which then asks to be called again.
fn load_patiently(program: &mut Program, attach: AttachType) -> Result<(), ProgramError> {
    let mut left = INTERRUPTIONS;
    loop {
        match load_once(program, attach) {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock && left > 0 =>
            {
                left -= 1;
                thread::sleep(AFTER_INTERRUPTION);
            }
            outcome => return outcome,
        }
    }
}

fn load_once(program: &mut Program, attach: AttachType) -> Result<(), ProgramError> {
    match attach {
        AttachType::Egress => TryInto::<&mut CgroupSkb>::try_into(program)?.load(),
        AttachType::SockCreate | AttachType::SockRelease => {
            TryInto::<&mut CgroupSock>::try_into(program)?.load()
        }
        AttachType::TcxIngress => TryInto::<&mut SchedClassifier>::try_into(program)?.load(),
        AttachType::Connect4
        | AttachType::Connect6
        | AttachType::Sendmsg4
        | AttachType::Sendmsg6
        | AttachType::GetPeerName4
        | AttachType::GetPeerName6
        | AttachType::GetSockName4
        | AttachType::GetSockName6 => TryInto::<&mut CgroupSockAddr>::try_into(program)?.load(),
    }
}

/// Takes a map out of the object.
pub(crate) fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Missing(name))
}

/// Takes a hash map out of the object, to be used by its descriptor.
pub(crate) fn take_hash(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, LoadError> {
    let Map::HashMap(map) = take_map(ebpf, name)? else {
        return Err(LoadError::Missing(name));
    };
    Ok(map)
}

/// Names the map an error came from.
pub(crate) fn map_error(name: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map {
        name,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kernel_releases() {
        for (release, expected) in [
            ("6.1.0-9-cloud-amd64", Some((6, 1))),
            ("6.18.44", Some((6, 18))),
            ("5.15.0", Some((5, 15))),
            ("unknown", None),
        ] {
            assert_eq!(kernel_version(release), expected, "{release}");
        }
        assert!(kernel_version("5.19.0") < Some(OLDEST_KERNEL));
        assert!(kernel_version("6.10.0") > Some(OLDEST_KERNEL));
    }
}
