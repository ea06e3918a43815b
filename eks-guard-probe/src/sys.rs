//! What the kernel offers and no safe library does: options, addresses and calls that attackers use and programs do not.
#![expect(
    unsafe_code,
    reason = "raw system calls with pointers to memory that outlives them"
)]

pub(crate) mod mapping;
pub(crate) mod uring;
pub(crate) mod xdp;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use nix::libc;
use nix::unistd::{self, ForkResult, Pid};

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn size(bytes: &[u8]) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)
}

/// Another process like this one, which must have one thread; nothing in the new process.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: no lock is held by a thread that the new process would miss: the caller is the only one.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// setsockopt() with these bytes.
pub(crate) fn set_option(socket: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `value.len()` bytes of a slice that lives through the call.
    let result = unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), size(value)?) };
    checked(result.into()).map(|_| ())
}

/// connect() to an address of any family, as bytes.
pub(crate) fn connect(socket: impl AsFd, address: &[u8]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: as above; the kernel copies the address.
    let result = unsafe { libc::connect(fd, address.as_ptr().cast(), size(address)?) };
    checked(result.into()).map(|_| ())
}

/// sendto() to an address of any family, as bytes.
pub(crate) fn send_to(socket: impl AsFd, bytes: &[u8], address: &[u8]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let (data, to) = (bytes.as_ptr().cast(), address.as_ptr().cast());
    // SAFETY: as above, for both slices.
    let result = unsafe { libc::sendto(fd, data, bytes.len(), 0, to, size(address)?) };
    checked(libc::c_long::try_from(result).map_err(io::Error::other)?).map(|_| ())
}

/// connect() so many times, to two addresses of one length that another thread writes in turns where the kernel reads.
/// How often `then` says yes after one.
pub(crate) fn connect_while_rewritten(
    socket: impl AsFd,
    addresses: &[Vec<u8>; 2],
    times: usize,
    then: impl Fn() -> bool,
) -> usize {
    let fd = socket.as_fd().as_raw_fd();
    let place: Vec<AtomicU8> = addresses[0].iter().map(|byte| AtomicU8::new(*byte)).collect();
    let is_over = AtomicBool::new(false);
    let length = libc::socklen_t::try_from(place.len()).unwrap_or_default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for address in addresses {
                    for (byte, value) in place.iter().zip(address) {
                        byte.store(*value, Ordering::Relaxed);
                    }
                }
            }
        });
        let connect = |_: &usize| {
            // SAFETY: the kernel copies `length` bytes of memory that lives on, atomics that may change meanwhile.
            unsafe { libc::connect(fd, place.as_ptr().cast(), length) };
            then()
        };
        let taken = (0..times).filter(connect).count();
        is_over.store(true, Ordering::Relaxed);
        taken
    })
}

/// A copy of a descriptor that was inherited under this number; `EBADF` when there is none.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a call without pointers.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = RawFd::try_from(checked(copy.into())?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// bpf() with this attribute, which the kernel may also write to.
pub(crate) fn bpf(command: u32, attribute: &mut [u64; 16]) -> io::Result<i64> {
    // SAFETY: the attribute is as long as is said; what it points to is the caller's and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attribute.as_mut_ptr(),
            size_of_val(attribute),
        )
    };
    checked(result)
}

/// ptrace(PTRACE_SEIZE), which stops nobody, and lets go at once.
pub(crate) fn trace(pid: i32) -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: neither request reads or writes through its pointers.
    checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) })?;
    // SAFETY: as above. A process that was not stopped stays attached until this one ends, which is soon.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, nothing, nothing) };
    Ok(())
}

/// Sets the flags of the loopback interface to what they are, with `more` set as well.
pub(crate) fn set_loopback_flags(socket: impl AsFd, more: i16) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: all zeroes is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = libc::c_char::try_from(byte).map_err(io::Error::other)?;
    }
    // SAFETY: the kernel reads and writes the request, which lives through both calls; the first fills in the flags.
    unsafe {
        checked(libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request).into())?;
        request.ifr_ifru.ifru_flags |= more;
        checked(libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request).into())?;
    }
    Ok(())
}
