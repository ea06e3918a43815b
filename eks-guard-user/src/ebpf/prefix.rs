//! Address prefixes, as the programs look addresses up: IPv4 in all its disguises is IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use eks_guard_ebpf::address::{Form, form_among, words};

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The address.
    pub(crate) addr: IpAddr,
    /// How many of its bits count.
    pub(crate) len: u32,
}

impl Prefix {
    /// A prefix of so many bits; the others are set to zero. `None` when an address of the family has fewer.
    #[must_use]
    pub fn new(addr: IpAddr, len: u32) -> Option<Self> {
        let addr = match addr {
            IpAddr::V4(v4) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { addr, len })
    }

    /// One address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        let len = if addr.is_ipv4() { 32 } else { 128 };
        Self { addr, len }
    }

    /// The prefix the programs look up. `nat64` are the first three words of further NAT64 prefixes of 96 bits.
    pub(crate) fn canonical(self, nat64: &[[u32; 3]]) -> Self {
        let IpAddr::V6(v6) = self.addr else { return self };
        match form_among(&words(&v6.octets()), nat64) {
            Form::Mapped(v4) | Form::Nat64(v4) if self.len >= 96 => Self {
                addr: IpAddr::V4(Ipv4Addr::from(v4.to_ne_bytes())),
                len: self.len - 96,
            },
            Form::Mapped(_) | Form::Nat64(_) | Form::Native => self,
        }
    }

    /// Whether all addresses of `other` are in this one.
    pub(crate) fn contains(self, other: Self) -> bool {
        other.len >= self.len
            && Self::new(other.addr, self.len).is_some_and(|shortened| shortened.addr == self.addr)
            && self.addr.is_ipv4() == other.addr.is_ipv4()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A prefix from its text.
    pub(crate) fn prefix(text: &str) -> Prefix {
        let (addr, len) = text.split_once('/').unwrap();
        Prefix::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn bits_that_do_not_count_are_zero() {
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("10.1.2.3/0").to_string(), "0.0.0.0/0");
        assert_eq!(prefix("2001:db8::7/32").to_string(), "2001:db8::/32");
        assert_eq!(prefix("2001:db8::7/0").to_string(), "::/0");
        assert_eq!(Prefix::new("10.0.0.1".parse().unwrap(), 33), None);
        assert_eq!(Prefix::new("::1".parse().unwrap(), 129), None);
    }

    #[test]
    fn ipv4_in_disguise_is_ipv4() {
        let nat64 = [[0x2001_0db8_u32.to_be(), 0x0064_0000_u32.to_be(), 0]];
        for (text, expected) in [
            ("::ffff:10.0.0.1/128", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("64:ff9b::10.0.0.1/128", "10.0.0.1/32"),
            ("2001:db8:64::10.0.0.1/128", "10.0.0.1/32"),
            ("2001:db8:65::10.0.0.1/128", "2001:db8:65::a00:1/128"),
            ("::/0", "::/0"),
            ("10.0.0.1/32", "10.0.0.1/32"),
        ] {
            assert_eq!(prefix(text).canonical(&nat64).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn contains_what_is_longer_and_starts_alike() {
        assert!(prefix("10.0.0.0/8").contains(prefix("10.9.0.0/16")));
        assert!(prefix("10.0.0.0/8").contains(prefix("10.0.0.0/8")));
        assert!(!prefix("10.0.0.0/8").contains(prefix("11.0.0.0/16")));
        assert!(!prefix("10.9.0.0/16").contains(prefix("10.0.0.0/8")));
        assert!(!prefix("0.0.0.0/0").contains(prefix("::/0")));
    }
}
