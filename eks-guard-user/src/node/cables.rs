//! The node's ends of a pod's cables: the interfaces whose other end is in the pod's network namespace.
//!
//! Only the node's own namespace is asked. What a pod could say of its interfaces may be made up, down to the index that it
//! claims for the other end; which namespace an interface of the node leads to is known to the kernel alone.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use crate::netlink::{Attributes, DUMP, Family, Message, Socket};
use crate::node::cgroup::processes::networks;

/// Message types of the kernel's `linux/rtnetlink.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;

/// Attributes of the kernel's `linux/if_link.h` and `linux/net_namespace.h`.
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Bytes before the attributes: `struct ifinfomsg`, and `struct rtgenmsg` with its padding.
const IFINFOMSG: usize = 16;
const RTGENMSG: usize = 4;

/// The interfaces of the calling thread's network namespace, by the namespace that they lead into.
#[derive(Debug)]
pub struct Cables {
    socket: Socket,
    leads: Vec<(u32, u32)>,
}

impl Cables {
    /// Looks at all of them.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn list() -> io::Result<Self> {
        let mut socket = Socket::open(Family::Route)?;
        // The kernel numbers the namespaces that interfaces lead to when it lists the interfaces, so the list comes first.
        let links = socket.ask(&Message::new(RTM_GETLINK, &[0; IFINFOMSG]), DUMP)?;
        let links = links.iter().filter(|(kind, _)| *kind == RTM_NEWLINK);
        let leads = links.filter_map(|(_, body)| lead(body)).collect();
        Ok(Self { socket, leads })
    }

    /// Interfaces that lead into namespaces with these numbers.
    #[cfg(test)]
    pub(crate) fn leading(leads: &[(u32, u32)]) -> Self {
        Self {
            socket: Socket::open(Family::Route).unwrap(),
            leads: leads.to_vec(),
        }
    }

    /// Whether an interface with this index leads into any namespace.
    #[must_use]
    pub fn has(&self, interface: u32) -> bool {
        self.leads.iter().any(|(index, _)| *index == interface)
    }

    /// Indices of those that lead to a pod, by its cgroup: into any namespace that a process of it is in. Which of them its
    /// sandbox has, nobody on the node can tell from the processes alone, and every one of them may send.
    ///
    /// # Errors
    /// The pod is gone, or the kernel does not answer.
    pub fn of_pod(&mut self, cgroup: &Path) -> io::Result<BTreeSet<u32>> {
        let mut own = BTreeSet::new();
        networks(cgroup, |netns| {
            own.extend(self.leading_into(netns.file.as_fd())?);
            Ok(())
        })?;
        Ok(own)
    }

    /// Indices of those that lead into a namespace.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn leading_into(&mut self, netns: BorrowedFd<'_>) -> io::Result<BTreeSet<u32>> {
        let fd = netns.as_fd().as_raw_fd().to_ne_bytes();
        let question = Message::new(RTM_GETNSID, &[0; RTGENMSG]).with(NETNSA_FD, &fd);
        let answers = self.socket.ask(&question, 0)?;
        let number = answers.iter().find_map(|(kind, body)| {
            let number = Attributes::behind(RTGENMSG, body).native(NETNSA_NSID)?;
            // A negative one: no interface leads there.
            (*kind == RTM_NEWNSID && number.cast_signed() >= 0).then_some(number)
        });
        let into = self
            .leads
            .iter()
            .filter(|(_, namespace)| Some(*namespace) == number);
        Ok(into.map(|(index, _)| *index).collect())
    }
}

/// Index of an interface, and the number of the namespace that it leads into.
fn lead(body: &[u8]) -> Option<(u32, u32)> {
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    Some((
        index,
        Attributes::behind(IFINFOMSG, body).native(IFLA_LINK_NETNSID)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn no_interface_leads_into_ones_own_namespace() {
        let own = File::open("/proc/thread-self/ns/net").unwrap();
        let mut cables = Cables::list().unwrap();
        assert_eq!(cables.leading_into(own.as_fd()).unwrap(), BTreeSet::new());
        // What is no namespace has no number.
        let null = File::open("/dev/null").unwrap();
        assert!(cables.leading_into(null.as_fd()).is_err());
    }

    #[test]
    fn an_interface_that_leads_nowhere_is_none() {
        let mut link = vec![0; IFINFOMSG];
        link[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(lead(&link), None);
        link.extend(8_u16.to_ne_bytes());
        link.extend(IFLA_LINK_NETNSID.to_ne_bytes());
        link.extend(3_u32.to_ne_bytes());
        assert_eq!(lead(&link), Some((7, 3)));
        (0..link.len()).for_each(|end| assert_eq!(lead(&link[..end]), None));
    }
}
