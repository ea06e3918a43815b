//! What is known about a connection, shared by all its requests.

use std::net::IpAddr;
use std::sync::Arc;

use eks_guard_core::record::Caller;
use tokio_util::sync::CancellationToken;

use crate::proxy::{Proxy, Workload};
use crate::tls::downstream::host_of;

/// One downstream connection whose flow the kernel vouched for.
pub(crate) struct Connection {
    /// Who connected.
    pub(crate) workload: Arc<Workload>,
    /// Where the caller meant to go. Evidence only.
    pub(crate) original_dst: IpAddr,
    /// The same with its port, as it stands in events.
    pub(crate) original_destination: String,
    /// The process that connected.
    pub(crate) caller: Caller,
    /// Set when the guard stops.
    pub(crate) drain: CancellationToken,
}

impl Connection {
    /// Whether a `Host` or `:authority` value names the API server, or the address the caller dialled.
    pub(crate) fn is_known_authority(&self, proxy: &Proxy, authority: &str) -> bool {
        proxy.names.contains(authority)
            || host_of(authority)
                .parse::<IpAddr>()
                .is_ok_and(|address| address == self.original_dst)
    }
}
