//! The addresses of this node's interfaces: a kubelet listens on more of them than its Node object names.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// All of them, in the calling thread's network namespace.
///
/// # Errors
/// The kernel does not answer.
pub fn own() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn loopback_is_one_of_them() {
        assert!(super::own().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
