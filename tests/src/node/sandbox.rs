//! The network of one pod: a namespace with `eth0`, and on the node the other end of its cable with a route to it.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;

use crate::netns::Netns;
use crate::node::network::{Addresses, Families, NODE, Network};

/// Gone, and its cable with it, when dropped.
pub struct Sandbox {
    netns: Arc<Netns>,
    node: Arc<Netns>,
    cable: String,
    addresses: Vec<IpAddr>,
}

/// Numbers of sandboxes of one node; none comes twice, so neither does an address.
pub(crate) struct Numbers(AtomicU32);

impl Numbers {
    pub(crate) fn new() -> Self {
        // The first addresses of a range are taken for infrastructure.
        Self(AtomicU32::new(16))
    }

    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Sandbox {
    /// One for each of `families`, all at once: most of the time goes into starting programs.
    pub(crate) fn create(network: &Network, numbers: &Numbers, families: &[Families]) -> Result<Vec<Self>> {
        let mut commands = String::new();
        let mut sandboxes = Vec::new();
        for &families in families {
            let number = numbers.next();
            let netns = Arc::new(Netns::create()?);
            let pod = addresses(number);
            let cable = format!("eni{number:08x}");
            writeln!(
                commands,
                "link add {cable} type veth peer name eth0 netns {}\nlink set {cable} up",
                netns.path().display()
            )?;
            commands.push_str(&node_commands(&cable, families, pod));
            sandboxes.push((
                Self {
                    netns,
                    node: network.node.clone(),
                    cable,
                    addresses: pod.of(families),
                },
                pod_commands(families, pod),
            ));
        }
        network.node.ip(&commands)?;
        sandboxes
            .into_iter()
            .map(|(sandbox, commands)| sandbox.netns.ip(&commands).map(|()| sandbox))
            .collect()
    }

    /// The pod's network namespace.
    #[must_use]
    pub fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// Name of the node's end of the cable.
    #[must_use]
    pub fn cable(&self) -> &str {
        &self.cable
    }

    /// Hardware address of the node's end of the cable: where every frame of the pod goes.
    pub fn gateway(&self) -> Result<String> {
        let link = self.node.enter(|| {
            let own = getifaddrs()?.filter(|interface| interface.interface_name == self.cable);
            let mut links = own.filter_map(|interface| interface.address?.as_link_addr()?.addr());
            links.next().context("no address of the cable")
        })?;
        let bytes: Vec<String> = link.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(bytes.join(":"))
    }

    /// The pod's addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Also done by the kernel, once nothing holds the pod's namespace any more.
        self.node.ip(&format!("link del {}", self.cable)).ok();
    }
}

fn addresses(number: u32) -> Addresses {
    let [_, _, high, low] = number.to_be_bytes();
    Addresses {
        v4: Ipv4Addr::new(10, 244, high, low),
        v6: Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, u16::from_be_bytes([high, low])),
    }
}

/// As the VPC CNI does it: the pod has one address and sends everything to a neighbour that only its cable knows.
fn pod_commands(families: Families, pod: Addresses) -> String {
    let mut commands = "link set eth0 up\n".to_owned();
    if families.v4() {
        commands.push_str(&format!(
            "addr add {}/32 dev eth0\n\
             route add 169.254.1.1 dev eth0 scope link\n\
             route add default via 169.254.1.1 dev eth0\n",
            pod.v4
        ));
    }
    if families.v6() {
        commands.push_str(&format!(
            "addr add {}/128 dev eth0\nroute add default via fe80::1 dev eth0\n",
            pod.v6
        ));
    }
    commands
}

fn node_commands(cable: &str, families: Families, pod: Addresses) -> String {
    let mut commands = String::new();
    if families.v4() {
        commands.push_str(&format!(
            "addr add 169.254.1.1/32 dev {cable}\nroute add {}/32 dev {cable} src {}\n",
            pod.v4, NODE.v4
        ));
    }
    if families.v6() {
        commands.push_str(&format!(
            "addr add fe80::1/64 dev {cable}\nroute add {}/128 dev {cable} src {}\n",
            pod.v6, NODE.v6
        ));
    }
    commands
}
