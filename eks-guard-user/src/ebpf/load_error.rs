//! Why a run cannot be guarded: cause and remedy, one line each.

use std::io;
use std::net::IpAddr;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use crate::ebpf::cgroup::CgroupError;

const REMEDY: &str =
    "run as root (CAP_BPF, CAP_NET_ADMIN) on a kernel with BPF and BTF, outside containers that forbid bpf()";

/// Why nothing is guarded. The run must not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The binary was built without `cargo xtask build`.
    #[error("built without its eBPF object: cargo xtask build")]
    NoObject,
    /// The kernel is too old.
    #[error("Linux {found} is too old: eks-guard needs 6.1 or newer")]
    OldKernel {
        /// What `uname -r` says.
        found: String,
    },
    /// Nothing to guard: a guard that guards nothing looks like one that works.
    #[error("the API server has no address to guard")]
    NoApiAddress,
    /// Two API addresses share an address but not a port.
    #[error("the API server is named on two ports of {addr} ({first} and {second}): name one")]
    PortConflict {
        /// The address.
        addr: IpAddr,
        /// One port.
        first: u16,
        /// The other.
        second: u16,
    },
    /// The addresses of this host are not known.
    #[error("cannot list the addresses of this host")]
    HostAddresses(#[source] io::Error),
    /// The object or one of its maps was refused.
    #[error("the kernel refuses the eBPF object: {}", REMEDY)]
    Object(#[source] Box<EbpfError>),
    /// The object is not the one this binary was built for.
    #[error("the eBPF object lacks {0}: build both together (cargo xtask build)")]
    Missing(&'static str),
    /// A map could not be filled or read.
    #[error("cannot use the eBPF map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// A program was refused.
    #[error("the kernel refuses the eBPF program {name}: {}", REMEDY)]
    Program {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("cannot attach the eBPF program {name} to the cgroup: {}", REMEDY)]
    Attach {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be opened.
    #[error("the cgroup of the run is not usable")]
    Cgroup(#[source] CgroupError),
    /// A descriptor could not be duplicated, or the network namespace not be named.
    #[error("cannot prepare {what}")]
    Descriptor {
        /// For what.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
