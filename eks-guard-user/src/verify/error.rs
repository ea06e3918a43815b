//! Why there is no report.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, exit};
use crate::ebpf::LoadError;
use crate::node::admin::ListenError;
use crate::node::config::NodeConfigError;
use crate::node::daemon::Failure;
use crate::node::state::StateError;
use crate::node::status::StatusError;
use crate::node::trial::TrialError;
use crate::probe::ProbeError;
use crate::upstream::UpstreamError;
use crate::verify::not_built;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("cannot find the probe {}: build it with `cargo xtask build`, or give --probe", path.display())]
    NoProbe { path: PathBuf, source: io::Error },
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot {action}")]
    Step { action: &'static str, source: io::Error },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the API server has no address")]
    NoApiServer,
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    NodeConfig(#[from] NodeConfigError),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("this node cannot be tried")]
    Node(#[source] Failure),
    #[error(transparent)]
    Trial(#[from] TrialError),
    #[error("{0}")]
    NoPod(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    #[error("cannot {action} the key of the reports {}", path.display())]
    Key { action: &'static str, path: PathBuf },
    #[error("the report is not valid: {0}")]
    Report(&'static str),
}

impl VerifyError {
    /// A file that could not be used.
    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VerifyError {
        let path = path.to_owned();
        move |source| VerifyError::File { action, path, source }
    }

    /// A step that failed.
    pub(crate) fn step(action: &'static str) -> impl Fn(io::Error) -> VerifyError {
        move |source| VerifyError::Step { action, source }
    }

    /// Exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Config(error) => error.code,
            Self::Probe(ProbeError::Ended(code)) => not_built(*code),
            Self::Load(_)
            | Self::Step { .. }
            | Self::Probe(ProbeError::Run(_) | ProbeError::Answer(_))
            | Self::Status(_)
            | Self::Node(_)
            | Self::State(_)
            | Self::Listen(_)
            | Self::Output(_)
            | Self::Trial(_) => exit::MACHINE,
            Self::Upstream(UpstreamError::Resolve { .. }) | Self::NoApiServer => exit::API_SERVER,
            Self::Upstream(_)
            | Self::NoProbe { .. }
            | Self::File { .. }
            | Self::NodeConfig(_)
            | Self::NoPod(_)
            | Self::Key { .. }
            | Self::Report(_) => exit::USAGE,
        }
    }
}
