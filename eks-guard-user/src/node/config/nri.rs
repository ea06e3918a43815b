//! Whether the container runtime is asked to hold pods back, and where it listens.

use std::path::PathBuf;

use eks_guard_core::yaml::Field;

use crate::node::config::check::Checker;
use crate::node::config::wire;

/// Where containerd and CRI-O listen for plugins.
const SOCKET: &str = "/var/run/nri/nri.sock";

/// The runtime's plugin interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NriConfig {
    /// What becomes of agents that are not ready in time.
    pub mode: NriMode,
    /// The runtime's socket.
    pub socket: PathBuf,
}

/// What becomes of a pod that is not classified, or an agent that is not served, before the runtime must go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NriMode {
    /// It begins all the same, and reaches no API server until it is.
    Optional,
    /// An agent does not begin, and the kubelet tries again; other pods begin all the same.
    Required,
}

/// Checks the `nri` section; `None` when the runtime is not connected to.
pub(super) fn check(checker: &mut Checker<'_>, nri: &Field<wire::Nri>) -> Option<NriConfig> {
    let nri = nri.as_ref()?;
    let mode = checker.required(&nri.value.mode, nri.referenced, "mode", "mode: required")?;
    let socket = match &nri.value.socket {
        Some(path) => checker.path(path, "socket")?,
        None => PathBuf::from(SOCKET),
    };
    let mode = match mode.value.as_str() {
        "disabled" => return None,
        "optional" => NriMode::Optional,
        "required" => NriMode::Required,
        other => {
            let message = format!("mode {other:?} is not known; write `disabled`, `optional` or `required`");
            checker.fail(mode.referenced, message);
            return None;
        }
    };
    Some(NriConfig { mode, socket })
}
