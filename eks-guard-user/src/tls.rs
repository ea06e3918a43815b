//! TLS on both sides: a certificate authority of this run downstream, the kubeconfig's CA and nothing else upstream.

pub mod ca;
pub mod downstream;
pub mod upstream;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Protocols offered on both sides, best first.
const ALPN: [&[u8]; 2] = [ALPN_H2, b"http/1.1"];

/// ALPN name of HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Making a key or a certificate of the run's authority.
    #[error("making a certificate of the run's certificate authority")]
    Certificate(#[source] rcgen::Error),
    /// Building a TLS configuration from keys and certificates.
    #[error("setting up TLS")]
    Setup(#[source] rustls::Error),
    /// None of the cluster's CA certificates can be used.
    #[error("the kubeconfig's certificate authority holds no usable certificate")]
    NoRoots,
}

/// The one crypto provider, given explicitly so that no global default is needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn alpn() -> Vec<Vec<u8>> {
    ALPN.iter().map(|name| name.to_vec()).collect()
}
