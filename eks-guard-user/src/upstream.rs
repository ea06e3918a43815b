//! The API server as the operator's kubeconfig names it: where it is, how it proves itself, how the guard proves itself.

mod agent;
mod certificate;
mod credential;
mod endpoint;
mod error;
mod exec;
mod files;
mod handover;
mod kubeconfig;
mod refreshed;
mod token;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;
use rustls_pki_types::{CertificateDer, ServerName};

pub use crate::upstream::agent::{AgentKubeconfig, PLACEHOLDER_TOKEN};
pub use crate::upstream::certificate::ClientCertificate;
pub use crate::upstream::error::UpstreamError;
pub use crate::upstream::handover::{HandedCredential, HandedEndpoint, HandoverError};

/// Where to look for the operator's kubeconfig, and whose credential plugins to start.
#[derive(Clone, Debug, Default)]
pub struct KubeconfigOptions {
    /// `--kubeconfig`: this file and no other.
    pub file: Option<PathBuf>,
    /// `--context`; else `current-context`.
    pub context: Option<String>,
    /// The variable `KUBECONFIG`: a list of files.
    pub kubeconfig_env: Option<OsString>,
    /// Home folder of the invoking user, for `~/.kube/config`.
    pub home: PathBuf,
    /// `PATH`, where credential plugins are looked for; the usual system folders when absent.
    pub search_path: Option<OsString>,
    /// The invoking user, when the guard itself runs as root on their behalf.
    pub run_as: Option<RunAs>,
}

/// The user that a credential plugin runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Primary group id; there are no supplementary groups.
    pub gid: u32,
    /// Value of `HOME`.
    pub home: PathBuf,
}

/// Everything the guard knows of the API server before the first connection.
pub struct Upstream {
    /// Where it is and how it proves itself.
    pub endpoint: Endpoint,
    /// How the guard proves itself.
    pub credentials: Arc<dyn CredentialSource>,
    /// What the agent's tree sees in place of the operator's files.
    pub kubeconfig: AgentKubeconfig,
    /// What the operator should know, one line each; nothing here stops the start.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Reads the operator's kubeconfig and resolves the API server's name. Blocks; starts no plugin and opens no connection.
///
/// # Errors
/// Whatever stands in the way of using that kubeconfig: one line with cause and remedy.
pub fn load(options: &KubeconfigOptions) -> Result<Upstream, UpstreamError> {
    let chosen = kubeconfig::choose(options)?;
    let endpoint = endpoint::resolve(&chosen)?;
    let mut warnings = Vec::new();
    let credentials = credential::source(&chosen, options, &mut warnings)?;
    let kubeconfig = AgentKubeconfig::new(&chosen, options)?;
    Ok(Upstream {
        endpoint,
        credentials,
        kubeconfig,
        warnings,
    })
}

/// The API server by a ServiceAccount token, as a pod is given one. Blocks; opens no connection.
///
/// # Errors
/// As [`load`].
pub fn load_service_account(
    server: &str,
    token_file: &Path,
    certificate_authority: &Path,
) -> Result<(Endpoint, Arc<dyn CredentialSource>), UpstreamError> {
    let chosen = kubeconfig::Chosen::service_account(server, token_file, certificate_authority);
    let endpoint = endpoint::resolve(&chosen)?;
    let mut warnings = Vec::new();
    let credentials = credential::source(&chosen, &KubeconfigOptions::default(), &mut warnings)?;
    Ok((endpoint, credentials))
}

/// The one API server of a run: pinned, whatever the agent's original destination was.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://host:port` as in the kubeconfig, path prefix included.
    pub url: String,
    /// Host and port for the `Host` header and `:authority`.
    pub authority: String,
    /// Path before `/api`, without a trailing slash; usually empty.
    pub path_prefix: String,
    /// Resolved addresses, at least one.
    pub addresses: Vec<SocketAddr>,
    /// Name the server certificate must carry (`tls-server-name` or the host).
    pub server_name: ServerName<'static>,
    /// The cluster's CA certificates: the only roots.
    pub roots: Vec<CertificateDer<'static>>,
}

/// What the guard presents upstream.
#[derive(Clone)]
pub enum Credential {
    /// `Authorization: Bearer …` (marked sensitive), one per request.
    Bearer(HeaderValue),
    /// A TLS client certificate; a changed one means new upstream connections.
    ClientCertificate(Arc<ClientCertificate>),
}

impl fmt::Debug for Credential {
    /// Says which kind it is, and never what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Credential::Bearer(..)",
            Self::ClientCertificate(_) => "Credential::ClientCertificate(..)",
        })
    }
}

/// Why there is no credential right now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CredentialError {
    /// Cause and remedy in one line, without the credential.
    pub message: String,
}

impl CredentialError {
    /// An error with this text.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// A boxed future of a credential.
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Credential, CredentialError>> + Send + 'a>>;

/// Hands out the current credential and gets a new one before it expires.
pub trait CredentialSource: Send + Sync + 'static {
    /// The credential to use now; cheap when a fresh one is at hand.
    fn credential(&self) -> CredentialFuture<'_>;

    /// The API server answered 401: forget what is cached, get another.
    fn invalidate(&self);
}
