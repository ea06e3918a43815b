//! Sockets of a network namespace: listed, and ended from outside. Numbers are those of `linux/inet_diag.h`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::netlink::{Attributes, DUMP, Message, Socket};

const LIST: u16 = 20;
const DESTROY: u16 = 21;

/// Families of addresses.
const INET: u8 = 2;
const INET6: u8 = 10;

/// `struct inet_diag_sockid` names a socket; before it in an answer come four bytes, behind it twenty.
const ID: usize = 48;
const BEFORE: usize = 4;
const ANSWER: usize = BEFORE + ID + 20;
const CGROUP_ID: u16 = 21;

/// States of TCP, which other protocols borrow.
const LISTENING: u8 = 10;
/// All but closed, listening, and waiting for stray packets: what is open or on its way there.
const CONNECTED: u32 = 0x0fff & !(1 << 6) & !(1 << 7) & !(1 << LISTENING) | 1 << 1 | 1 << 12;

/// A protocol that sockets can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP; sockets without a peer do not count as connected.
    Udp = 17,
}

/// A socket that has a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    family: u8,
    id: [u8; ID],
    /// Its protocol.
    pub protocol: Protocol,
    /// Its own address; IPv4 as such.
    pub local: SocketAddr,
    /// That of its peer.
    pub peer: SocketAddr,
    /// The cgroup that it was made in.
    pub cgroup: Option<u64>,
}

/// All sockets of a protocol that have a peer.
///
/// # Errors
/// The kernel does not answer.
pub fn connected(socket: &mut Socket, protocol: Protocol) -> io::Result<Vec<Connected>> {
    let mut found = Vec::new();
    for family in [INET, INET6] {
        let answers = socket.ask(&request(LIST, family, protocol, CONNECTED, &[0; ID]), DUMP)?;
        let read = |(_, body): &(u16, Vec<u8>)| read(body, family, protocol);
        found.extend(answers.iter().filter_map(read));
    }
    Ok(found)
}

/// Where somebody listens for connections.
///
/// # Errors
/// The kernel does not answer.
pub fn listening(socket: &mut Socket) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for family in [INET, INET6] {
        let question = request(LIST, family, Protocol::Tcp, 1 << LISTENING, &[0; ID]);
        let answers = socket.ask(&question, DUMP)?;
        let read = |(_, body): &(u16, Vec<u8>)| read(body, family, Protocol::Tcp);
        found.extend(answers.iter().filter_map(read).map(|listener| listener.local));
    }
    Ok(found)
}

/// Ends a socket: whoever uses it sees `ECONNABORTED`. One that is gone is ended.
///
/// # Errors
/// `Unsupported` on a kernel that cannot.
pub fn destroy(socket: &mut Socket, found: &Connected) -> io::Result<()> {
    let order = request(DESTROY, found.family, found.protocol, CONNECTED, &found.id);
    match socket.ask(&order, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn request(kind: u16, family: u8, protocol: Protocol, states: u32, id: &[u8; ID]) -> Message {
    let mut fixed = vec![family, protocol as u8, 0, 0];
    fixed.extend(states.to_ne_bytes());
    fixed.extend(id);
    Message::new(kind, &fixed)
}

fn read(body: &[u8], family: u8, protocol: Protocol) -> Option<Connected> {
    let id: [u8; ID] = body.get(BEFORE..BEFORE + ID)?.try_into().ok()?;
    let port = |at: usize| Some(u16::from_be_bytes(id.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = id.get(at..at + 16)?.try_into().ok()?;
        let [a, b, c, d, ..] = bytes;
        Some(match family {
            INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
        })
    };
    let cgroup = Attributes::behind(ANSWER, body).value(CGROUP_ID);
    Some(Connected {
        family,
        id,
        protocol,
        local: SocketAddr::new(address(4)?, port(0)?),
        peer: SocketAddr::new(address(20)?, port(2)?),
        cgroup: cgroup.and_then(|id| Some(u64::from_ne_bytes(id.try_into().ok()?))),
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Connected, ID, INET, Protocol};

    /// A connection of nobody.
    pub(crate) fn connection(protocol: Protocol, local: &str, peer: &str) -> Connected {
        Connected {
            family: INET,
            id: [0; ID],
            protocol,
            local: local.parse().unwrap(),
            peer: peer.parse().unwrap(),
            cgroup: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::netlink::Family;

    #[test]
    fn a_connection_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut socket = Socket::open(Family::Sockets).unwrap();
        let found = connected(&mut socket, Protocol::Tcp).unwrap();
        let own = found
            .iter()
            .find(|found| found.local == stream.local_addr().unwrap());
        assert_eq!(own.map(|own| own.peer), Some(stream.peer_addr().unwrap()));
        let listener = listener.local_addr().unwrap();
        assert!(listening(&mut socket).unwrap().contains(&listener));
    }

    #[test]
    fn what_is_not_whole_is_no_socket() {
        for length in 0..BEFORE + ID {
            assert_eq!(read(&vec![0; length], INET, Protocol::Tcp), None);
        }
        assert!(read(&[0; ANSWER], INET6, Protocol::Udp).is_some());
    }
}
