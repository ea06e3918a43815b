//! Why a node is not guarded as asked: cause and remedy, one line each.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use rustix::io::Errno;

use crate::ebpf::load_error::LoadError;
use crate::ebpf::prefix::Prefix;

/// Why a call on the node's datapath did not do what was asked. What was guarded before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// As for a run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Without one nothing would be redirected or refused.
    #[error("the API server has no address to guard: the classes stay as they are")]
    NoApiAddress,
    /// The levels of pods' cgroups are none, or more than the programs try.
    #[error("pods stand at {0} levels of the cgroup tree: the programs try one to eight")]
    Levels(usize),
    /// More NAT64 prefixes than the programs try.
    #[error("{0} NAT64 prefixes: the programs try four, of 96 bits each")]
    Nat64(usize),
    /// A port says nothing without the protocol it belongs to.
    #[error("the allow entry for {0} names a port but no protocol")]
    PortWithoutProtocol(Prefix),
    /// The cgroup of all pods could not be opened.
    #[error("cannot open the cgroup {path}")]
    Cgroup {
        /// Its folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No such cgroup on record.
    #[error("cgroup {0} is not on record")]
    NoSuchPod(u64),
    /// The cgroup on record is not an agent's.
    #[error("cgroup {0} is not an agent's")]
    NotAgent(u64),
    /// The kernel cannot attach programs to interfaces this way: close them with nftables instead.
    #[error("Linux before 6.6 has no tcx: the interface must be closed with nftables")]
    NoTcx,
    /// A map is full.
    #[error("no room is left in the eBPF map {name}")]
    Full {
        /// The map, or the two of which one is.
        name: &'static str,
    },
    /// A map is broken.
    #[error("cannot use the eBPF map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// A pin, or the folder of pins, could not be used.
    #[error("cannot use {path}: it must be on a writable bpffs")]
    Pin {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A program could not be attached, replaced or asked about.
    #[error("cannot {action} the eBPF program {program}")]
    Attach {
        /// `attach`, say.
        action: &'static str,
        /// The program.
        program: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Uninstalling would let agents go unguarded.
    #[error("{0} agents run on this node: remove them first")]
    AgentsPresent(usize),
}

/// Names the map an error came from.
pub(super) fn map_error(name: &'static str) -> impl Fn(MapError) -> NodeError {
    move |source| {
        if is_full(&source) {
            return NodeError::Full { name };
        }
        NodeError::Map {
            name,
            source: Box::new(source),
        }
    }
}

/// What the kernel answers differs by the kind of the map: hashes, and tries.
fn is_full(error: &MapError) -> bool {
    let MapError::SyscallError(call) = error else {
        return false;
    };
    let numbers = [Errno::TOOBIG, Errno::NOSPC].map(|full| Some(full.raw_os_error()));
    numbers.contains(&call.io_error.raw_os_error())
}
