//! The SYN that a connection began with, which the kernel keeps for listeners that ask for it: the number in it tells the
//! connection from every other that comes from the same port.
#![expect(
    unsafe_code,
    reason = "a socket option that no library offers; the kernel is handed live memory of the stated size"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Longest headers of IPv4 and TCP, and those of IPv6 without extensions are shorter.
const MAX_HEADERS: libc::socklen_t = 120;
const HEADER_V6: usize = 40;
const NEXT_HEADER_V6: usize = 6;
const TCP: u8 = 6;
/// Of the sequence number, in the header of TCP.
const SEQUENCE: usize = 4;

/// Makes a listener keep the SYNs of its connections, until they are asked for.
///
/// # Errors
/// Not a TCP socket.
pub fn keep_syns(listener: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads four bytes from `on`, which has as many.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVE_SYN,
            std::ptr::from_ref(&on).cast(),
            4,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The initial sequence number of the SYN that an accepted connection began with; the kernel tells it once. `None`: it was not
/// kept, or cannot be read.
pub(crate) fn take_isn(accepted: impl AsFd) -> Option<u32> {
    let mut headers = [0_u8; MAX_HEADERS as usize];
    let mut length = MAX_HEADERS;
    // SAFETY: the kernel writes at most `length` bytes to `headers`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            accepted.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    isn(headers.get(..usize::try_from(length).ok()?)?)
}

/// Of a packet from its IP header on.
fn isn(headers: &[u8]) -> Option<u32> {
    let first = *headers.first()?;
    let tcp = match first >> 4 {
        4 => usize::from(first & 0xf) * 4,
        6 if *headers.get(NEXT_HEADER_V6)? == TCP => HEADER_V6,
        _ => return None,
    };
    let number = headers.get(tcp + SEQUENCE..)?.first_chunk()?;
    Some(u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn each_connection_has_a_number_of_its_own_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let connect = || {
                let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                listener.accept().unwrap().0
            };
            assert_eq!(take_isn(connect()), None, "{address}: nothing is kept unasked");
            keep_syns(&listener).unwrap();
            let (first, second) = (connect(), connect());
            let numbers = [take_isn(&first).unwrap(), take_isn(&second).unwrap()];
            assert_ne!(numbers[0], numbers[1], "{address}");
            assert_eq!(take_isn(&first), None, "{address}: it is told once");
        }
    }

    #[test]
    fn the_number_stands_behind_the_headers_of_ip() {
        let mut v4 = [0; 44];
        (v4[0], v4[31]) = (0x46, 7);
        assert_eq!(isn(&v4), Some(7), "with options");
        let mut v6 = [0; 60];
        (v6[0], v6[6], v6[47]) = (0x60, 6, 9);
        assert_eq!(isn(&v6), Some(9));
        v6[6] = 0;
        assert_eq!(isn(&v6), None, "an extension header is not followed");
        assert_eq!((isn(&[]), isn(&v4[..30])), (None, None));
    }
}
