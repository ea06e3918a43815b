//! Further API servers over the store of a cluster: what a managed control plane replaces one by one.

use std::net::SocketAddr;

use anyhow::Result;
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::http::Client;
use crate::leash::Leashed;
use crate::wait;

/// An API server beside the cluster's own. Killed when dropped.
pub struct Replica {
    address: SocketAddr,
    process: Leashed,
}

impl Cluster {
    /// Starts an API server with further arguments; returns when it is ready.
    pub fn start_replica(&self, further: &[&str]) -> Result<Replica> {
        let (address, process) = self.control_plane.start_replica(further)?;
        let mut replica = Replica { address, process };
        let identity = self.authority().client("rig-admin", "system:masters")?;
        let client = Client::new(address, &self.authority().pem(), Some(&identity))?;
        wait::until("another API server is ready", || {
            replica.process.check_alive()?;
            let reply = client.request("GET", "/readyz", &[], b"");
            Ok(reply.is_ok_and(|reply| reply.status == 200))
        })?;
        Ok(replica)
    }
}

impl Replica {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it to end, and waits until it has finished what it was doing.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        wait::until("the API server ends", || Ok(self.process.exit_code()?.is_some()))
    }
}
