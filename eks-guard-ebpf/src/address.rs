//! Which IPv4 address an IPv6 address stands for: one answer for the programs and for the loader that fills their maps.
//! Addresses are four words in memory (network) order; byte arrays would make the BPF target call a memcpy it lacks.

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`: four words in network order.
pub type Words = [u32; 4];

/// How an IPv6 destination is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing but itself.
    Native,
    /// `::ffff:a.b.c.d`: the socket speaks IPv4. The word is in network order.
    Mapped(u32),
    /// `64:ff9b::a.b.c.d`: a NAT64 gateway speaks IPv4 for the socket. The word is in network order.
    Nat64(u32),
}

const MAPPED: u32 = 0xffff_u32.to_be();
const NAT64: u32 = 0x0064_ff9b_u32.to_be();

/// Decodes an address.
#[inline(always)]
#[must_use]
pub const fn form(addr: &Words) -> Form {
    let [a, b, c, v4] = *addr;
    if a == 0 && b == 0 && c == MAPPED {
        Form::Mapped(v4)
    } else if a == NAT64 && b == 0 && c == 0 {
        Form::Nat64(v4)
    } else {
        Form::Native
    }
}

/// Decodes an address where further NAT64 prefixes of 96 bits are in use; one of zeros ends the list.
#[inline(always)]
#[must_use]
pub fn form_among(addr: &Words, nat64: &[[u32; 3]]) -> Form {
    let found = form(addr);
    if found != Form::Native {
        return found;
    }
    let [a, b, c, v4] = *addr;
    for prefix in nat64 {
        if prefix[0] | prefix[1] | prefix[2] == 0 {
            break;
        }
        if a == prefix[0] && b == prefix[1] && c == prefix[2] {
            return Form::Nat64(v4);
        }
    }
    found
}

/// Whether nothing but this host is reached by an address, "any address" included. `v4` is in network order.
#[inline(always)]
#[must_use]
pub const fn is_loopback(form: Form, addr: &Words) -> bool {
    match form {
        Form::Mapped(v4) => v4 == 0 || u32::from_be(v4) >> 24 == 127,
        Form::Native => {
            let [a, b, c, d] = *addr;
            a == 0 && b == 0 && c == 0 && (d == 0 || d == LOOPBACK6[3])
        }
        Form::Nat64(_) => false,
    }
}

/// The form of an IPv4 address (network order) that flows and original destinations use.
#[inline(always)]
#[must_use]
pub const fn mapped(v4: u32) -> Words {
    [0, 0, MAPPED, v4]
}

/// `127.0.0.1`, network order.
pub const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();

/// `::1`.
pub const LOOPBACK6: Words = [0, 0, 0, 1_u32.to_be()];

/// The words of an address in network order.
#[inline(always)]
#[must_use]
pub const fn words(bytes: &[u8; 16]) -> Words {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(text: &str) -> u32 {
        u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets())
    }

    #[test]
    fn decodes_every_way_to_write_an_ipv4_destination() {
        for (text, expected) in [
            ("::ffff:10.0.0.1", Form::Mapped(v4("10.0.0.1"))),
            ("::ffff:0.0.0.0", Form::Mapped(0)),
            ("64:ff9b::10.0.0.1", Form::Nat64(v4("10.0.0.1"))),
            ("64:ff9b::1:0:0:1", Form::Native),
            ("64:ff9b:1::10.0.0.1", Form::Native),
            ("::10.0.0.1", Form::Native),
            ("::1:ffff:10.0.0.1", Form::Native),
            ("::", Form::Native),
            ("::1", Form::Native),
            ("2001:db8::ffff:10.0.0.1", Form::Native),
        ] {
            let address: Ipv6Addr = text.parse().unwrap();
            assert_eq!(form(&words(&address.octets())), expected, "{text}");
        }
    }

    fn v6(text: &str) -> Words {
        words(&text.parse::<Ipv6Addr>().unwrap().octets())
    }

    #[test]
    fn further_nat64_prefixes_are_understood() {
        let [a, b, c, _] = v6("2001:db8:64::");
        let nat64 = [[0, 0, 1], [a, b, c], [0; 3]];
        for (text, expected) in [
            ("2001:db8:64::10.0.0.1", Form::Nat64(v4("10.0.0.1"))),
            ("64:ff9b::10.0.0.1", Form::Nat64(v4("10.0.0.1"))),
            ("::ffff:10.0.0.1", Form::Mapped(v4("10.0.0.1"))),
            ("2001:db8:64:0:1::10.0.0.1", Form::Native),
            ("::10.0.0.1", Form::Native),
            ("::1", Form::Native),
        ] {
            assert_eq!(form_among(&v6(text), &nat64), expected, "{text}");
        }
    }

    #[test]
    fn a_prefix_that_begins_with_zeros_is_one_too() {
        let [a, b, c, _] = v6("::ffff:0:0:0");
        let translated = v6("::ffff:0:10.0.0.1");
        assert_eq!(
            form_among(&translated, &[[a, b, c], [0; 3]]),
            Form::Nat64(v4("10.0.0.1"))
        );
        assert_eq!(form_among(&translated, &[[0; 3]]), Form::Native);
        assert_eq!(form_among(&v6("::10.0.0.1"), &[[0; 3]]), Form::Native);
    }

    #[test]
    fn loopback_is_what_stays_on_this_host() {
        for (text, expected) in [
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:127.255.0.3", true),
            ("::ffff:0.0.0.0", true),
            ("::ffff:128.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::127.0.0.1", false),
            ("::2", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_loopback(form(&v6(text)), &v6(text)), expected, "{text}");
        }
    }

    #[test]
    fn constants_are_in_network_order() {
        assert_eq!(form(&mapped(LOOPBACK4)), Form::Mapped(v4("127.0.0.1")));
        assert_eq!(LOOPBACK6, words(&Ipv6Addr::LOCALHOST.octets()));
        assert_eq!(
            mapped(v4("10.1.2.3")),
            words(&Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets())
        );
    }
}
