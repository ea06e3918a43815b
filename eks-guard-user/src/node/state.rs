//! What outlives the daemon: the authority's key, and what was last known of the cluster.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::node::api_ports::ApiPorts;
use crate::node::api_set::ApiSet;
use crate::node::pods::Pods;
use crate::telemetry::chain;
use crate::tls::TlsError;
use crate::tls::ca::RunCa;

/// Bytes that are read of one file at most.
const READ_LIMIT: u64 = 64 << 20;
const KEY: &str = "ca.key";
const CERTIFICATE: &str = "ca.crt";
const KNOWN: &str = "known.json";
const LOCK: &str = "lock";
const WATCH_LOCK: &str = "watch.lock";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file of it cannot be read or written.
    #[error("cannot use {}", path.display())]
    Use {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("another eks-guard node uses {}: end it first", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else tries the node's agents already.
    #[error("another `eks-guard verify --node --watch` runs on this node: end it first")]
    Watched,
    /// The authority's key cannot be used.
    #[error("the key {} cannot be used: restore it, or remove it and give every agent the new ca.crt", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// No new key can be made.
    #[error("cannot make a certificate authority")]
    NewKey(#[source] TlsError),
}

/// What was last known of the cluster: an API server that is away at the start takes nothing out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The API server's addresses.
    pub api: ApiSet,
    /// The nodes' addresses.
    #[serde(default)]
    pub nodes: BTreeSet<IpAddr>,
    /// Ports of theirs that are the API server's.
    #[serde(default)]
    pub api_ports: ApiPorts,
    /// What each pod is.
    pub pods: Pods,
}

/// The state folder, held by one daemon at a time.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    _lock: File,
}

/// What keeps others from watching the same node, as long as it is held.
#[derive(Debug)]
pub struct Watch(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

/// Takes the place of the one command that watches a node.
///
/// # Errors
/// The folder cannot be used, or another command has the place.
pub fn watch(folder: &Path) -> Result<Watch, StateError> {
    let lock = lock_file(&folder.join(WATCH_LOCK))?;
    lock.try_lock().map_err(|_| StateError::Watched)?;
    Ok(Watch(lock))
}

fn lock_file(path: &Path) -> Result<File, StateError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    opened.map_err(|source| StateError::Use {
        path: path.to_owned(),
        source,
    })
}

impl State {
    /// Makes the folder (mode 0700) if need be, and takes it.
    ///
    /// # Errors
    /// It cannot be made, or another daemon has it.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Use { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder))?;
        let lock = lock_file(&folder.join(LOCK))?;
        lock.try_lock().map_err(|_| StateError::Taken {
            path: folder.to_owned(),
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The authority whose certificate agents trust. Made at the first start; `ca.crt` beside it is what agents are given.
    /// A key that is there and cannot be used is never replaced: every agent would lose its trust.
    ///
    /// # Errors
    /// The key cannot be read, or not be kept.
    pub fn authority(&self) -> Result<RunCa, StateError> {
        let path = self.folder.join(KEY);
        match read(&path) {
            Ok(pem) => {
                let pem = Zeroizing::new(pem);
                RunCa::from_key_pem(&pem).map_err(|source| StateError::Key { path, source })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let authority = RunCa::generate().map_err(StateError::NewKey)?;
                self.write(CERTIFICATE, authority.ca_pem().as_bytes())?;
                self.write(KEY, authority.key_pem().as_bytes())?;
                Ok(authority)
            }
            Err(source) => Err(StateError::Use { path, source }),
        }
    }

    /// What was last known. A file that cannot be read counts as none: what the kernel holds, and the configured addresses,
    /// do not depend on it.
    #[must_use]
    pub fn known(&self) -> Known {
        let known = recall(&self.folder.join(KNOWN));
        let known = known.unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "what was last known cannot be read");
            None
        });
        known.unwrap_or_default()
    }

    /// Keeps what is known now.
    ///
    /// # Errors
    /// The disk does not take it; what was kept before stays.
    pub fn keep(&self, known: &Known) -> Result<(), StateError> {
        keep(&self.folder.join(KNOWN), known)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.folder.join(name);
        replace(&path, bytes).map_err(|source| StateError::Use { path, source })
    }
}

/// What a file of the state folder holds; nothing when it is not there.
///
/// # Errors
/// It cannot be read, or is not understood.
pub(crate) fn recall<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let failed = |source| StateError::Use {
        path: path.to_owned(),
        source,
    };
    match read(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| failed(error.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Replaces what a file of the state folder holds.
///
/// # Errors
/// The disk does not take it; what was kept before stays.
pub(crate) fn keep<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let written = serde_json::to_vec(value)
        .map_err(io::Error::other)
        .and_then(|text| replace(path, &text));
    written.map_err(|source| StateError::Use {
        path: path.to_owned(),
        source,
    })
}

/// Whole or not at all, mode 0600.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(READ_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use std::time::Instant;

    use super::*;
    use crate::node::api_set::Source;

    #[test]
    fn one_daemon_has_it_and_the_key_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/node");
        let state = State::open(&path).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::Taken { .. })));
        let key = state.authority().unwrap().key_pem();
        let mode = |name| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(KEY)), (0o700, 0o600));
        drop(state);
        let state = State::open(&path).unwrap();
        assert_eq!(*state.authority().unwrap().key_pem(), *key);
        fs::write(path.join(KEY), "broken").unwrap();
        assert!(matches!(state.authority(), Err(StateError::Key { .. })));
        assert_eq!(
            fs::read_to_string(path.join(KEY)).unwrap(),
            "broken",
            "a key is never replaced"
        );
    }

    #[test]
    fn what_was_known_is_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.known(), Known::default());
        let mut known = Known::default();
        let addresses = ["192.0.2.1:443".parse().unwrap()].into();
        known.api.observe(Source::Endpoint, &addresses, Instant::now());
        state.keep(&known).unwrap();
        assert_eq!(state.known().api.addresses(), addresses);
        fs::write(folder.path().join(KNOWN), "{").unwrap();
        assert_eq!(state.known(), Known::default());
    }
}
