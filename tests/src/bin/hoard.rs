//! `hoard COUNT ADDRESS...`: opens COUNT sockets for each address, fills up the memory that the kernel grants each of them for
//! options, and connects it. Says at last how many were refused, and how many were not; all are open until then.

#![allow(clippy::print_stdout, reason = "standard output is its answer")]

use std::env;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockFilter, Socket, Type};

/// Where somebody answers, it is at once.
const PATIENCE: Duration = Duration::from_millis(200);
/// Instructions of a filter, at most.
const LONGEST: usize = 4096;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let count: usize = args.next().context("hoard COUNT ADDRESS...")?.parse()?;
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).context("raising the number of sockets")?;
    let filter = largest()?;
    // Nothing but the guard needs more of that memory.
    let own = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    connect(own.local_addr()?, &filter)?
        .1
        .context("a connection that the guard does not redirect")?;
    let (mut sockets, mut refused, mut others) = (Vec::new(), 0, 0);
    for text in args {
        let address = text.parse()?;
        for _ in 0..count {
            let (socket, connected) = connect(address, &filter)?;
            match connected {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused += 1,
                Ok(()) | Err(_) => others += 1,
            }
            sockets.push(socket);
        }
    }
    println!("refused {refused} others {others}");
    Ok(())
}

fn connect(address: SocketAddr, filter: &[SockFilter]) -> Result<(Socket, std::io::Result<()>)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.attach_filter(filter).context("filling up the options")?;
    let connected = socket.connect_timeout(&address.into(), PATIENCE);
    Ok((socket, connected))
}

/// The largest filter that a new socket takes: a few bytes are left beside it.
fn largest() -> Result<Vec<SockFilter>> {
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
