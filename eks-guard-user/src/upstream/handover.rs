//! Endpoint and credential in the form in which one process of the guard hands them to another.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};

use crate::upstream::{ClientCertificate, Credential, CredentialError, Endpoint};

/// An [`Endpoint`] on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandedEndpoint {
    url: String,
    authority: String,
    path_prefix: String,
    addresses: Vec<SocketAddr>,
    server_name: String,
    roots: Vec<Vec<u8>>,
}

/// What was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The name is none that a certificate can carry.
    #[error("the API server's name was not handed over whole")]
    Name(#[from] InvalidDnsNameError),
    /// The credential is of another kind than it says.
    #[error("the credential was not handed over whole")]
    Credential,
}

impl From<&Endpoint> for HandedEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            url: endpoint.url.clone(),
            authority: endpoint.authority.clone(),
            path_prefix: endpoint.path_prefix.clone(),
            addresses: endpoint.addresses.clone(),
            server_name: endpoint.server_name.to_str().into_owned(),
            roots: endpoint.roots.iter().map(|root| root.to_vec()).collect(),
        }
    }
}

impl HandedEndpoint {
    /// The ports that it is reached at, wherever it moves.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        self.addresses.iter().map(SocketAddr::port).collect()
    }
}

impl TryFrom<HandedEndpoint> for Endpoint {
    type Error = HandoverError;

    fn try_from(handed: HandedEndpoint) -> Result<Self, HandoverError> {
        Ok(Self {
            url: handed.url,
            authority: handed.authority,
            path_prefix: handed.path_prefix,
            addresses: handed.addresses,
            server_name: ServerName::try_from(handed.server_name)?,
            roots: handed.roots.into_iter().map(CertificateDer::from).collect(),
        })
    }
}

/// What a credential source said, on its way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandedCredential {
    /// The value of the `Authorization` header.
    Bearer(Vec<u8>),
    /// A TLS client certificate.
    ClientCertificate {
        /// The chain, DER.
        chain: Vec<Vec<u8>>,
        /// The key, DER.
        key: Vec<u8>,
    },
    /// There is none right now, and why.
    None(String),
}

impl fmt::Debug for HandedCredential {
    /// Never what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandedCredential(..)")
    }
}

impl From<&Result<Credential, CredentialError>> for HandedCredential {
    fn from(said: &Result<Credential, CredentialError>) -> Self {
        match said {
            Ok(Credential::Bearer(value)) => Self::Bearer(value.as_bytes().to_vec()),
            Ok(Credential::ClientCertificate(certificate)) => Self::ClientCertificate {
                chain: certificate.chain().iter().map(|der| der.to_vec()).collect(),
                key: certificate.key().secret_der().to_vec(),
            },
            Err(error) => Self::None(error.message.clone()),
        }
    }
}

impl HandedCredential {
    /// What the source said.
    ///
    /// # Errors
    /// It was not handed over whole.
    pub fn said(self) -> Result<Result<Credential, CredentialError>, HandoverError> {
        match self {
            Self::Bearer(value) => {
                let mut value = HeaderValue::from_bytes(&value).map_err(|_| HandoverError::Credential)?;
                value.set_sensitive(true);
                Ok(Ok(Credential::Bearer(value)))
            }
            Self::ClientCertificate { chain, key } => {
                let chain = chain.into_iter().map(CertificateDer::from).collect();
                let key = PrivateKeyDer::try_from(key).map_err(|_| HandoverError::Credential)?;
                let certificate =
                    ClientCertificate::new(chain, key).map_err(|_| HandoverError::Credential)?;
                Ok(Ok(Credential::ClientCertificate(Arc::new(certificate))))
            }
            Self::None(message) => Ok(Err(CredentialError::new(message))),
        }
    }
}
