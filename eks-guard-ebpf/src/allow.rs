//! Allow lists: the keys of the `allow4` and `allow6` maps, one answer for the programs and for the loader that fills them.
//! A key is matched whole up to the address, so an entry for a port is another entry than the one for all ports.

use crate::address::Words;

/// Any protocol, and with it any port: [`scope`] of entries for all that goes to an address.
pub const ANYTHING: u32 = 0;

/// Data of a key of `allow4` (LPM_TRIE): pod index, scope, address in network order.
pub type Key4 = [u32; 3];

/// Data of a key of `allow6` (LPM_TRIE): pod index, scope, address in words of network order.
pub type Key6 = [u32; 6];

/// Bits of a key that precede the address and always count.
pub const FIXED_BITS: u32 = 64;

/// Value of the allow maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// The infrastructure class ([`crate::class`]) the entry opens; 0: none, only what is in no class.
    pub opens: u32,
}

/// Value of the `exact` map (HASH, key: [`Key6`], IPv4 mapped): one address, one protocol and one port of a pod's allow list,
/// when no class has the address. The allow maps and the class maps say the same, by looks that take longer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exact {
    /// 1: it passes. 0: the other maps decide.
    pub passes: u32,
}

/// The scope of an entry: an IP protocol and one of its ports (host order), or 0 for all of them.
#[inline(always)]
#[must_use]
pub const fn scope(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// Key for an IPv4 address (network order).
#[inline(always)]
#[must_use]
pub const fn key4(index: u32, scope: u32, v4: u32) -> Key4 {
    [index, scope, v4]
}

/// Key for an IPv6 address.
#[inline(always)]
#[must_use]
pub const fn key6(index: u32, scope: u32, addr: &Words) -> Key6 {
    let [a, b, c, d] = *addr;
    [index, scope, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_different_protocols_and_ports_differ() {
        let scopes = [ANYTHING, scope(6, 0), scope(17, 0), scope(6, 53), scope(17, 53)];
        for (at, one) in scopes.iter().enumerate() {
            assert!(!scopes[at + 1..].contains(one), "{one}");
        }
    }

    #[test]
    fn the_address_is_what_a_prefix_shortens() {
        assert_eq!(size_of::<Key4>() * 8, FIXED_BITS as usize + 32);
        assert_eq!(size_of::<Key6>() * 8, FIXED_BITS as usize + 128);
        assert_eq!(key4(1, 2, 3), [1, 2, 3]);
        assert_eq!(key6(1, 2, &[3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
    }
}
