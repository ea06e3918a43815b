//! What of the allow lists one look decides: a map that only repeats what the allow maps and the class maps say, so that
//! something may be missing in it at any time, and nothing may be in it for longer than they say so.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use eks_guard_ebpf::Class;
use eks_guard_ebpf::address::{self, Form, form_among};
use eks_guard_ebpf::allow::{self, Exact, FIXED_BITS, Key6};

use crate::ebpf::node::allow_list::AllowKey;
use crate::ebpf::node::error::{NodeError, map_error};
use crate::ebpf::node::tables::{address4, address6, present, typed};
use crate::ebpf::prefix::Prefix;

const NAME: &str = "exact";

/// The map, with a copy of its keys.
pub(super) struct ExactEntries {
    map: HashMap<MapData, Key6, Exact>,
    keys: BTreeSet<Key6>,
}

impl ExactEntries {
    /// Takes the map out of the object and reads what is in it.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, NodeError> {
        let map: HashMap<_, Key6, Exact> = typed(ebpf, NAME)?;
        let keys = map.keys().collect::<Result<_, _>>().map_err(map_error(NAME))?;
        Ok(Self { map, keys })
    }

    /// Adds entries. Where one finds no room, the other maps are asked for it.
    pub(super) fn add(&mut self, keys: impl IntoIterator<Item = Key6>) {
        for key in keys {
            if !self.keys.contains(&key) && self.map.insert(key, Exact { passes: 1 }, 0).is_ok() {
                self.keys.insert(key);
            }
        }
    }

    /// Removes an entry that may not be there.
    pub(super) fn remove(&mut self, key: &Key6) -> Result<(), NodeError> {
        if self.keys.contains(key) {
            present(self.map.remove(key)).map_err(map_error(NAME))?;
            self.keys.remove(key);
        }
        Ok(())
    }

    /// Removes all others than these; when one cannot be removed, the rest of them all the same.
    pub(super) fn retain(&mut self, keep: impl Fn(&Key6) -> bool) -> Result<(), NodeError> {
        let others: Vec<Key6> = self.keys.iter().filter(|key| !keep(key)).copied().collect();
        let removed: Vec<_> = others.iter().map(|key| self.remove(key)).collect();
        removed.into_iter().collect()
    }
}

/// The key of an entry of an allow list that names one address, one protocol and one port. Not on loopback: a packet to the
/// guard's listener writes a flow entry. Not behind a NAT64 gateway, should the entry be older than the gateway's prefix: the
/// programs go by the IPv4 address then.
pub(super) fn key(entry: &AllowKey, nat64: &[[u32; 3]]) -> Option<Key6> {
    let (bits, [index, scope, a, b, c, d]) = match *entry {
        AllowKey::V4(bits, [index, scope, v4]) => {
            (bits + 96, allow::key6(index, scope, &address::mapped(v4)))
        }
        AllowKey::V6(bits, key) => (bits, key),
    };
    let addr = [a, b, c, d];
    let form = form_among(&addr, nat64);
    let is_one = bits == FIXED_BITS + 128 && scope >> 16 != 0 && scope & 0xffff != 0;
    let is_itself = matches!(
        (form, entry),
        (Form::Native, AllowKey::V6(..)) | (Form::Mapped(_), AllowKey::V4(..))
    );
    (is_one && is_itself && !address::is_loopback(form, &addr)).then_some([index, scope, a, b, c, d])
}

/// Which addresses some classes have.
pub(super) struct Classed<'a> {
    classes: &'a BTreeMap<Prefix, Class>,
    lengths: BTreeSet<u32>,
}

impl<'a> Classed<'a> {
    pub(super) fn by(classes: &'a BTreeMap<Prefix, Class>) -> Self {
        let lengths = classes.keys().map(|prefix| prefix.len).collect();
        Self { classes, lengths }
    }

    /// Whether the address of a key is one of them, be it for some of its ports only.
    pub(super) fn has(&self, key: &Key6) -> bool {
        let [_, _, a, b, c, d] = *key;
        let addr = match address::form(&[a, b, c, d]) {
            Form::Mapped(v4) => address4(v4),
            Form::Native | Form::Nat64(_) => address6([a, b, c, d]),
        };
        let prefix = |length: &u32| Prefix::new(addr, *length);
        let mut prefixes = self.lengths.iter().filter_map(prefix);
        prefixes.any(|prefix| self.classes.contains_key(&prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::prefix::tests::prefix;

    const TCP: u8 = 6;

    fn v4(text: &str) -> u32 {
        u32::from_ne_bytes(text.parse::<std::net::Ipv4Addr>().unwrap().octets())
    }

    fn v6(text: &str) -> address::Words {
        address::words(&text.parse::<std::net::Ipv6Addr>().unwrap().octets())
    }

    fn of_v4(bits: u32, scope: u32, text: &str) -> Option<Key6> {
        key(
            &AllowKey::V4(FIXED_BITS + bits, allow::key4(7, scope, v4(text))),
            &[],
        )
    }

    fn of_v6(bits: u32, text: &str, nat64: &[[u32; 3]]) -> Option<Key6> {
        let data = allow::key6(7, allow::scope(TCP, 443), &v6(text));
        key(&AllowKey::V6(FIXED_BITS + bits, data), nat64)
    }

    #[test]
    fn one_address_one_protocol_and_one_port_make_a_key() {
        let scope = allow::scope(TCP, 443);
        let expected = allow::key6(7, scope, &v6("::ffff:10.0.0.1"));
        assert_eq!(of_v4(32, scope, "10.0.0.1"), Some(expected));
        for (bits, scope, text) in [
            (24, scope, "10.0.0.0"),
            (32, allow::scope(TCP, 0), "10.0.0.1"),
            (32, allow::ANYTHING, "10.0.0.1"),
            (32, scope, "127.0.0.9"),
            (32, scope, "0.0.0.0"),
        ] {
            assert_eq!(of_v4(bits, scope, text), None, "{text}/{bits} {scope:#x}");
        }
        assert_eq!(
            of_v6(128, "2001:db8::1", &[]),
            Some(allow::key6(7, scope, &v6("2001:db8::1")))
        );
        for text in ["::1", "::", "64:ff9b::10.0.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(of_v6(128, text, &[]), None, "{text}");
        }
        assert_eq!(of_v6(64, "2001:db8::", &[]), None);
    }

    #[test]
    fn an_address_behind_a_gateway_is_not_itself() {
        let [a, b, c, _] = v6("2001:db8:64::");
        assert!(of_v6(128, "2001:db8:64::10.0.0.1", &[]).is_some());
        assert_eq!(of_v6(128, "2001:db8:64::10.0.0.1", &[[a, b, c]]), None);
    }

    #[test]
    fn a_prefix_of_any_length_has_its_addresses() {
        let classes = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]
            .map(|text| (prefix(text), Class::default()))
            .into();
        let classed = Classed::by(&classes);
        for (text, expected) in [
            ("::ffff:10.9.9.9", true),
            ("::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.8", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            // The same bits as a prefix of the other family.
            ("a00::1", false),
        ] {
            let key = allow::key6(7, allow::scope(TCP, 443), &v6(text));
            assert_eq!(classed.has(&key), expected, "{text}");
        }
    }
}
