//! Which flow a connection is: the kernel's word on who connected, and where to.

use std::net::SocketAddr;

/// The source address of an accepted connection, as the listener sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownstreamAddr(pub SocketAddr);

/// Where the caller meant to go. Evidence only: the proxy never dials it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalDstAddr(pub SocketAddr);

/// What the kernel recorded before the SYN left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the caller meant to go.
    pub original_dst: OriginalDstAddr,
    /// Cgroup that classified the socket.
    pub cgroup: u64,
    /// Process that called connect(), in the initial PID namespace.
    pub pid: u32,
}

/// Looks a flow up and removes it, so that a source port used again finds nothing.
pub trait FlowTable: Send + Sync + 'static {
    /// The flow of a connection accepted from `downstream`; `None` closes the connection.
    fn take(&self, downstream: DownstreamAddr) -> Option<Flow>;
}
