//! Why a run did not happen: one line with cause and remedy, and the exit code.

use std::error::Error;

use eks_guard_core::reason::{Reason, Refusal};
use nix::sys::signal::Signal;

use crate::config::exit;
use crate::recording::writer::SessionEnd;
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

    /// The operator called the start off. The exit code is the one that shells give.
    pub(crate) fn called_off(signal: Signal) -> Failure {
        let number = u8::try_from(signal as i32).unwrap_or_default();
        Failure {
            code: number.saturating_add(128),
            message: format!("called off by {signal} before the command was started"),
        }
    }

    /// The API server cannot be used. What a refusal tells the agent to do is not what the operator has to do.
    pub(crate) fn api_server(url: &str, refusal: &Refusal) -> Failure {
        let known = [
            (
                Reason::UpstreamUnreachable,
                "reach",
                "check that it runs, and the `server` of the kubeconfig",
            ),
            (
                Reason::UpstreamUntrusted,
                "trust",
                "check `certificate-authority` and `server` of the kubeconfig",
            ),
            (
                Reason::UpstreamCredential,
                "log in to",
                "log in again, or correct the user entry of the kubeconfig",
            ),
        ];
        let (doing, remedy) = known
            .iter()
            .find(|(reason, ..)| *reason == refusal.reason)
            .map_or(("use", "check the kubeconfig"), |(_, doing, remedy)| {
                (*doing, *remedy)
            });
        let fact = refusal.message.trim_end_matches('.');
        let fact = fact.rsplit_once("; ").map_or(fact, |(fact, _)| fact);
        Failure {
            code: exit::API_SERVER,
            message: format!("cannot {doing} the API server {url}; {remedy}. {fact}"),
        }
    }

    /// What the record says about a session whose command was never started.
    pub(crate) fn end(&self) -> SessionEnd {
        SessionEnd {
            exit_code: None,
            message: Some(format!("not started: {}", self.line())),
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

#[cfg(test)]
mod tests {
    use eks_guard_core::reason::{Reason, Refusal};

    use crate::app::failure::Failure;

    #[test]
    fn the_operator_is_told_what_the_operator_can_do() {
        let refusal = Refusal::new(
            Reason::UpstreamUnreachable,
            "The API server cannot be reached at [::1]:1: Connection refused; retry in a moment.",
        );
        let failure = Failure::api_server("https://[::1]:1", &refusal);
        assert_eq!(
            failure.message,
            "cannot reach the API server https://[::1]:1; check that it runs, and the `server` of the kubeconfig. \
             The API server cannot be reached at [::1]:1: Connection refused"
        );
        assert_eq!(failure.code, 4);
    }

    #[test]
    fn a_session_that_never_began_ends_with_the_reason() {
        let failure = Failure {
            code: 3,
            message: "no cgroup2\nmore".to_owned(),
        };
        let end = failure.end();
        assert_eq!(
            (end.exit_code, end.message.as_deref()),
            (None, Some("not started: no cgroup2"))
        );
    }
}
