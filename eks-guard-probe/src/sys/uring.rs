//! One connect() through io_uring, with nothing but the kernel's own structures (io_uring(7)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use nix::libc;

use crate::sys::checked;
use crate::sys::mapping::Mapping;

const SQPOLL: u32 = 1 << 1;
const ASYNC: u8 = 1 << 4;
const CONNECT: u8 = 16;
const GET_EVENTS: u32 = 1;
const WAKE_UP: u32 = 1 << 1;
const SQ_RING: i64 = 0;
const CQ_RING: i64 = 0x800_0000;
const ENTRIES: i64 = 0x1000_0000;

/// How the connect() is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Tried in the caller's context.
    Plain,
    /// Handed to a worker thread of the kernel.
    Async,
    /// Taken by a polling thread of the kernel.
    Polled,
}

/// `struct io_uring_params`, as words: see the indices below.
type Params = [u32; 30];
const FLAGS: usize = 2;
const IDLE: usize = 4;
const SQ_TAIL: usize = 11;
const SQ_ARRAY: usize = 16;
const CQ_TAIL: usize = 21;
const CQ_CQES: usize = 25;

/// Connects a socket that does not block. `EINPROGRESS`, and `EINTR` where work of the ring was pending, are as good as done.
pub(crate) fn connect(socket: RawFd, address: &[u8], form: Form) -> io::Result<()> {
    let mut params: Params = [0; 30];
    if form == Form::Polled {
        params[FLAGS] = SQPOLL;
        params[IDLE] = 1000;
    }
    // SAFETY: the kernel fills in the parameters, which are as long as it expects.
    let ring = checked(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) })?;
    let ring = RawFd::try_from(ring).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let number = ring.as_raw_fd();
    let (submissions, entries) = (Mapping::of(number, SQ_RING)?, Mapping::of(number, ENTRIES)?);
    let completions = Mapping::of(number, CQ_RING)?;
    entries.write(0, &entry(socket, address, form)?)?;
    submissions.word(params[SQ_ARRAY])?.store(0, Ordering::Relaxed);
    submissions.word(params[SQ_TAIL])?.store(1, Ordering::Release);
    let flags = if form == Form::Polled {
        GET_EVENTS | WAKE_UP
    } else {
        GET_EVENTS
    };
    let mut submit = 1;
    // The wait may be interrupted, which a call that has submitted does not say.
    while completions.word(params[CQ_TAIL])?.load(Ordering::Acquire) == 0 {
        enter(number, submit, flags)?;
        submit = 0;
    }
    let result = completions.word(params[CQ_CQES] + 8)?.load(Ordering::Acquire);
    match result.cast_signed() {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn enter(ring: RawFd, submit: u32, flags: u32) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: no signal mask; what the entry points to outlives the wait for its completion.
    let result =
        checked(unsafe { libc::syscall(libc::SYS_io_uring_enter, ring, submit, 1, flags, nothing, 0) });
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// `struct io_uring_sqe`: a connect() to this address.
fn entry(socket: RawFd, address: &[u8], form: Form) -> io::Result<[u8; 64]> {
    let mut entry = [0; 64];
    entry[0] = CONNECT;
    entry[1] = if form == Form::Async { ASYNC } else { 0 };
    entry[4..8].copy_from_slice(&socket.to_ne_bytes());
    let length = u64::try_from(address.len()).map_err(io::Error::other)?;
    entry[8..16].copy_from_slice(&length.to_ne_bytes());
    let place = u64::try_from(address.as_ptr().addr()).map_err(io::Error::other)?;
    entry[16..24].copy_from_slice(&place.to_ne_bytes());
    Ok(entry)
}
