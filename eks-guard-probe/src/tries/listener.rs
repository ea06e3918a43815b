//! The guard's own listener: found as any program can find it, and dialled past the redirection.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use eks_guard_core::catalogue::probe::Plan;
use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr};
use rustix::net::{bind, connect, getsockname};

use crate::answer::{Answerer, answerer, hello};
use crate::found::{Attempt, Found, conclude};
use crate::tries::socket::tcp;

/// State of a connection in the kernel's tables.
const ESTABLISHED: &str = "01";

pub(crate) fn dialled(plan: &Plan) -> Found {
    with_listener(plan, |listener, _| asked(plan, tcp(plan, listener)?, listener))
}

pub(crate) fn squatted(plan: &Plan) -> Found {
    with_listener(plan, |listener, _| {
        TcpListener::bind(listener)?;
        Ok(Found::reached("the listener's port could be bound"))
    })
}

/// The flow entry of a connection that is over must not serve another one with the same addresses.
pub(crate) fn source_port_again(plan: &Plan) -> Found {
    with_listener(plan, |listener, source| {
        let socket = tcp(plan, listener)?;
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &source)?;
        asked(plan, socket, listener)
    })
}

/// Connects to the API server, and hands on where that leads and from where, once the connection has been reset.
fn with_listener(plan: &Plan, act: impl Fn(SocketAddr, SocketAddr) -> Attempt) -> Found {
    let Some(to) = plan.api.first().copied() else {
        return Found::not_run("the plan names no API server");
    };
    conclude(listener(plan, to).and_then(|found| match found {
        Some((listener, source)) => act(listener, source),
        None => Ok(Found::not_applicable(
            "the connection is not redirected: there is no listener",
        )),
    }))
}

fn listener(plan: &Plan, to: SocketAddr) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let socket = tcp(plan, to)?;
    // Reset at the end: a connection that lingers would keep its port.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    connect(&socket, &to)?;
    let source = SocketAddr::try_from(getsockname(socket.as_fd())?)?;
    let real = real_peer(source)?;
    Ok((real != to).then_some((real, source)))
}

/// Whom a socket is really connected to: the tables of the kernel are not rewritten. Connections that are over may have had the
/// same local address.
pub(crate) fn real_peer(source: SocketAddr) -> io::Result<SocketAddr> {
    let file = if source.is_ipv4() {
        "/proc/self/net/tcp"
    } else {
        "/proc/self/net/tcp6"
    };
    let table = fs::read_to_string(file)?;
    let ends = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let ends = (table_address(words.next()?)?, table_address(words.next()?)?);
        (words.next()? == ESTABLISHED).then_some(ends)
    });
    let mut ends = ends.filter(|(local, _)| *local == source);
    ends.next()
        .map(|(_, remote)| remote)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// `0100007F:1F90`: words of the address in the machine's byte order, and the port.
fn table_address(text: &str) -> Option<SocketAddr> {
    let (addr, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..addr.len() / 8)
        .map(|at| {
            u32::from_str_radix(addr.get(at * 8..at * 8 + 8)?, 16)
                .ok()
                .map(u32::to_ne_bytes)
        })
        .collect();
    let bytes = words?.concat();
    let addr = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(addr, u16::from_str_radix(port, 16).ok()?))
}

/// Any answer means that the listener serves whom it cannot know.
fn asked(plan: &Plan, socket: std::os::fd::OwnedFd, listener: SocketAddr) -> Attempt {
    connect(&socket, &listener)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&hello())?;
    Ok(match answerer(&mut stream, &plan.guard)? {
        Answerer::Nobody => Found::blocked("closed without an answer"),
        Answerer::Guard => Found::reached("the guard answered a connection without a flow entry"),
        Answerer::Other(what) => Found::reached(what),
        Answerer::Silence => Found::not_run("the listener neither answered nor closed in time"),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use crate::tries::listener::{real_peer, table_address};

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(to).unwrap();
        assert_eq!(real_peer(stream.local_addr().unwrap()).unwrap(), to);
        let v6 = table_address("00000000000000000000000001000000:01BB").unwrap();
        assert_eq!(v6, "[::1]:443".parse().unwrap());
    }
}
