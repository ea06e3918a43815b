//! The API server as the operator's kubeconfig names it: where it is, how it proves itself, how the guard proves itself.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, ServerName};

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
    ClientCertificate(Arc<CertifiedKey>),
}

/// Why there is no credential right now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CredentialError {
    /// Cause and remedy in one line, without the credential.
    pub message: String,
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
