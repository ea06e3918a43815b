//! Memory that is shared with the kernel.

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use nix::libc;

pub(crate) const PAGE: usize = 4096;

/// A page, unmapped at the end.
pub(crate) struct Mapping(NonNull<libc::c_void>);

impl Mapping {
    /// The page of a ring that stands at this offset of its descriptor.
    pub(crate) fn of(ring: RawFd, offset: i64) -> io::Result<Mapping> {
        Mapping::new(libc::MAP_SHARED, ring, offset)
    }

    /// An empty page of this process.
    pub(crate) fn empty() -> io::Result<Mapping> {
        Mapping::new(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn new(flags: i32, file: RawFd, offset: i64) -> io::Result<Mapping> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, placed by the kernel.
        let found = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, rights, flags, file, offset) };
        if found == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(found)
            .map(Mapping)
            .ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> io::Result<u64> {
        u64::try_from(self.0.as_ptr().addr()).map_err(io::Error::other)
    }

    /// A word of it, shared with the kernel.
    pub(crate) fn word(&self, at: u32) -> io::Result<&AtomicU32> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        if at % 4 != 0 || at + 4 > PAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: within the page, aligned, and only ever accessed atomically on this side.
        Ok(unsafe { self.0.byte_add(at).cast::<AtomicU32>().as_ref() })
    }

    /// Writes plain bytes before the kernel is told to look.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        if at.checked_add(bytes.len()).is_none_or(|end| end > PAGE) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: within the page, and the kernel reads the bytes only once it is told to.
        unsafe {
            let to = self.0.as_ptr().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and nothing borrowed from it is left.
        unsafe { libc::munmap(self.0.as_ptr(), PAGE) };
    }
}
