//! The API server's side: only the kubeconfig's CA is trusted, and the guard's client certificate is shown if it has one.

use std::sync::Arc;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::tls::{TlsError, alpn, provider};
use crate::upstream::Endpoint;

/// The configuration of upstream connections.
///
/// # Errors
/// The endpoint has no usable CA certificate.
pub fn client_config(
    endpoint: &Endpoint,
    certificate: Option<&Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(endpoint.roots.iter().cloned());
    if usable == 0 {
        return Err(TlsError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key)))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}
