//! Why a run did not happen: one line with cause and remedy, and the exit code.

use std::error::Error;

use eks_guard_core::reason::{Reason, Refusal};

use crate::config::exit;
use crate::telemetry::{chain, say};
use crate::upstream::UpstreamError;

/// What ends a run before its command was started.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// This machine cannot hold the boundary.
    pub(crate) fn machine(doing: &str, error: &dyn Error) -> Failure {
        Failure {
            code: exit::MACHINE,
            message: format!("{doing}: {}", chain(error)),
        }
    }

    /// The machine, with an error that says itself what was being done.
    pub(crate) fn machine_says(error: &dyn Error) -> Failure {
        Failure {
            code: exit::MACHINE,
            message: chain(error),
        }
    }

    /// The kubeconfig cannot be used, or leads to no address.
    pub(crate) fn kubeconfig(error: &UpstreamError) -> Failure {
        let code = if matches!(error, UpstreamError::Resolve { .. }) {
            exit::API_SERVER
        } else {
            exit::USAGE
        };
        Failure {
            code,
            message: chain(error),
        }
    }

    /// The API server cannot be used.
    pub(crate) fn api_server(url: &str, refusal: &Refusal) -> Failure {
        let doing = [
            (Reason::UpstreamUnreachable, "reach"),
            (Reason::UpstreamUntrusted, "trust"),
            (Reason::UpstreamCredential, "log in to"),
        ];
        let doing = doing
            .iter()
            .find(|(reason, _)| *reason == refusal.reason)
            .map_or("use", |(_, doing)| doing);
        let message = format!("cannot {doing} the API server {url}: {}", refusal.message);
        Failure {
            code: exit::API_SERVER,
            message,
        }
    }

    /// The one line of the operator.
    pub(crate) fn line(&self) -> &str {
        self.message.lines().next().unwrap_or_default().trim_end()
    }

    /// Prints the line; returns the exit code. What follows the first line, as the kernel's verifier writes, is logged.
    pub(crate) fn report(&self) -> u8 {
        say(self.line());
        if let Some((_, rest)) = self.message.split_once('\n') {
            tracing::info!("{rest}");
        }
        self.code
    }
}
