//! Connections that a pod opened before it became an agent: those that it may not have as one are ended. Their packets are
//! dropped anyway; this tells both ends.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use crate::ebpf::Prefix;
use crate::ebpf::node::Closed;
use crate::netlink::sockets::{Connected, Protocol, connected, destroy, listening};
use crate::netlink::{Family, Socket};
use crate::node::config::{Allow, EgressMode, Protocol as AllowedProtocol};
use crate::node::listener::in_netns;

/// Whose network the agent uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The pod's own: every socket there is the agent's, whoever made it.
    Pod,
    /// Others', too: only sockets that were made in these cgroups are the agent's.
    Shared(BTreeSet<u64>),
}

/// What an agent may have.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// Whose sockets they are.
    pub owner: Owner,
    /// What is closed to it, whatever its list says.
    pub closed: &'a [Closed],
    /// What else it may reach.
    pub mode: EgressMode,
    /// Addresses, in that mode.
    pub allow: &'a [Allow],
}

/// Ends what the rule does not let an agent have, in a network namespace; how many there were.
///
/// # Errors
/// The kernel cannot end connections, or does not answer.
pub fn end(netns: BorrowedFd<'_>, rule: &Rule<'_>) -> io::Result<usize> {
    in_netns(netns, || end_here(rule))
}

fn end_here(rule: &Rule<'_>) -> io::Result<usize> {
    let mut socket = Socket::open(Family::Sockets)?;
    let served: BTreeSet<u16> = listening(&mut socket)?.iter().map(SocketAddr::port).collect();
    let mut ended = 0;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for found in connected(&mut socket, protocol)? {
            if rule.forbids(&found, &served) {
                destroy(&mut socket, &found)?;
                ended += 1;
            }
        }
    }
    Ok(ended)
}

impl Rule<'_> {
    /// Whether a connection is the agent's and none that it may have. `served` are ports on which somebody listens there.
    fn forbids(&self, found: &Connected, served: &BTreeSet<u16>) -> bool {
        let is_own = match &self.owner {
            Owner::Pod => true,
            Owner::Shared(cgroups) => found.cgroup.is_some_and(|cgroup| cgroups.contains(&cgroup)),
        };
        if !is_own || found.peer.ip().is_loopback() {
            return false;
        }
        if self.closed.iter().any(|closed| holds(closed, found.peer)) {
            return true;
        }
        // Whoever connected to the agent gets his answers.
        let was_accepted = found.protocol == Protocol::Tcp && served.contains(&found.local.port());
        match self.mode {
            EgressMode::BlockList => false,
            EgressMode::AllowList => !was_accepted && !self.allow.iter().any(|allow| allows(allow, found)),
        }
    }
}

fn holds(closed: &Closed, peer: SocketAddr) -> bool {
    let ports = closed.ports.as_ref();
    closed.prefix.contains(Prefix::host(peer.ip())) && ports.is_none_or(|ports| ports.contains(&peer.port()))
}

fn allows(allow: &Allow, found: &Connected) -> bool {
    let protocol = match allow.protocol {
        Some(AllowedProtocol::Tcp) => found.protocol == Protocol::Tcp,
        Some(AllowedProtocol::Udp) => found.protocol == Protocol::Udp,
        None => true,
    };
    let peer: IpAddr = found.peer.ip();
    let prefix = Prefix::new(allow.to.address, u32::from(allow.to.length));
    protocol
        && allow.port.is_none_or(|port| port == found.peer.port())
        && prefix.is_some_and(|prefix| prefix.contains(Prefix::host(peer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::sockets::testing::connection;
    use crate::node::config::Prefix as ConfigPrefix;

    fn rule(mode: EgressMode, allow: &[Allow], closed: &[Closed], check: impl Fn(&Rule<'_>)) {
        check(&Rule {
            owner: Owner::Pod,
            closed,
            mode,
            allow,
        });
    }

    fn closed() -> [Closed; 2] {
        let host = |text: &str| Prefix::host(text.parse().unwrap());
        [
            Closed {
                prefix: host("10.0.0.1"),
                ports: None,
            },
            Closed {
                prefix: host("192.0.2.7"),
                ports: Some(10_248..=10_259),
            },
        ]
    }

    #[test]
    fn what_an_agent_may_not_have_is_ended() {
        let allow = [Allow {
            to: ConfigPrefix {
                address: "10.2.0.0".parse().unwrap(),
                length: 16,
            },
            protocol: Some(AllowedProtocol::Tcp),
            port: Some(53),
            opens: None,
        }];
        let served = BTreeSet::from([8080]);
        let tcp = |local: &str, peer: &str| connection(Protocol::Tcp, local, peer);
        rule(EgressMode::AllowList, &allow, &closed(), |rule| {
            let ends = |found: Connected| rule.forbids(&found, &served);
            assert!(ends(tcp("10.1.0.5:4711", "10.0.0.1:443")));
            assert!(
                ends(tcp("10.1.0.5:8080", "10.0.0.1:40000")),
                "not even its answers"
            );
            assert!(ends(tcp("10.1.0.5:4711", "10.3.0.1:80")));
            assert!(ends(connection(Protocol::Udp, "10.1.0.5:4711", "10.2.0.1:53")));
            assert!(!ends(tcp("10.1.0.5:4711", "10.2.0.1:53")));
            assert!(
                !ends(tcp("10.1.0.5:8080", "10.3.0.1:40000")),
                "who connected to it"
            );
            assert!(!ends(tcp("127.0.0.1:4711", "127.0.0.1:4000")));
        });
        rule(EgressMode::BlockList, &[], &closed(), |rule| {
            let ends = |found: Connected| rule.forbids(&found, &served);
            assert!(ends(tcp("10.1.0.5:4711", "192.0.2.7:10250")));
            assert!(!ends(tcp("10.1.0.5:4711", "192.0.2.7:80")));
            assert!(!ends(tcp("10.1.0.5:4711", "10.3.0.1:80")));
        });
    }

    #[test]
    fn in_a_shared_network_the_sockets_of_others_are_left() {
        let rule = Rule {
            owner: Owner::Shared([7].into()),
            closed: &closed(),
            mode: EgressMode::AllowList,
            allow: &[],
        };
        let mut found = connection(Protocol::Tcp, "192.0.2.7:4711", "10.0.0.1:443");
        assert!(!rule.forbids(&found, &BTreeSet::new()));
        found.cgroup = Some(7);
        assert!(rule.forbids(&found, &BTreeSet::new()));
    }
}
