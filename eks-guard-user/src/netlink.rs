//! Netlink, as far as the guard speaks it: messages and their attributes, written and read, and a socket that waits for an
//! answer. Interfaces, packet filters and sockets are all asked for this way.

mod message;
pub mod nftables;
pub mod sockets;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

pub use self::message::{Attributes, Message};

/// Ask for all objects of a kind.
pub const DUMP: u16 = 0x300;

/// Types and flags of the kernel's `linux/netlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Longest answer in one piece, and pieces of one answer.
const PIECE: usize = 64 << 10;
const MAX_PIECES: usize = 65_536;
/// How long the kernel may take; it answers before the call returns, so this is for kernels that lose answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a list that changed while it was read is read again.
const INTERRUPTIONS: usize = 16;
/// Longest request: a table with everything in it is sent in one piece.
const SEND_BUFFER: usize = 8 << 20;

/// Which part of the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Interfaces and addresses.
    Route,
    /// Packet filters.
    Netfilter,
    /// Sockets.
    Sockets,
}

/// One object of an answer: its type, and what follows the header.
pub type Answer = (u16, Vec<u8>);

/// A socket in the network namespace of the thread that opens it; one question at a time.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel has no such part.
    pub fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            // NETLINK_ROUTE is number 0.
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
            Family::Sockets => Some(netlink::SOCK_DIAG),
        };
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Asks, and collects all of the answer. `flags` may be [`DUMP`].
    ///
    /// # Errors
    /// What the kernel answers, or that a list never held still.
    pub fn ask(&mut self, message: &Message, flags: u16) -> io::Result<Vec<Answer>> {
        for _ in 0..INTERRUPTIONS {
            self.sequence = self.sequence.wrapping_add(1);
            let bytes = message.encode(NLM_F_REQUEST | NLM_F_ACK | flags, self.sequence)?;
            send(&self.fd, &bytes, SendFlags::empty())?;
            match self.collect(self.sequence) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
        Err(io::Error::other("the list changes faster than it is read"))
    }

    /// Sends messages that count as one; each comes with its own flags. Either all of them take effect or none.
    ///
    /// # Errors
    /// What the kernel says of the first that it refuses.
    pub fn transact(&mut self, messages: &[(Message, u16)]) -> io::Result<()> {
        set_socket_send_buffer_size_force(&self.fd, SEND_BUFFER)?;
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let last = messages.len().saturating_sub(2);
        for (place, (message, flags)) in messages.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            // The last but one is acknowledged, the mark of the end behind it is not on all kernels.
            let ack = if place == last { NLM_F_ACK } else { 0 };
            bytes.extend(message.encode(NLM_F_REQUEST | ack | flags, self.sequence)?);
        }
        send(&self.fd, &bytes, SendFlags::empty())?;
        self.collect(first).map(drop)
    }

    /// Reads until the question that was asked with this number, or one after it, is answered or refused.
    fn collect(&self, since: u32) -> io::Result<Vec<Answer>> {
        let mut collected = Vec::new();
        let mut is_interrupted = false;
        let mut buffer = vec![0; PIECE];
        for _ in 0..MAX_PIECES {
            let (length, whole) = recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC)?;
            if whole > PIECE {
                return Err(io::Error::other("an answer is longer than any should be"));
            }
            for read in message::messages(buffer.get(..length).unwrap_or_default()) {
                // What is left of an earlier question, of which the first error was enough.
                if read.sequence.wrapping_sub(since) > u32::MAX / 2 {
                    continue;
                }
                is_interrupted |= read.flags & NLM_F_DUMP_INTR != 0;
                match read.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        message::outcome(read.body)?;
                        return match is_interrupted {
                            true => Err(io::ErrorKind::Interrupted.into()),
                            false => Ok(collected),
                        };
                    }
                    kind => collected.push((kind, read.body.to_vec())),
                }
            }
        }
        Err(io::Error::other("the answer does not end"))
    }
}
