//! The key that signs reports: made at first use, kept under the state folder for root only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::verify::error::VerifyError;

/// Name of the file: PKCS#8, DER.
const FILE: &str = "verify.key";

/// An Ed25519 key (RFC 8032).
pub(crate) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key of this machine.
    ///
    /// # Errors
    /// The file can be neither read nor made, or holds something else.
    pub(crate) fn open(state: &Path) -> Result<SigningKey, VerifyError> {
        let path = state.join(FILE);
        let der = match fs::read(&path) {
            Ok(der) => der,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(state, &path)?,
            Err(error) => return Err(VerifyError::at("read the key of the reports", &path)(error)),
        };
        let pair = Ed25519KeyPair::from_pkcs8(&der);
        let unusable = |_| VerifyError::Key {
            action: "use",
            path: path.clone(),
        };
        pair.map(SigningKey).map_err(unusable)
    }

    /// The public half: 32 bytes, base64.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode(self.0.public_key())
    }

    /// Signs.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Whole or not at all: written beside its place, and moved there unless another start was faster.
fn make(state: &Path, path: &Path) -> Result<Vec<u8>, VerifyError> {
    let unmade = |_| VerifyError::Key {
        action: "make",
        path: path.to_owned(),
    };
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(unmade)?;
    let failed = |error| VerifyError::at("write the key of the reports", path)(error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(failed)?;
    let beside = path.with_extension(std::process::id().to_string());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside);
    let written = file.and_then(|mut file| {
        file.write_all(key.as_ref())?;
        file.sync_all()
    });
    // A link does not replace what is there, as a rename would.
    let placed = written.and_then(|()| match fs::hard_link(&beside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    });
    fs::remove_file(&beside).map_err(failed)?;
    placed.and_then(|()| fs::read(path)).map_err(failed)
}
