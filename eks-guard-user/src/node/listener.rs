//! The sockets that an agent's connections are redirected to: on the loopback of its own network namespace, held here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::node::cgroup::processes::Netns;
use crate::proxy::Sockets;

/// Binds both loopback addresses inside a network namespace.
///
/// # Errors
/// The namespace cannot be entered, or its loopback is down.
pub fn bind_in(netns: &Netns) -> io::Result<Sockets> {
    in_netns(netns.file.as_fd(), Sockets::bind)
}

/// Does something inside a network namespace. A thread goes in and ends: no other thread of this process ever leaves its own.
///
/// # Errors
/// The namespace cannot be entered, or what is done fails.
pub(crate) fn in_netns<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let done = thread::Builder::new()
            .name("in-netns".to_owned())
            .spawn_scoped(scope, || {
                move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
                work()
            })?;
        let ended = done.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_thread_goes_in_and_this_one_stays() {
        let own = Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap();
        // Without privileges no namespace can be entered, not even one's own.
        if rustix::process::geteuid().is_root() {
            let sockets = bind_in(&own).unwrap();
            assert_ne!(sockets.port().unwrap(), 0);
        } else {
            assert!(bind_in(&own).is_err());
        }
        let after = Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap();
        assert_eq!(own.inode, after.inode);
    }
}
