//! What one agent may reach: pure, from entries as policy names them to keys of the allow maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use eks_guard_ebpf::address::words;
use eks_guard_ebpf::allow::{self, Allow, FIXED_BITS, Key4, Key6};

use crate::ebpf::node::destinations::Infrastructure;
use crate::ebpf::node::error::NodeError;
use crate::ebpf::prefix::Prefix;

/// One destination an agent may reach. The API server is never among them: it is reached through the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    /// Where to.
    pub prefix: Prefix,
    /// IP protocol; `None` for all.
    pub protocol: Option<u8>,
    /// Port of the protocol; `None` for all.
    pub port: Option<u16>,
    /// The infrastructure class that is open where the prefix covers it; `None`: it opens nothing that is in a class.
    pub opens: Option<Infrastructure>,
}

/// Key of an allow map: how many bits count, and the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AllowKey {
    V4(u32, Key4),
    V6(u32, Key6),
}

impl AllowKey {
    /// The pod whose entry it is.
    pub(super) fn index(&self) -> u32 {
        match self {
            Self::V4(_, [index, ..]) | Self::V6(_, [index, ..]) => *index,
        }
    }
}

/// The entries of one pod. Two that differ only in what they open cannot both be: the last one counts.
pub(super) fn keys(
    index: u32,
    entries: &[AllowEntry],
    nat64: &[[u32; 3]],
) -> Result<BTreeMap<AllowKey, Allow>, NodeError> {
    let mut keys = BTreeMap::new();
    for entry in entries {
        let scope = match (entry.protocol, entry.port) {
            (None, None) => allow::ANYTHING,
            (None, Some(_)) => return Err(NodeError::PortWithoutProtocol(entry.prefix)),
            (Some(protocol), port) => allow::scope(protocol, port.unwrap_or(0)),
        };
        let prefix = entry.prefix.canonical(nat64);
        let bits = FIXED_BITS + prefix.len;
        let key = match prefix.addr {
            IpAddr::V4(v4) => AllowKey::V4(bits, allow::key4(index, scope, u32::from_ne_bytes(v4.octets()))),
            IpAddr::V6(v6) => AllowKey::V6(bits, allow::key6(index, scope, &words(&v6.octets()))),
        };
        let opens = entry.opens.map_or(0, Infrastructure::class);
        keys.insert(key, Allow { opens });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::prefix::tests::prefix;

    fn entry(text: &str) -> AllowEntry {
        AllowEntry {
            prefix: prefix(text),
            protocol: None,
            port: None,
            opens: None,
        }
    }

    #[test]
    fn an_entry_is_the_pods_the_protocols_and_the_ports() {
        let dns = AllowEntry {
            protocol: Some(17),
            port: Some(53),
            ..entry("10.0.0.10/32")
        };
        let keys = keys(7, &[dns, entry("::ffff:10.0.0.0/104")], &[]).unwrap();
        let v4 = |text: &str| u32::from_ne_bytes(text.parse::<std::net::Ipv4Addr>().unwrap().octets());
        let found: Vec<_> = keys.keys().copied().collect();
        assert_eq!(
            found,
            [
                AllowKey::V4(72, [7, 0, v4("10.0.0.0")]),
                AllowKey::V4(96, [7, 17 << 16 | 53, v4("10.0.0.10")]),
            ]
        );
        assert!(found.iter().all(|key| key.index() == 7));
    }

    #[test]
    fn a_port_without_a_protocol_is_refused() {
        let vague = AllowEntry {
            port: Some(53),
            ..entry("10.0.0.10/32")
        };
        assert!(matches!(
            keys(1, &[vague], &[]),
            Err(NodeError::PortWithoutProtocol(_))
        ));
    }
}
