//! The node's ends of a pod's cables: the interfaces whose other end is in the pod's network namespace.
//!
//! Only the node's own namespace is asked. What a pod could say of its interfaces may be made up, down to the index that it
//! claims for the other end; which namespace an interface of the node leads to is known to the kernel alone.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Message types and flags of the kernel's `linux/rtnetlink.h` and `linux/netlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// Attributes of the kernel's `linux/if_link.h` and `linux/net_namespace.h`.
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Bytes before the attributes: `struct nlmsghdr`, then `struct ifinfomsg` or `struct rtgenmsg` with its padding.
const HEADER: usize = 16;
const IFINFOMSG: usize = 16;
const RTGENMSG: usize = 4;

/// Longest answer in one piece, and pieces of one dump.
const PIECE: usize = 64 << 10;
const MAX_PIECES: usize = 4096;

/// The interfaces of the calling thread's network namespace, by the namespace that they lead into.
#[derive(Debug)]
pub struct Cables {
    socket: OwnedFd,
    leads: Vec<(u32, i32)>,
}

impl Cables {
    /// Looks at all of them.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn list() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is number 0.
            None,
        )?;
        // The kernel numbers the namespaces that interfaces lead to when it lists the interfaces, so the list comes first.
        let leads = links(&socket)?;
        Ok(Self { socket, leads })
    }

    /// Indices of those that lead into a namespace.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn leading_into(&self, netns: BorrowedFd<'_>) -> io::Result<BTreeSet<u32>> {
        let Some(number) = number_of(&self.socket, netns)? else {
            return Ok(BTreeSet::new());
        };
        let into = self.leads.iter().filter(|(_, namespace)| *namespace == number);
        Ok(into.map(|(index, _)| *index).collect())
    }
}

/// Every interface that leads into another namespace, with that namespace's number.
fn links(socket: &OwnedFd) -> io::Result<Vec<(u32, i32)>> {
    ask(socket, RTM_GETLINK, NLM_F_DUMP, &[0; IFINFOMSG])?;
    let mut found = Vec::new();
    let mut buffer = vec![0; PIECE];
    for _ in 0..MAX_PIECES {
        let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        for (kind, body) in messages(buffer.get(..length).unwrap_or_default()) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(error_of(body)),
                RTM_NEWLINK => found.extend(lead(body)),
                _ => {}
            }
        }
    }
    Err(io::Error::other("the list of interfaces does not end"))
}

/// The number that the calling thread's namespace has given another; none if no interface leads there.
fn number_of(socket: &OwnedFd, netns: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut body = vec![0; RTGENMSG];
    body.extend(8_u16.to_ne_bytes());
    body.extend(NETNSA_FD.to_ne_bytes());
    body.extend(netns.as_fd().as_raw_fd().to_ne_bytes());
    ask(socket, RTM_GETNSID, 0, &body)?;
    let mut buffer = vec![0; PIECE];
    let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    for (kind, body) in messages(buffer.get(..length).unwrap_or_default()) {
        match kind {
            NLMSG_ERROR => return Err(error_of(body)),
            RTM_NEWNSID => {
                let number = attribute(body.get(RTGENMSG..).unwrap_or_default(), NETNSA_NSID);
                return Ok(number.filter(|number| *number >= 0));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn ask(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence and port: one question at a time, on a socket of its own.
    message.extend([0; 8]);
    message.extend(body);
    send(socket, &message, SendFlags::empty())?;
    Ok(())
}

/// Type and body of each message in a piece.
fn messages(piece: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = piece;
    while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(HEADER..length) else {
            break;
        };
        found.push((kind, body));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn lead(body: &[u8]) -> Option<(u32, i32)> {
    let index = u32_at(body, 4)?;
    Some((index, attribute(body.get(IFINFOMSG..)?, IFLA_LINK_NETNSID)?))
}

/// The value of a 32-bit attribute.
fn attribute(attributes: &[u8], wanted: u16) -> Option<i32> {
    let mut rest = attributes;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(i32::from_ne_bytes(value.try_into().ok()?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn error_of(body: &[u8]) -> io::Error {
    let code = body.get(..4).and_then(|code| code.try_into().ok());
    let code = code.map_or(0, i32::from_ne_bytes);
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn no_interface_leads_into_ones_own_namespace() {
        let own = File::open("/proc/thread-self/ns/net").unwrap();
        let cables = Cables::list().unwrap();
        assert_eq!(cables.leading_into(own.as_fd()).unwrap(), BTreeSet::new());
        // What is no namespace has no number.
        let null = File::open("/dev/null").unwrap();
        assert!(cables.leading_into(null.as_fd()).is_err());
    }

    #[test]
    fn messages_are_read_as_far_as_they_are_whole() {
        let mut link = vec![0; IFINFOMSG];
        link[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        for (kind, value) in [(5_u16, 2_i32), (IFLA_LINK_NETNSID, 3)] {
            link.extend(8_u16.to_ne_bytes());
            link.extend(kind.to_ne_bytes());
            link.extend(value.to_ne_bytes());
        }
        let mut piece = Vec::new();
        for kind in [RTM_NEWLINK, NLMSG_DONE] {
            let length = u32::try_from(HEADER + link.len()).unwrap();
            piece.extend(length.to_ne_bytes());
            piece.extend(kind.to_ne_bytes());
            piece.extend([0; 10]);
            piece.extend(&link);
        }
        let read = messages(&piece);
        assert_eq!(read.len(), 2);
        assert_eq!(lead(read[0].1), Some((7, 3)));
        for end in 0..piece.len() {
            let read = messages(&piece[..end]);
            assert_eq!(read.len(), usize::from(end >= piece.len() / 2));
        }
        for end in 0..link.len() {
            lead(&link[..end]);
        }
    }
}
