//! Fills up the memory that the kernel grants a socket for options (`net.core.optmem_max`): what eBPF programs keep in a socket
//! is charged to it, too.

use anyhow::Result;
use socket2::{Domain, SockFilter, Socket, Type};

/// Instructions of a filter, at most.
const LONGEST: usize = 4096;

/// The largest filter that a new socket takes, and that leaves every packet as it is: a few bytes are left beside it.
///
/// # Errors
/// The kernel makes no socket.
pub fn largest() -> Result<Vec<SockFilter>> {
    let takes = |long, short| -> Result<bool> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        Ok(socket.attach_filter(&filter(long, short)).is_ok())
    };
    let long = most(|long| takes(long, 0))?;
    let short = most(|short| takes(long, short))?;
    Ok(filter(long, short))
}

/// Instructions that the kernel makes several of, some that it makes one of, and the leave for every packet.
fn filter(long: usize, short: usize) -> Vec<SockFilter> {
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_NUMBER: u16 = 0x00;
    const RETURN: u16 = 0x06;
    let many = |code, count| (0..count).map(move |_| SockFilter::new(code, 0, 0, 0));
    let leave = SockFilter::new(RETURN, 0, 0, u32::MAX);
    many(LOAD_HEADER_LENGTH, long)
        .chain(many(LOAD_NUMBER, short))
        .chain([leave])
        .collect()
}

/// The largest number that still is taken.
fn most(takes: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let (mut taken, mut refused) = (0, LONGEST);
    while refused - taken > 1 {
        let middle = usize::midpoint(taken, refused);
        if takes(middle)? {
            taken = middle;
        } else {
            refused = middle;
        }
    }
    Ok(taken)
}
