//! Frames sent through an AF_XDP socket, with nothing but the kernel's own structures (`linux/if_xdp.h`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;

use nix::libc;

use crate::sys::mapping::{Mapping, PAGE};
use crate::sys::{checked, set_option, size};

const FAMILY: u16 = 44;
const SOL_XDP: i32 = 283;
const MMAP_OFFSETS: i32 = 1;
const TX_RING: i32 = 3;
const UMEM_REG: i32 = 4;
const FILL_RING: i32 = 5;
const COMPLETION_RING: i32 = 6;
const TX_RING_OFFSET: i64 = 0x8000_0000;
/// Copied by the kernel: works with every driver.
const COPY: u16 = 1 << 1;
/// Entries of each ring; as many frames fit into the page they are sent from.
const ENTRIES: u32 = 2;
const CHUNK: usize = 2048;

/// Sends up to two frames from the first queue of an interface.
pub(crate) fn send(socket: impl AsFd + Copy, interface: u32, frames: &[Vec<u8>]) -> io::Result<()> {
    let memory = Mapping::empty()?;
    let mut region = memory.address()?.to_ne_bytes().to_vec();
    region.extend(u64::try_from(PAGE).map_err(io::Error::other)?.to_ne_bytes());
    region.extend(u32::try_from(CHUNK).map_err(io::Error::other)?.to_ne_bytes());
    region.extend([0; 4]);
    set_option(socket, SOL_XDP, UMEM_REG, &region)?;
    for ring in [FILL_RING, COMPLETION_RING, TX_RING] {
        set_option(socket, SOL_XDP, ring, &ENTRIES.to_ne_bytes())?;
    }
    let offsets = offsets(socket)?;
    let ring = Mapping::of(socket.as_fd().as_raw_fd(), TX_RING_OFFSET)?;
    bind(socket, interface)?;
    let [producer, descriptors] = offsets;
    for (number, frame) in frames.iter().enumerate() {
        let at = number * CHUNK;
        memory.write(at, frame)?;
        let mut descriptor = u64::try_from(at)
            .map_err(io::Error::other)?
            .to_ne_bytes()
            .to_vec();
        descriptor.extend(
            u32::try_from(frame.len())
                .map_err(io::Error::other)?
                .to_ne_bytes(),
        );
        descriptor.extend([0; 4]);
        let slot = usize::try_from(descriptors).map_err(io::Error::other)? + number * descriptor.len();
        ring.write(slot, &descriptor)?;
    }
    let count = u32::try_from(frames.len()).map_err(io::Error::other)?;
    ring.word(producer)?.store(count, Ordering::Release);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: a message without bytes and without an address.
    let sent = unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    checked(libc::c_long::try_from(sent).map_err(io::Error::other)?).map(|_| ())
}

/// Where the producer of the ring to send from stands, and where its descriptors begin.
fn offsets(socket: impl AsFd) -> io::Result<[u32; 2]> {
    // Producer, consumer, descriptors and flags, of four rings; that to send from is the second.
    let mut offsets = [0_u64; 16];
    let mut length = libc::socklen_t::try_from(size_of_val(&offsets)).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes into an array that is as long.
    let got = unsafe {
        libc::getsockopt(
            fd,
            SOL_XDP,
            MMAP_OFFSETS,
            offsets.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    checked(got.into())?;
    let [_, _, _, _, producer, _, descriptors, ..] = offsets;
    let word = |value: u64| u32::try_from(value).map_err(io::Error::other);
    Ok([word(producer)?, word(descriptors)?])
}

/// `struct sockaddr_xdp`.
fn bind(socket: impl AsFd, interface: u32) -> io::Result<()> {
    let mut address = FAMILY.to_ne_bytes().to_vec();
    address.extend(COPY.to_ne_bytes());
    address.extend(interface.to_ne_bytes());
    address.extend([0; 8]);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel copies the address, which lives through the call.
    let bound = unsafe { libc::bind(fd, address.as_ptr().cast(), size(&address)?) };
    checked(bound.into()).map(|_| ())
}
