//! Starts the agent's command inside the boundary: cgroup, PID and mount namespaces, no capability, cleaned environment.
//!
//! Three processes take part: the guard (`sandbox`), PID 1 of the new namespaces (`init`), and the process that
//! drops its privileges and becomes the command (`exec`). They talk over one socket each (`channel`).

pub mod channel;
pub mod environment;
pub mod exec;
pub mod hide;
pub mod init;
pub mod mounts;
pub mod privilege;
pub mod sandbox;
pub mod scope;
pub mod seccomp;
pub mod signals;
pub mod startup;
pub mod state;
pub mod user;

use std::ffi::OsStr;
use std::process::ExitCode;

/// First argument that makes this program PID 1 of a run. Never typed by a person.
pub(crate) const INIT: &str = "__init";
/// First argument that makes this program drop its privileges and become the command.
pub(crate) const EXEC: &str = "__exec";

/// Runs one of the two inner processes when the first argument asks for it.
#[must_use]
pub fn inner_process(first_argument: &OsStr) -> Option<ExitCode> {
    if first_argument == INIT {
        Some(init::main())
    } else if first_argument == EXEC {
        Some(exec::main())
    } else {
        None
    }
}
