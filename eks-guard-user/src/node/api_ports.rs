//! Ports of nodes that are the API server's, under addresses that nobody names: one that runs on a node listens on all of the
//! node's addresses, and a Service with node ports makes every node answer for it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// First and last of some ports.
pub type Ports = (u16, u16);

/// What is known of the nodes' addresses.
#[derive(Clone, Copy, Debug)]
pub struct Nodes<'a> {
    /// Those that their objects name.
    pub named: &'a BTreeMap<String, BTreeSet<IpAddr>>,
    /// This one.
    pub this: &'a str,
    /// Every address of this one.
    pub own: &'a BTreeSet<IpAddr>,
}

/// Where the API server answers beside its own addresses. Several ports of one address are the range between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiPorts {
    /// Addresses of nodes.
    pub nodes: BTreeMap<IpAddr, Ports>,
    /// What leads to this node and stands in no object: loopback and link-local addresses.
    pub here: Option<Ports>,
}

impl ApiPorts {
    /// Of an API server with these addresses, and Services with these node ports in front of it. Which node it runs on, the
    /// nodes' objects say: an interface may have a Service's address, too.
    #[must_use]
    pub fn of(api: &BTreeSet<SocketAddr>, node_ports: &BTreeSet<u16>, nodes: Nodes<'_>) -> Self {
        let mut found = Self::default();
        for (name, named) in nodes.named {
            let on_it = api
                .iter()
                .filter(|server| named.contains(&server.ip().to_canonical()));
            let ports: BTreeSet<u16> = on_it
                .map(SocketAddr::port)
                .chain(node_ports.iter().copied())
                .collect();
            let (Some(first), Some(last)) = (ports.first(), ports.last()) else {
                continue;
            };
            let range = (*first, *last);
            found.nodes.extend(named.iter().map(|address| (*address, range)));
            if name == nodes.this {
                found
                    .nodes
                    .extend(nodes.own.iter().map(|address| (*address, range)));
                found.here = Some(range);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses<T: std::str::FromStr + Ord>(texts: &[&str]) -> BTreeSet<T> {
        let parsed = texts.iter().map(|text| text.parse().ok().expect("an address"));
        parsed.collect()
    }

    fn of(api: &[&str], node_ports: &[u16]) -> ApiPorts {
        let named = [
            ("this", addresses(&["192.0.2.7", "203.0.113.7"])),
            ("other", addresses(&["192.0.2.8", "203.0.113.8"])),
        ];
        let named = named.map(|(name, own)| (name.to_owned(), own)).into();
        let own = addresses(&["127.0.0.1", "10.244.0.1", "10.96.0.1"]);
        let nodes = Nodes {
            named: &named,
            this: "this",
            own: &own,
        };
        ApiPorts::of(&addresses(api), &node_ports.iter().copied().collect(), nodes)
    }

    #[test]
    fn an_api_server_on_a_node_answers_on_all_of_its_addresses() {
        let on_other = of(&["192.0.2.8:6443"], &[]);
        let expected = ["192.0.2.8", "203.0.113.8"].map(|ip| (ip.parse().unwrap(), (6443, 6443)));
        assert_eq!((on_other.nodes, on_other.here), (expected.into(), None));
        let on_this = of(&["[::ffff:192.0.2.7]:6443"], &[]);
        assert_eq!(on_this.here, Some((6443, 6443)));
        for ip in ["192.0.2.7", "203.0.113.7", "10.244.0.1", "127.0.0.1"] {
            assert!(on_this.nodes.contains_key(&ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_api_server_elsewhere_is_on_no_node() {
        // An interface of this node has the Service's address.
        assert_eq!(
            of(&["198.51.100.1:443", "10.96.0.1:443"], &[]),
            ApiPorts::default()
        );
    }

    #[test]
    fn node_ports_lead_there_from_every_node() {
        let found = of(&["198.51.100.1:443"], &[30_443, 31_000]);
        assert_eq!(found.nodes.len(), 7);
        assert!(found.nodes.values().all(|ports| *ports == (30_443, 31_000)));
        assert_eq!(found.here, Some((30_443, 31_000)));
    }
}
