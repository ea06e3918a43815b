//! The proxy of a node is a process of its own, without privileges: it faces the agents' bytes, and what it may do is what the
//! loader, this process, hands it: listening sockets, the workloads they belong to, credentials, policies.
//!
//! What a compromised proxy has is what its memory holds: the upstream credential, the agents' requests under way, and the key
//! of the certificate that agents see. It changes no map, opens no file, and rewrites no record.

mod agents_view;
mod child;
mod confine;
mod credential;
mod message;
mod origins;
mod record;
mod supervisor;
mod syscalls;

use std::ffi::OsStr;
use std::process::ExitCode;

pub(crate) use agents_view::ProxyLink;
pub(crate) use credential::publish;
pub(crate) use message::{Resident, Setup, ToProxy};
pub(crate) use origins::FlowTables;
pub(crate) use record::Session;
pub(crate) use supervisor::ProxyProcess;

/// First argument that makes this program the proxy of a node. Never typed by a person.
const PROXY: &str = "__proxy";

/// Runs the proxy when the first argument asks for it.
#[must_use]
pub fn inner_process(first_argument: &OsStr) -> Option<ExitCode> {
    (first_argument == PROXY).then(child::main)
}
