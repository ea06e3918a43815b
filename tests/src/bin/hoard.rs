//! `hoard COUNT ADDRESS...`: opens COUNT sockets for each address, fills up the memory that the kernel grants each of them for
//! options, and connects it. Says at last how many were refused, and how many were not; all are open until then.

#![allow(clippy::print_stdout, reason = "standard output is its answer")]

use std::env;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use rig::options;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockFilter, Socket, Type};

/// Where somebody answers, it is at once.
const PATIENCE: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let count: usize = args.next().context("hoard COUNT ADDRESS...")?.parse()?;
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).context("raising the number of sockets")?;
    let filter = options::largest()?;
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
