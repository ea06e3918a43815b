//! Which addresses belong to the API server: pure, from its addresses and those of this host.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use eks_guard_ebpf::{Class, class};

use crate::ebpf::prefix::Prefix;

/// Two API addresses ask for different ports of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortConflict {
    pub(crate) addr: IpAddr,
    pub(crate) ports: (u16, u16),
}

/// Entries for the class maps. An API server on this host answers on every address of the host when it is bound to the
/// wildcard, so all of them are claimed, but only its port; of a remote one the whole address is.
pub(crate) fn entries(api: &[SocketAddr], host: &[IpAddr]) -> Result<BTreeMap<Prefix, Class>, PortConflict> {
    let mut entries = BTreeMap::new();
    for server in api {
        let addr = canonical(server.ip());
        let local =
            addr.is_loopback() || addr.is_unspecified() || host.iter().any(|own| canonical(*own) == addr);
        let port = server.port();
        if !local {
            claim(
                &mut entries,
                Prefix::host(addr),
                Class {
                    class: class::API,
                    first_port: port,
                    last_port: port,
                    port_only: 0,
                },
            )?;
            continue;
        }
        let aliases = host
            .iter()
            .map(|own| Prefix::host(canonical(*own)))
            .chain(loopback())
            .chain([Prefix::host(addr)]);
        for prefix in aliases {
            claim(
                &mut entries,
                prefix,
                Class {
                    class: class::API,
                    first_port: port,
                    last_port: port,
                    port_only: 1,
                },
            )?;
        }
    }
    Ok(entries)
}

/// Everything that reaches this host whatever its addresses are; "any address" is loopback to the kernel.
fn loopback() -> [Prefix; 4] {
    [
        Prefix {
            addr: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
            len: 8,
        },
        Prefix::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Prefix::host(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        Prefix::host(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ]
}

/// The address the programs look up.
fn canonical(addr: IpAddr) -> IpAddr {
    Prefix::host(addr).canonical(&[]).addr
}

fn claim(entries: &mut BTreeMap<Prefix, Class>, prefix: Prefix, class: Class) -> Result<(), PortConflict> {
    let kept = entries.entry(prefix).or_insert(class);
    if kept.first_port == class.first_port {
        return Ok(());
    }
    Err(PortConflict {
        addr: prefix.addr,
        ports: (kept.first_port, class.first_port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: Class = Class {
        class: class::API,
        first_port: 443,
        last_port: 443,
        port_only: 0,
    };
    const LOCAL: Class = Class {
        class: class::API,
        first_port: 6443,
        last_port: 6443,
        port_only: 1,
    };

    fn of(api: &[&str], host: &[&str]) -> Result<Vec<(String, Class)>, PortConflict> {
        let api: Vec<SocketAddr> = api.iter().map(|text| text.parse().unwrap()).collect();
        let host: Vec<IpAddr> = host.iter().map(|text| text.parse().unwrap()).collect();
        let named = |(prefix, class): (Prefix, Class)| (format!("{}/{}", prefix.addr, prefix.len), class);
        entries(&api, &host).map(|entries| entries.into_iter().map(named).collect())
    }

    #[test]
    fn a_remote_server_is_claimed_whole_and_nothing_else_is() {
        let got = of(&["10.0.0.1:443", "[2001:db8::1]:443"], &["192.0.2.7", "fe80::1"]).unwrap();
        assert_eq!(
            got,
            [
                ("10.0.0.1/32".to_owned(), REMOTE),
                ("2001:db8::1/128".to_owned(), REMOTE)
            ]
        );
    }

    #[test]
    fn disguised_ipv4_is_the_ipv4_address() {
        for api in ["[::ffff:10.0.0.1]:443", "[64:ff9b::10.0.0.1]:443"] {
            assert_eq!(
                of(&[api], &[]).unwrap(),
                [("10.0.0.1/32".to_owned(), REMOTE)],
                "{api}"
            );
        }
    }

    #[test]
    fn a_local_server_is_claimed_on_every_address_of_the_host_and_by_its_port_only() {
        let expected: Vec<_> = [
            "0.0.0.0/32",
            "127.0.0.0/8",
            "192.0.2.7/32",
            "::/128",
            "::1/128",
            "fe80::1/128",
        ]
        .map(|prefix| (prefix.to_owned(), LOCAL))
        .into();
        for api in [
            "127.0.0.1:6443",
            "[::1]:6443",
            "192.0.2.7:6443",
            "[::ffff:192.0.2.7]:6443",
        ] {
            let mut got = of(&[api], &["192.0.2.7", "fe80::1"]).unwrap();
            got.retain(|(prefix, _)| prefix != "127.0.0.1/32");
            assert_eq!(got, expected, "{api}");
        }
    }

    #[test]
    fn the_same_server_by_two_names_is_one() {
        let both = of(&["127.0.0.1:6443", "[::1]:6443"], &[]).unwrap();
        assert!(both.iter().all(|(_, class)| *class == LOCAL), "{both:?}");
    }

    #[test]
    fn two_ports_of_one_address_are_refused() {
        let conflict = of(&["10.0.0.1:443", "10.0.0.1:6443"], &[]).unwrap_err();
        assert_eq!(conflict.ports, (443, 6443));
        assert!(of(&["127.0.0.1:443", "[::1]:6443"], &[]).is_err());
    }
}
