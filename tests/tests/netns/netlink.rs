//! As much of rtnetlink as a hostile pod needs: a new link, said in the kernel's own bytes, which ip(8) cannot say.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
/// Request, acknowledge, create, and nothing of that name before.
const FLAGS: u16 = 0x605;
const HEADER: usize = 16;

/// Of a link to be.
#[derive(Clone, Copy)]
pub(crate) enum State {
    Down = 0,
    Up = 1,
}

/// `struct ifinfomsg` of a link: no index, its flags, and which of them count.
pub(crate) fn link(state: State) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend([(state as u32).to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
    bytes
}

/// An attribute, padded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Makes a link, in this thread's network namespace unless an attribute says otherwise.
pub(crate) fn new_link(body: &[u8]) -> io::Result<()> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let length = u32::try_from(HEADER + body.len()).unwrap();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([RTM_NEWLINK.to_ne_bytes(), FLAGS.to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 512];
    recv(&socket, &mut answer, RecvFlags::empty())?;
    match i32::from_ne_bytes(answer[HEADER..HEADER + 4].try_into().unwrap()) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
