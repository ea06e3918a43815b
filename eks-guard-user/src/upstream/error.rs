//! What stands in the way of using a kubeconfig. Every text is one line that names the cause and the remedy, and none
//! quotes what a file holds: a line of a kubeconfig may be a secret.

use std::io;
use std::path::PathBuf;

/// Why the operator's kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No kubeconfig stands where one is looked for.
    #[error("no kubeconfig found (looked at {looked_at}): pass --kubeconfig FILE (sudo drops KUBECONFIG)")]
    NotFound {
        /// The paths, separated by commas.
        looked_at: String,
    },
    /// A file could not be read.
    #[error("cannot read {what} {path}: {hint}", path = path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause and remedy in short.
        hint: String,
        /// What the system said.
        #[source]
        source: Option<io::Error>,
    },
    /// A file is not a kubeconfig.
    #[error("{path} is not a valid kubeconfig{place}: {detail}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// `, line L column C`, when known.
        place: String,
        /// What is wrong, without the text of the file.
        detail: String,
    },
    /// There is no such context.
    #[error("no context {name:?} in {files}: {known}")]
    UnknownContext {
        /// The name asked for.
        name: String,
        /// The files read, separated by commas.
        files: String,
        /// The contexts there are, and what to do.
        known: String,
    },
    /// The chosen context cannot be used as it stands.
    #[error("context {context:?}: {detail}")]
    Context {
        /// The context.
        context: String,
        /// Cause and remedy.
        detail: String,
    },
    /// The cluster entry cannot be used as it stands.
    #[error("cluster {cluster:?}: {detail}")]
    Cluster {
        /// The cluster entry.
        cluster: String,
        /// Cause and remedy.
        detail: String,
    },
    /// The user entry cannot be used as it stands.
    #[error("user {user:?}: {detail}")]
    User {
        /// The user entry.
        user: String,
        /// Cause and remedy.
        detail: String,
    },
    /// The API server's name does not resolve.
    #[error(
        "cannot resolve the API server's name {host:?}: check the network, DNS and the `server` of the kubeconfig"
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: Option<io::Error>,
    },
}
