//! The networks of the rig: control plane, node and outside, each a namespace of its own, joined by virtual cables. Nothing
//! leads from them to this machine's network, so nothing leaves, whatever the addresses.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;

use crate::netns::Netns;
use crate::node::meter;

/// Which families of addresses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

/// A party with an address in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

/// The API server.
pub const API: Addresses = addresses([172, 16, 0, 2], [0xfd00, 0x16, 0, 0, 0, 0, 0, 2]);
/// Port of the API server, on its own addresses and on its ClusterIPs.
pub const API_PORT: u16 = 443;
/// The API server as a Service.
pub const API_SERVICE: Addresses = addresses([10, 96, 0, 1], [0xfd00, 0x96, 0, 0, 0, 0, 0, 1]);
/// The node.
pub const NODE: Addresses = addresses([172, 31, 0, 10], [0xfd00, 0x31, 0, 0, 0, 0, 0, 0x10]);
/// The DNS answerer.
pub const DNS: Addresses = addresses([172, 31, 0, 53], [0xfd00, 0x31, 0, 0, 0, 0, 0, 0x53]);
/// The DNS answerer as a Service.
pub const DNS_SERVICE: Addresses = addresses([10, 96, 0, 10], [0xfd00, 0x96, 0, 0, 0, 0, 0, 0xa]);
/// Instance metadata, as in EC2.
pub const IMDS: Addresses = addresses([169, 254, 169, 254], [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]);
/// The agent of EKS Pod Identity, on the node.
pub const POD_IDENTITY: Addresses = addresses([169, 254, 170, 23], [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]);
/// The API server of another cluster.
pub const OTHER_CLUSTER: Addresses = addresses([203, 0, 113, 20], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x20]);
/// A host that has to do with nothing.
pub const OUTSIDE: Addresses = addresses([203, 0, 113, 80], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x80]);

const fn addresses(v4: [u8; 4], v6: [u16; 8]) -> Addresses {
    let [a, b, c, d] = v4;
    let [e, f, g, h, i, j, k, l] = v6;
    Addresses {
        v4: Ipv4Addr::new(a, b, c, d),
        v6: Ipv6Addr::new(e, f, g, h, i, j, k, l),
    }
}

impl Families {
    /// Whether there is IPv4.
    #[must_use]
    pub fn v4(self) -> bool {
        match self {
            Self::V4 => true,
            Self::V6 => false,
            Self::Dual => true,
        }
    }

    /// Whether there is IPv6.
    #[must_use]
    pub fn v6(self) -> bool {
        match self {
            Self::V4 => false,
            Self::V6 => true,
            Self::Dual => true,
        }
    }
}

impl Addresses {
    /// Those of the given families, IPv4 first.
    #[must_use]
    pub fn of(self, families: Families) -> Vec<IpAddr> {
        let v4 = families.v4().then_some(IpAddr::V4(self.v4));
        let v6 = families.v6().then_some(IpAddr::V6(self.v6));
        v4.into_iter().chain(v6).collect()
    }

    /// The same with a port.
    #[must_use]
    pub fn sockets(self, families: Families, port: u16) -> Vec<SocketAddr> {
        let addresses = self.of(families);
        addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect()
    }
}

/// The namespaces that every rig has; pods have one each beside them.
pub struct Network {
    /// Where API server and etcd are.
    pub control_plane: Arc<Netns>,
    /// Where the node's programs run, and the host side of each pod's cable is.
    pub node: Arc<Netns>,
    /// The router between both, and everybody else.
    pub outside: Arc<Netns>,
}

impl Network {
    /// Makes and joins them.
    pub fn create(families: Families) -> Result<Self> {
        let network = Self {
            control_plane: Arc::new(Netns::create()?),
            node: Arc::new(Netns::create()?),
            outside: Arc::new(Netns::create()?),
        };
        for router in [&network.node, &network.outside] {
            router.sysctl("ipv4/ip_forward", "1")?;
            router.sysctl("ipv6/conf/all/forwarding", "1")?;
        }
        network.outside.ip(&network.outside_commands(families))?;
        network.control_plane.ip(&leaf(
            families,
            API,
            addresses([172, 16, 0, 1], [0xfd00, 0x16, 0, 0, 0, 0, 0, 1]),
        ))?;
        let router = addresses([172, 31, 0, 1], [0xfd00, 0x31, 0, 0, 0, 0, 0, 1]);
        network.node.ip(&leaf(families, NODE, router))?;
        let mut own = String::new();
        add(&mut own, families, POD_IDENTITY, "lo");
        network.node.ip(&own)?;
        network.node.nft(SERVICES)?;
        network.forward(API_SERVICE, "tcp", API_PORT, API, API_PORT)?;
        network.forward(DNS_SERVICE, "tcp", 53, DNS, 53)?;
        network.forward(DNS_SERVICE, "udp", 53, DNS, 53)?;
        network.control_plane.nft(&meter::script("iifname \"eth0\""))?;
        network.outside.nft(&meter::script("iifname \"to-node\""))?;
        // Not what answers the node's own requests, which comes by the uplink.
        network.node.nft(&meter::script("iifname != \"eth0\""))?;
        Ok(network)
    }

    /// Makes `service:port` lead to `backend` on the node, as kube-proxy does: for pods and for the node itself.
    pub fn forward(
        &self,
        service: Addresses,
        protocol: &str,
        port: u16,
        backend: Addresses,
        backend_port: u16,
    ) -> Result<()> {
        let mut script = String::new();
        for chain in ["prerouting", "output"] {
            for (ip, from, to) in [
                ("ip", IpAddr::V4(service.v4), IpAddr::V4(backend.v4)),
                ("ip6", IpAddr::V6(service.v6), IpAddr::V6(backend.v6)),
            ] {
                let to = SocketAddr::new(to, backend_port);
                writeln!(
                    script,
                    "add rule inet services {chain} {ip} daddr {from} {protocol} dport {port} dnat {ip} to {to}"
                )?;
            }
        }
        self.node.nft(&script)
    }

    fn outside_commands(&self, families: Families) -> String {
        let mut commands = format!(
            "link add to-node type veth peer name eth0 netns {}\n\
             link add to-api type veth peer name eth0 netns {}\n\
             link set to-node up\nlink set to-api up\n",
            self.node.path().display(),
            self.control_plane.path().display()
        );
        if families.v4() {
            commands.push_str("addr add 172.31.0.1/24 dev to-node\naddr add 172.16.0.1/24 dev to-api\n");
            commands.push_str("route add 10.244.0.0/16 via 172.31.0.10\n");
        }
        if families.v6() {
            commands.push_str("addr add fd00:31::1/64 dev to-node\naddr add fd00:16::1/64 dev to-api\n");
            commands.push_str("route add fd00:244::/64 via fd00:31::10\n");
        }
        for host in [IMDS, OTHER_CLUSTER, OUTSIDE] {
            add(&mut commands, families, host, "lo");
        }
        // A neighbour of the node, which asks for it on that cable.
        add(&mut commands, families, DNS, "to-node");
        commands
    }
}

/// One address on the uplink, everything else by the router.
fn leaf(families: Families, own: Addresses, router: Addresses) -> String {
    let mut commands = "link set eth0 up\n".to_owned();
    if families.v4() {
        commands.push_str(&format!(
            "addr add {}/24 dev eth0\nroute add default via {}\n",
            own.v4, router.v4
        ));
    }
    if families.v6() {
        commands.push_str(&format!(
            "addr add {}/64 dev eth0\nroute add default via {}\n",
            own.v6, router.v6
        ));
    }
    commands
}

fn add(commands: &mut String, families: Families, host: Addresses, device: &str) {
    for address in host.of(families) {
        commands.push_str(&format!("addr add {address} dev {device}\n"));
    }
}

/// The chains in which kube-proxy rewrites, at the same places of a packet's way.
const SERVICES: &str = "table inet services {\n\
    chain prerouting { type nat hook prerouting priority dstnat; }\n\
    chain output { type nat hook output priority -100; }\n\
}\n";
