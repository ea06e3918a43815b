//! What the destination classes of a node are made of: pure, from what the daemon knows to the entries of the maps.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use eks_guard_ebpf::address::words;
use eks_guard_ebpf::{Class, class};

use crate::ebpf::prefix::Prefix;

/// Something that agents must not reach, the API server's addresses aside, which they reach through the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// The API server of this cluster: TCP to the port is redirected, the rest of the address refused.
    Api(SocketAddr),
    /// Ports of nodes that are the API server's, too: TCP to them is redirected, the rest of the address is the node's.
    ApiPorts {
        /// The addresses.
        nodes: Prefix,
        /// The first and the last of these ports.
        ports: (u16, u16),
    },
    /// The instance metadata service.
    Imds(Prefix),
    /// The agent that hands out the cloud credentials of pods.
    PodIdentity(Prefix),
    /// Addresses of nodes, of which the ports of the kubelet and its neighbours are refused.
    Kubelet {
        /// The addresses.
        nodes: Prefix,
        /// The first and the last of these ports.
        ports: (u16, u16),
    },
    /// API servers of other clusters.
    OtherCluster(Prefix),
}

/// A class that an entry of an allow list may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Infrastructure {
    /// The instance metadata service.
    Imds,
    /// The agent that hands out the cloud credentials of pods.
    PodIdentity,
    /// Kubelets.
    Kubelet,
    /// API servers of other clusters.
    OtherCluster,
}

/// Addresses that agents' packets must not go to, whatever class that is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The addresses; IPv4 in all its disguises is IPv4.
    pub prefix: Prefix,
    /// Only these ports of them.
    pub ports: Option<RangeInclusive<u16>>,
    /// Whether an agent's list may open it.
    pub can_be_opened: bool,
}

/// What is closed to agents, for those who cannot ask the maps. `nat64` are further NAT64 prefixes of 96 bits.
#[must_use]
pub fn closed(destinations: &[Destination], nat64: &[Ipv6Addr]) -> Vec<Closed> {
    let nat64: Vec<[u32; 3]> = nat64_words(nat64).collect();
    let entries = entries(destinations, &nat64).into_iter();
    let closed = entries.map(|(prefix, class)| Closed {
        prefix,
        ports: (class.port_only == 1).then_some(class.first_port..=class.last_port),
        can_be_opened: class.class != class::API,
    });
    closed.collect()
}

/// NAT64 prefixes as the programs have them. One of zeros stands for nothing, and would end their list.
pub(super) fn nat64_words(prefixes: &[Ipv6Addr]) -> impl Iterator<Item = [u32; 3]> {
    let all = prefixes.iter().map(|prefix| {
        let [a, b, c, _] = words(&prefix.octets());
        [a, b, c]
    });
    all.filter(|prefix| *prefix != [0; 3])
}

impl Infrastructure {
    /// Its number in the maps.
    pub(super) fn class(self) -> u32 {
        match self {
            Self::Imds => class::IMDS,
            Self::PodIdentity => class::POD_IDENTITY,
            Self::Kubelet => class::KUBELET,
            Self::OtherCluster => class::OTHER_CLUSTER,
        }
    }
}

impl Destination {
    fn entry(self) -> (Prefix, Class) {
        let whole = |class| Class {
            class,
            ..Class::default()
        };
        let some = |class, (first_port, last_port)| Class {
            class,
            first_port,
            last_port,
            port_only: 1,
        };
        match self {
            Self::Api(server) => (
                Prefix::host(server.ip()),
                Class {
                    class: class::API,
                    first_port: server.port(),
                    last_port: server.port(),
                    port_only: 0,
                },
            ),
            Self::Imds(prefix) => (prefix, whole(class::IMDS)),
            Self::PodIdentity(prefix) => (prefix, whole(class::POD_IDENTITY)),
            Self::OtherCluster(prefix) => (prefix, whole(class::OTHER_CLUSTER)),
            Self::ApiPorts { nodes, ports } => (nodes, some(class::API, ports)),
            Self::Kubelet { nodes, ports } => (nodes, some(class::KUBELET, ports)),
        }
    }
}

/// Entries for the class maps. The programs see one entry of an address, the one with the longest prefix, so whatever
/// several would say of it is put into that one, and always the closed way.
pub(super) fn entries(destinations: &[Destination], nat64: &[[u32; 3]]) -> BTreeMap<Prefix, Class> {
    let mut entries = BTreeMap::new();
    for destination in destinations {
        let (prefix, class) = destination.entry();
        let kept = entries.entry(prefix.canonical(nat64)).or_insert(class);
        *kept = both(*kept, class);
    }
    let broad: Vec<(Prefix, Class)> = entries
        .iter()
        .filter(|(prefix, class)| class.port_only == 0 && !is_host(**prefix))
        .map(|(prefix, class)| (*prefix, *class))
        .collect();
    for (prefix, class) in &mut entries {
        if class.port_only == 1
            && let Some((_, whole)) = broad.iter().find(|(broad, _)| broad.contains(*prefix))
        {
            *class = *whole;
        }
    }
    entries
}

fn is_host(prefix: Prefix) -> bool {
    prefix == Prefix::host(prefix.addr)
}

/// One entry that refuses what either refuses. Ports of one address, be they of two classes, become the range between them:
/// what lies there is refused, or goes to the guard, instead of being somebody else's.
fn both(a: Class, b: Class) -> Class {
    let whole = a.port_only == 0 || b.port_only == 0;
    let (kept, other) = match ((a.class, a.port_only), (b.class, b.port_only)) {
        ((class::API, _), _) => (a, b),
        (_, (class::API, _)) => (b, a),
        ((_, 0), (_, 1)) => (a, b),
        ((_, 1), (_, 0)) => (b, a),
        _ if a.class <= b.class => (a, b),
        _ => (b, a),
    };
    let ports = if kept.class == other.class || (a.port_only == 1 && b.port_only == 1) {
        (
            kept.first_port.min(other.first_port),
            kept.last_port.max(other.last_port),
        )
    } else {
        (kept.first_port, kept.last_port)
    };
    Class {
        class: kept.class,
        first_port: ports.0,
        last_port: ports.1,
        port_only: u32::from(!whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::prefix::tests::prefix;

    fn of(destinations: &[Destination]) -> Vec<(String, u32, u16, u16, u32)> {
        let entries = entries(destinations, &[]);
        let row = |(prefix, c): (Prefix, Class)| {
            (
                prefix.to_string(),
                c.class,
                c.first_port,
                c.last_port,
                c.port_only,
            )
        };
        entries.into_iter().map(row).collect()
    }

    fn api(text: &str) -> Destination {
        Destination::Api(text.parse().unwrap())
    }

    fn kubelet(text: &str) -> Destination {
        Destination::Kubelet {
            nodes: Prefix::host(text.parse().unwrap()),
            ports: (10_248, 10_259),
        }
    }

    #[test]
    fn each_class_has_its_entry() {
        let got = of(&[
            api("10.0.0.1:443"),
            Destination::Imds(prefix("169.254.169.254/32")),
            Destination::PodIdentity(prefix("169.254.170.23/32")),
            kubelet("192.0.2.7"),
            Destination::OtherCluster(prefix("203.0.113.0/24")),
            api("[64:ff9b::10.0.0.9]:6443"),
        ]);
        let expected = [
            ("10.0.0.1/32", class::API, 443, 443, 0),
            ("10.0.0.9/32", class::API, 6443, 6443, 0),
            ("169.254.169.254/32", class::IMDS, 0, 0, 0),
            ("169.254.170.23/32", class::POD_IDENTITY, 0, 0, 0),
            ("192.0.2.7/32", class::KUBELET, 10_248, 10_259, 1),
            ("203.0.113.0/24", class::OTHER_CLUSTER, 0, 0, 0),
        ];
        assert_eq!(got, expected.map(|(p, c, f, l, o)| (p.to_owned(), c, f, l, o)));
    }

    #[test]
    fn an_api_server_on_a_node_is_closed_whole() {
        let expected = [("192.0.2.7/32".to_owned(), class::API, 6443, 6443, 0)];
        assert_eq!(of(&[kubelet("192.0.2.7"), api("192.0.2.7:6443")]), expected);
        assert_eq!(of(&[api("192.0.2.7:6443"), kubelet("192.0.2.7")]), expected);
    }

    #[test]
    fn ports_of_the_api_server_and_of_the_kubelet_are_one_range() {
        let ports = Destination::ApiPorts {
            nodes: Prefix::host("192.0.2.7".parse().unwrap()),
            ports: (6443, 6443),
        };
        let expected = [("192.0.2.7/32".to_owned(), class::API, 6443, 10_259, 1)];
        assert_eq!(of(&[kubelet("192.0.2.7"), ports]), expected);
        assert_eq!(of(&[ports, kubelet("192.0.2.7")]), expected);
        // The address of the API server itself stays closed whole.
        let own = [("192.0.2.7/32".to_owned(), class::API, 443, 6443, 0)];
        assert_eq!(of(&[ports, api("192.0.2.7:443"), kubelet("192.0.2.7")]), own);
    }

    #[test]
    fn two_ports_of_one_api_server_are_both_redirected() {
        let expected = [("10.0.0.1/32".to_owned(), class::API, 443, 6443, 0)];
        assert_eq!(of(&[api("10.0.0.1:6443"), api("10.0.0.1:443")]), expected);
    }

    #[test]
    fn an_entry_for_some_ports_does_not_open_a_closed_network() {
        let got = of(&[
            kubelet("203.0.113.9"),
            Destination::OtherCluster(prefix("203.0.113.0/24")),
        ]);
        assert_eq!(
            got[1],
            ("203.0.113.9/32".to_owned(), class::OTHER_CLUSTER, 0, 0, 0)
        );
    }
}
