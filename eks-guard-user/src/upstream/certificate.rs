//! A client certificate with its key, from PEM.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Joins chain and key and checks that they belong together. The error is a cause without the key.
pub(super) fn certified_key(chain: &[u8], key: &[u8]) -> Result<Arc<ClientCertificate>, &'static str> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| "the client certificate is not valid PEM")?;
    if chain.is_empty() {
        return Err("the client certificate holds no PEM certificate");
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "the client key is not an unencrypted PEM private key")?;
    ClientCertificate::new(chain, key).map(Arc::new).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            "the client key does not belong to the client certificate"
        } else {
            "the client certificate or key is of a kind that cannot be used"
        }
    })
}

/// A client certificate and its key, ready to sign and in a form that can be handed to another process.
#[derive(Debug)]
pub struct ClientCertificate {
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
}

impl ClientCertificate {
    /// Joins chain and key.
    ///
    /// # Errors
    /// They do not belong together, or are of a kind that cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &aws_lc_rs::default_provider())?;
        Ok(Self {
            certified: Arc::new(certified),
            key,
        })
    }

    /// The chain, with what signs for it.
    #[must_use]
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The chain, the client's own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}
