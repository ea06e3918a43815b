//! A pod that forwards to the API server whatever connects to it, as a `kubectl proxy` or an ingress left open would.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;

use crate::leash::Leashed;
use crate::node::NodeRig;
use crate::node::network::{API, API_PORT};
use crate::node::pod::{Pod, PodSpec};
use crate::node::profile::Profile;
use crate::{programs, wait};

/// Where it listens.
const PORT: u16 = 8443;

/// The pod and its process.
pub struct Relay<'a> {
    // Before the pod, so that it is not killed as a left-over.
    process: Leashed,
    pod: Pod<'a>,
}

impl NodeRig {
    /// Runs a pod that relays.
    pub fn run_relay(&self, spec: &PodSpec) -> Result<Relay<'_>> {
        let pod = self.run_pod(spec)?;
        let target = API.sockets(pod.families(), API_PORT);
        let mut command = pod.command(Profile::Restricted, &programs::beside("relay")?)?;
        command
            .arg(PORT.to_string())
            .args(target.first().map(SocketAddr::to_string));
        let log = self.cluster().folder().join(format!("relay-{}.log", pod.uid()));
        let mut process = Leashed::start_command("relay", command, &log)?;
        wait::until("the relay is ready", || {
            process.check_alive()?;
            Ok(fs::read_to_string(&log)?.starts_with("ready\n"))
        })?;
        Ok(Relay { process, pod })
    }
}

impl Relay<'_> {
    /// The pod.
    #[must_use]
    pub fn pod(&self) -> &Pod<'_> {
        &self.pod
    }

    /// Where it can be reached.
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketAddr> {
        let addresses = self.pod.addresses();
        addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, PORT))
            .collect()
    }

    /// Connections that it has accepted until now.
    pub fn connections(&self) -> Result<usize> {
        let log = fs::read_to_string(self.process.log())?;
        Ok(log.lines().filter(|line| line.starts_with("connection ")).count())
    }
}
