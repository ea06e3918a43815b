//! Somebody who can be reached: says who it is to whoever asks, by TCP and UDP, and counts what arrives.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use crate::netns::Netns;
use crate::node::meter;

/// How long a caller may think about what to ask.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host, or a service of one.
pub struct Fixture {
    name: &'static str,
    netns: Arc<Netns>,
    sockets: Vec<SocketAddr>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    datagrams: AtomicU64,
}

/// What arrived: packets are counted by the kernel, whatever their protocol and port, connections and datagrams by who
/// answers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// IP packets to the addresses of the fixture.
    pub packets: u64,
    /// TCP connections accepted.
    pub connections: u64,
    /// UDP datagrams read.
    pub datagrams: u64,
}

impl Sub for Arrivals {
    type Output = Self;

    /// What arrived after `mark` was taken.
    fn sub(self, mark: Self) -> Self {
        Self {
            packets: self.packets - mark.packets,
            connections: self.connections - mark.connections,
            datagrams: self.datagrams - mark.datagrams,
        }
    }
}

/// How a fixture speaks over TCP.
pub(crate) enum Speech {
    /// A line for a line; HTTP/1.1 for those who speak it.
    Plain,
    /// The same inside TLS.
    Tls(TlsAcceptor),
}

/// Makes the reply to a datagram; none: silence.
pub(crate) type Reply = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

impl Fixture {
    /// Listens on all `sockets` in `netns`, and answers on `runtime` as long as that lives.
    pub(crate) fn start(
        name: &'static str,
        netns: &Arc<Netns>,
        sockets: Vec<SocketAddr>,
        speech: Speech,
        runtime: &Handle,
        reply: Reply,
    ) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let speech = Arc::new(speech);
        let _context = runtime.enter();
        for &socket in &sockets {
            let (tcp, udp) = netns
                .enter(|| Ok((TcpListener::bind(socket)?, UdpSocket::bind(socket)?)))
                .with_context(|| format!("{name}: listening on {socket}"))?;
            tcp.set_nonblocking(true)?;
            udp.set_nonblocking(true)?;
            let tcp = tokio::net::TcpListener::from_std(tcp)?;
            let udp = tokio::net::UdpSocket::from_std(udp)?;
            runtime.spawn(accept(tcp, name, speech.clone(), counts.clone()));
            runtime.spawn(receive(udp, reply.clone(), counts.clone()));
        }
        Ok(Self {
            name,
            netns: netns.clone(),
            sockets,
            counts,
        })
    }

    /// Somebody who answers for themselves: only packets are counted.
    pub(crate) fn observe(name: &'static str, netns: &Arc<Netns>, sockets: Vec<SocketAddr>) -> Self {
        Self {
            name,
            netns: netns.clone(),
            sockets,
            counts: Arc::default(),
        }
    }

    /// Who it is.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it says.
    #[must_use]
    pub fn line(&self) -> String {
        line(self.name)
    }

    /// Where it listens.
    #[must_use]
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.sockets
    }

    /// Everything that has arrived until now; less an earlier one it is what arrived since.
    pub fn arrivals(&self) -> Result<Arrivals> {
        self.count(|_| true)
    }

    /// The same, with packets of these senders only.
    pub fn arrivals_from(&self, senders: &[IpAddr]) -> Result<Arrivals> {
        self.count(|sender| senders.contains(&sender))
    }

    fn count(&self, sender: impl Fn(IpAddr) -> bool) -> Result<Arrivals> {
        let mine = |to: IpAddr| self.sockets.iter().any(|socket| socket.ip() == to);
        let packets = meter::read(&self.netns)?
            .iter()
            .filter(|count| mine(count.to) && sender(count.from))
            .map(|count| count.packets)
            .sum();
        Ok(Arrivals {
            packets,
            connections: self.counts.connections.load(Ordering::SeqCst),
            datagrams: self.counts.datagrams.load(Ordering::SeqCst),
        })
    }
}

/// What a fixture of this name says.
pub(crate) fn line(name: &str) -> String {
    format!("this is {name}")
}

async fn accept(
    listener: tokio::net::TcpListener,
    name: &'static str,
    speech: Arc<Speech>,
    counts: Arc<Counts>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::SeqCst);
        let speech = speech.clone();
        // It ends with its caller, or with the runtime.
        Handle::current().spawn(async move {
            let answered = async {
                match speech.as_ref() {
                    Speech::Plain => answer(stream, name).await,
                    Speech::Tls(acceptor) => answer(acceptor.accept(stream).await?, name).await,
                }
            };
            tokio::time::timeout(PATIENCE, answered).await
        });
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) -> std::io::Result<()> {
    let (mut asked, mut byte) = (Vec::new(), [0]);
    let is_http = |asked: &[u8]| asked.windows(7).any(|seven| seven == b"HTTP/1.");
    // A line, or the head of an HTTP request.
    let whole = |asked: &[u8]| match is_http(asked) {
        true => asked.ends_with(b"\r\n\r\n"),
        false => asked.ends_with(b"\n"),
    };
    while !whole(&asked) && asked.len() < 8192 {
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        asked.extend(byte);
    }
    let line = line(name);
    let reply = if is_http(&asked) {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{line}\n",
            line.len() + 1
        )
    } else {
        format!("{line}\n")
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

async fn receive(socket: tokio::net::UdpSocket, reply: Reply, counts: Arc<Counts>) {
    let mut buffer = vec![0; 2048];
    loop {
        // An error is news of an earlier reply that met nobody.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        counts.datagrams.fetch_add(1, Ordering::SeqCst);
        if let Some(reply) = reply(&buffer[..length]) {
            socket.send_to(&reply, from).await.ok();
        }
    }
}
