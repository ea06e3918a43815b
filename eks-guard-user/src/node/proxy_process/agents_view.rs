//! What the agents' side of the loader needs of the proxy process, whichever process that is at the moment.

use std::io;
use std::os::fd::BorrowedFd;

use crate::node::proxy_process::{FlowTables, ToProxy};

/// The way to the present proxy process.
pub(crate) trait ProxyLink: Send + Sync + 'static {
    /// Number of the process that is there; another process has another number. `None`: none is, and nobody is served.
    fn incarnation(&self) -> Option<u64>;

    /// Tells the present process, and only it.
    ///
    /// # Errors
    /// There is none, or it does not listen; it is then on its way out.
    fn tell(&self, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> io::Result<()>;

    /// Tells the present process and all that come after it, until another message of the same kind takes its place.
    fn keep(&self, message: ToProxy);

    /// The flows that the process may ask for, by listener.
    fn flows(&self) -> &FlowTables;
}
