//! Where redirected connections arrive: one random port on both loopback addresses.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::drain::Tasks;
use crate::ebpf::keep_syns;
use crate::proxy::{Place, Proxy, connection};

/// The kernel picks the IPv4 port; the same one may be taken on IPv6.
const BIND_ATTEMPTS: usize = 16;

/// Out of descriptors, for example: a pause lets connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Bound sockets that nobody serves yet: they can be bound on one thread and served on others.
#[derive(Debug)]
pub struct Sockets {
    v4: std::net::TcpListener,
    v6: Option<std::net::TcpListener>,
}

impl Sockets {
    /// See [`Listener::bind`].
    ///
    /// # Errors
    /// No port could be bound.
    pub fn bind() -> io::Result<Self> {
        let mut attempts = BIND_ATTEMPTS;
        loop {
            let v4 = listen((Ipv4Addr::LOCALHOST, 0).into())?;
            let port = v4.local_addr()?.port();
            attempts -= 1;
            match listen((Ipv6Addr::LOCALHOST, port).into()) {
                Ok(v6) => return Ok(Self { v4, v6: Some(v6) }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "no IPv6 loopback; listening on IPv4 only");
                    return Ok(Self { v4, v6: None });
                }
            }
        }
    }

    /// The port, the same on both addresses.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.v4.local_addr()?.port())
    }

    /// Its descriptors, to be handed to the process that serves them: IPv4 first.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        [Some(self.v4.as_fd()), self.v6.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// What [`Sockets::descriptors`] gave; `None` when there are none.
    #[must_use]
    pub fn handed(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut sockets = descriptors.into_iter().map(std::net::TcpListener::from);
        Some(Self {
            v4: sockets.next()?,
            v6: sockets.next(),
        })
    }
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.v4.as_fd()
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    // The standard library listens with a short queue; listening again makes it longer.
    rustix::net::listen(&socket, BACKLOG)?;
    keep_syns(&socket)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The listening sockets, served.
pub struct Listener {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
}

impl Listener {
    /// Binds the same random port on 127.0.0.1 and, where the host has IPv6, on ::1, in the network namespace of the
    /// calling thread. Does not block; call it inside the runtime.
    ///
    /// # Errors
    /// No port could be bound.
    pub fn bind() -> io::Result<Self> {
        Self::of(Sockets::bind()?)
    }

    /// A listener on sockets that were bound elsewhere. Call it inside the runtime.
    ///
    /// # Errors
    /// The runtime cannot watch them.
    pub fn of(sockets: Sockets) -> io::Result<Self> {
        Ok(Self {
            port: sockets.port()?,
            v4: TcpListener::from_std(sockets.v4)?,
            v6: sockets.v6.map(TcpListener::from_std).transpose()?,
        })
    }

    /// The port, the same on both addresses.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves until `drain` is cancelled, then lets requests under way finish within the drain limit.
    pub async fn serve(self, proxy: Arc<Proxy>, place: Place, drain: CancellationToken) {
        let tasks = Tasks::new(drain.clone());
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                accepted = self.v4.accept() => accepted,
                accepted = accept_v6(self.v6.as_ref()) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => accept(&proxy, &place, &tasks, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((self.v4, self.v6));
        tasks.finish(proxy.limits.drain).await;
    }
}

async fn accept_v6(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn accept(proxy: &Arc<Proxy>, place: &Place, tasks: &Tasks, stream: TcpStream, peer: SocketAddr) {
    let (proxy, place) = (Arc::clone(proxy), place.clone());
    tasks.spawn(connection::serve(proxy, place, tasks.clone(), stream, peer));
}
