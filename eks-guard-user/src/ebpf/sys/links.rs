//! Kernel calls about pinned objects and the links among them: pin, open, replace, and ask what is attached.
#![expect(
    unsafe_code,
    reason = "descriptors that the kernel has just made are taken over"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

use crate::ebpf::sys::{AttachType, BPF_LINK_CREATE, bpf};

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_QUERY_EFFECTIVE: u32 = 1;

/// Programs of one hook that a query can tell of. The kernel lets no more than 64 be attached.
const MAX_PROGRAMS: usize = 64;

/// The kernel's fingerprint of a program's instructions.
pub(crate) type Tag = [u8; 8];

/// What a link is, as far as this guard asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Id of its program.
    pub(crate) program: u32,
    /// A cgroup link's cgroup id, a tcx link's interface index; 0 when what it was attached to is gone.
    pub(crate) target: u64,
}

#[repr(C)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Gives an object a name in a bpffs, which keeps it alive.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = PathAttr {
        path: path.as_ptr().expose_provenance() as u64,
        fd: object.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens an object by its name; `None` when there is none.
pub(crate) fn open_pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = c_path(path)?;
    let mut attr = PathAttr {
        path: path.as_ptr().expose_provenance() as u64,
        fd: 0,
        flags: 0,
    };
    match bpf(BPF_OBJ_GET, &mut attr) {
        Ok(fd) => owned(fd).map(Some),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts another program in the place of a link's, in one step.
pub(crate) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let mut attr = Attr {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Takes a link off what it is attached to, whoever else holds it.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = link.as_raw_fd().cast_unsigned();
    bpf(BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Attaches a program to what comes in through an interface, before all others there.
pub(crate) fn attach_first(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program: u32,
        ifindex: u32,
        attach_type: u32,
        flags: u32,
        relative: u32,
        padding: u32,
        revision: u64,
    }
    let mut attr = Attr {
        program: program.as_raw_fd().cast_unsigned(),
        ifindex,
        attach_type: AttachType::TcxIngress as u32,
        flags: BPF_F_BEFORE,
        relative: 0,
        padding: 0,
        revision: 0,
    };
    owned(bpf(BPF_LINK_CREATE, &mut attr)?)
}

/// What a link's program is, and what the link is attached to.
pub(crate) fn link_info(link: BorrowedFd<'_>, attach: AttachType) -> io::Result<LinkInfo> {
    /// The kernel's `bpf_link_info` as far as cgroup and tcx links fill it.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        padding: u32,
        target: [u32; 2],
        attach_type: [u32; 2],
    }
    let mut info = Info::default();
    read_info(link, &mut info)?;
    let [low, high] = info.target;
    let target = if attach == AttachType::TcxIngress {
        u64::from(low)
    } else {
        u64::from_ne_bytes(concat(low.to_ne_bytes(), high.to_ne_bytes()))
    };
    Ok(LinkInfo {
        program: info.program,
        target,
    })
}

/// The tag of a loaded program.
pub(crate) fn tag(program: BorrowedFd<'_>) -> io::Result<Tag> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: Tag,
    }
    let mut info = Info::default();
    read_info(program, &mut info)?;
    Ok(info.tag)
}

/// The tag of a program by its id.
pub(crate) fn tag_by_id(id: u32) -> io::Result<Tag> {
    #[repr(C)]
    struct Attr {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut attr = Attr {
        id,
        next: 0,
        flags: 0,
    };
    let program = owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)?)?;
    tag(std::os::fd::AsFd::as_fd(&program))
}

/// Ids of the programs that run for processes of a cgroup, whichever of its ancestors they are attached to.
pub(crate) fn effective(cgroup: BorrowedFd<'_>, attach: AttachType) -> io::Result<Vec<u32>> {
    query(cgroup.as_raw_fd().cast_unsigned(), attach, BPF_F_QUERY_EFFECTIVE)
}

/// Ids of the programs that see what comes in through an interface, in their order.
pub(crate) fn on_interface(ifindex: u32) -> io::Result<Vec<u32>> {
    query(ifindex, AttachType::TcxIngress, 0)
}

fn query(target: u32, attach: AttachType, flags: u32) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Attr {
        target: u32,
        attach_type: u32,
        flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        // Not asked for, but the kernel writes some of them.
        unused: [u64; 4],
    }
    let mut programs = vec![0_u32; MAX_PROGRAMS];
    let mut attr = Attr {
        target,
        attach_type: attach as u32,
        flags,
        attach_flags: 0,
        programs: programs.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(MAX_PROGRAMS).map_err(io::Error::other)?,
        padding: 0,
        unused: [0; 4],
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    programs.truncate(attr.count as usize);
    Ok(programs)
}

fn read_info<I>(object: BorrowedFd<'_>, info: &mut I) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attr = Attr {
        fd: object.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<I>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(info).expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn concat(low: [u8; 4], high: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = low;
    let [e, f, g, h] = high;
    [a, b, c, d, e, f, g, h]
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
