//! Why sessions cannot be shown.

use std::io;
use std::path::PathBuf;

/// Why sessions cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The folder cannot be read.
    #[error("cannot read the records in {folder}: {hint}", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Cause and remedy in short.
        hint: &'static str,
        /// What the system said, where the hint does not say it.
        #[source]
        source: Option<io::Error>,
    },
    /// One record cannot be read.
    #[error("cannot read the record {path}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is none at all.
    #[error("no session is recorded in {folder} yet: start one with `eks-guard run`", folder = folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no such session.
    #[error("no session {name:?} in {folder}: `eks-guard sessions list` shows what there is", folder = folder.display())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The folder.
        folder: PathBuf,
    },
    /// More than one session's id starts so.
    #[error("{count} sessions start with {name:?}: write more of the id")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl SessionsError {
    /// The reader of the output has gone, as `head` does: nothing to complain about.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
