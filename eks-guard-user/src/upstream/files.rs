//! Credentials in files that somebody else rotates: token files and client certificates.

use std::error::Error;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::upstream::certificate::certified_key;
use crate::upstream::kubeconfig::read_file;
use crate::upstream::refreshed::{Fetch, FetchFuture, Fetched};
use crate::upstream::token::bearer;
use crate::upstream::{Credential, CredentialError, UpstreamError};

/// How often a file is read again.
const REREAD: SignedDuration = SignedDuration::from_secs(60);
/// How long what was read is used when the file cannot be read any more.
const LASTS: SignedDuration = SignedDuration::from_secs(120);

/// A certificate or key as the kubeconfig gives it.
#[derive(Clone)]
pub(super) enum Pem {
    /// Base64 of PEM.
    Data(Zeroizing<String>),
    /// A file with PEM.
    File(PathBuf),
}

/// A file that holds a bearer token.
#[derive(Clone)]
pub(super) struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn read(&self) -> Result<Credential, CredentialError> {
        let bytes = read_file("token file", &self.path).map_err(|error| unreadable(&error))?;
        let text = std::str::from_utf8(&bytes).unwrap_or("\0");
        bearer(text)
            .map_err(|cause| CredentialError::new(format!("token file {}: {cause}", self.path.display())))
    }
}

/// A client certificate and its key, either of which may stand in a file.
#[derive(Clone)]
pub(super) struct CertificateFiles {
    chain: Pem,
    key: Pem,
}

impl CertificateFiles {
    pub(super) fn new(chain: Pem, key: Pem) -> Self {
        Self { chain, key }
    }

    /// Whether both stand in the kubeconfig itself.
    pub(super) fn is_fixed(&self) -> bool {
        matches!((&self.chain, &self.key), (Pem::Data(_), Pem::Data(_)))
    }

    pub(super) fn read(&self) -> Result<Credential, CredentialError> {
        let chain = read_pem("client certificate", &self.chain)?;
        let key = read_pem("client key", &self.key)?;
        certified_key(&chain, &key)
            .map(Credential::ClientCertificate)
            .map_err(|cause| {
                let from = match (&self.chain, &self.key) {
                    (Pem::File(chain), Pem::File(key)) => {
                        format!(" ({} and {})", chain.display(), key.display())
                    }
                    (Pem::File(file), Pem::Data(_)) | (Pem::Data(_), Pem::File(file)) => {
                        format!(" ({})", file.display())
                    }
                    (Pem::Data(_), Pem::Data(_)) => String::new(),
                };
                CredentialError::new(format!("{cause}{from}; copy both again from the same place"))
            })
    }
}

impl Fetch for TokenFile {
    fn fetch(&self, now: Timestamp) -> FetchFuture<'_> {
        let file = self.clone();
        Box::pin(off_thread(now, move || file.read()))
    }
}

impl Fetch for CertificateFiles {
    fn fetch(&self, now: Timestamp) -> FetchFuture<'_> {
        let files = self.clone();
        Box::pin(off_thread(now, move || files.read()))
    }
}

/// Reads on a thread that may block: a file can stand on a slow or dead network disk.
async fn off_thread(
    now: Timestamp,
    read: impl FnOnce() -> Result<Credential, CredentialError> + Send + 'static,
) -> Result<Fetched, CredentialError> {
    let credential = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| CredentialError::new("reading the credential's file was broken off"))??;
    Ok(Fetched {
        credential,
        refresh_at: now.checked_add(REREAD).ok(),
        expires_at: now.checked_add(LASTS).ok(),
    })
}

fn read_pem(what: &'static str, pem: &Pem) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    match pem {
        Pem::Data(text) => STANDARD
            .decode(text.trim())
            .map(Zeroizing::new)
            .map_err(|_| CredentialError::new(format!("the {what} data is not base64; copy it again"))),
        Pem::File(path) => read_file(what, path).map_err(|error| unreadable(&error)),
    }
}

fn unreadable(error: &UpstreamError) -> CredentialError {
    let cause = error
        .source()
        .map(|source| format!(" ({source})"))
        .unwrap_or_default();
    CredentialError::new(format!("{error}{cause}"))
}
