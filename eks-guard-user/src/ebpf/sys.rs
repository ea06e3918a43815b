//! The kernel calls that no library offers safely: link create, lookup-and-delete, network namespace cookie; those about
//! pinned links are in `sys/links.rs`, those about SYNs in `sys/syn.rs`.
#![expect(
    unsafe_code,
    reason = "raw system calls; each hands the kernel pointers to live memory of the stated size"
)]

pub(crate) mod links;
pub(crate) mod syn;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::bpf_insn;
use eks_guard_ebpf::{FlowKey, OriginalDst};
use nix::libc;

const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_int = 21;
const BPF_MAP_GET_NEXT_ID: libc::c_int = 12;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_TYPE_TRACING`.
const TRACING: u32 = 26;
/// `BPF_MODIFY_RETURN`.
const MODIFY_RETURN: u32 = 26;

/// Where a program is attached: `enum bpf_attach_type` of the kernel's `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AttachType {
    Egress = 1,
    SockCreate = 2,
    Connect4 = 10,
    Connect6 = 11,
    Sendmsg4 = 14,
    Sendmsg6 = 15,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    GetSockName4 = 31,
    GetSockName6 = 32,
    SockRelease = 34,
    TcxIngress = 46,
}

/// Attaches a loaded program to a cgroup. The link, not the program, keeps it there: whoever holds a copy of the
/// descriptor keeps the cgroup guarded. (The library's own link type hands out no descriptor.)
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach: AttachType,
) -> io::Result<OwnedFd> {
    link_to(program, cgroup.as_raw_fd().cast_unsigned(), attach as u32)
}

fn link_to(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attr = Attr {
        program: program.as_raw_fd().cast_unsigned(),
        target,
        attach_type,
        // No flags: a cgroup link is always one among several, and never displaced by a descendant's.
        flags: 0,
    };
    own(bpf(BPF_LINK_CREATE, &mut attr)?)
}

/// Puts a program in front of a function of the kernel, which the number of its type names: what the program returns, unless it
/// is 0, is returned in the function's place. (The library knows no such programs.)
pub(crate) fn modify_return(program: &[bpf_insn], function: u32) -> io::Result<OwnedFd> {
    /// As far as it is used; the kernel takes the rest for zero.
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        /// Level, size and buffer of the verifier's log; the kernel's version; flags.
        log: [u32; 6],
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
        /// Types, and places in the source.
        debug: [u32; 9],
        attach_function: u32,
    }
    let mut attr = Attr {
        kind: TRACING,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: c"Dual MIT/GPL".as_ptr().expose_provenance() as u64,
        attach_type: MODIFY_RETURN,
        attach_function: function,
        ..Attr::default()
    };
    let program = own(bpf(BPF_PROG_LOAD, &mut attr)?)?;
    // The function was named to the verifier; there is no other target.
    link_to(program.as_fd(), 0, MODIFY_RETURN)
}

fn own(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes a flow out of its map in one step, so that two takers never get the same one.
pub(crate) fn take_flow(map: BorrowedFd<'_>, key: &FlowKey) -> io::Result<Option<OriginalDst>> {
    #[repr(C)]
    struct Attr {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut value = OriginalDst::default();
    let mut attr = Attr {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: std::ptr::from_ref(key).expose_provenance() as u64,
        value: std::ptr::from_mut(&mut value).expose_provenance() as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this process may not even ask for a map: what must be so in one that has given its privileges up.
#[must_use]
pub fn bpf_is_refused() -> bool {
    #[repr(C)]
    struct Attr {
        start: u32,
        next: u32,
    }
    let mut attr = Attr { start: 0, next: 0 };
    let asked = bpf(BPF_MAP_GET_NEXT_ID, &mut attr);
    asked.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// The cookie of the network namespace a socket lives in: the kernel's name for it, never used twice.
///
/// # Errors
/// Not a socket.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the command's argument, repr(C), of the size that is passed with it; what it points to
    // outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            std::mem::size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
