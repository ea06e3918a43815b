//! Closed destinations as sets of intervals, which must not touch each other: pure.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::ebpf::Prefix;
use crate::ebpf::node::Closed;
use crate::netlink::nftables::Element;

/// What an IPv4 address looks like in an IPv6 packet, beside the prefixes of the configuration.
const DISGUISES: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0),
];

/// Elements of the sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Addresses that are closed as a whole.
    pub(super) whole4: Vec<Element>,
    pub(super) whole6: Vec<Element>,
    /// Addresses of which some ports are closed.
    pub(super) partly4: Vec<Element>,
    pub(super) partly6: Vec<Element>,
    /// Those ports: one range that holds all of them.
    pub(super) ports: Option<RangeInclusive<u16>>,
}

/// First and last address, as numbers.
type Interval = (u128, u128);

/// Sorts what is closed into sets.
pub(super) fn of(closed: &[Closed], nat64: &[Ipv6Addr]) -> Addresses {
    let (mut whole, mut partly) = (Vec::new(), Vec::new());
    let mut ports: Option<RangeInclusive<u16>> = None;
    for Closed { prefix, ports: some } in closed {
        let Some(some) = some else {
            whole.push(*prefix);
            continue;
        };
        partly.push(*prefix);
        ports = Some(match ports {
            Some(all) => *all.start().min(some.start())..=*all.end().max(some.end()),
            None => some.clone(),
        });
    }
    Addresses {
        whole4: v4(&whole),
        whole6: v6(&whole, nat64),
        partly4: v4(&partly),
        partly6: v6(&partly, nat64),
        ports,
    }
}

fn v4(prefixes: &[Prefix]) -> Vec<Element> {
    let own = prefixes.iter().filter(|prefix| prefix.addr.is_ipv4());
    let bytes = |number: u128| {
        u32::try_from(number)
            .ok()
            .map(|number| number.to_be_bytes().to_vec())
    };
    elements(own.map(|prefix| interval(*prefix)).collect(), bytes)
}

fn v6(prefixes: &[Prefix], nat64: &[Ipv6Addr]) -> Vec<Element> {
    let disguises: Vec<u128> = DISGUISES
        .iter()
        .chain(nat64)
        .map(|prefix| prefix.to_bits())
        .collect();
    let mut intervals = Vec::new();
    for prefix in prefixes {
        let (first, last) = interval(*prefix);
        if prefix.addr.is_ipv6() {
            intervals.push((first, last));
        } else {
            intervals.extend(
                disguises
                    .iter()
                    .map(|disguise| (disguise | first, disguise | last)),
            );
        }
    }
    elements(intervals, |number| Some(number.to_be_bytes().to_vec()))
}

fn interval(prefix: Prefix) -> Interval {
    let (number, bits) = match prefix.addr {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let free = u128::MAX.checked_shr(128 - (bits - prefix.len)).unwrap_or(0);
    (number & !free, number | free)
}

/// Puts together what overlaps or touches. `bytes` answers nothing for what lies behind the last address.
fn elements(mut intervals: Vec<Interval>, bytes: impl Fn(u128) -> Option<Vec<u8>>) -> Vec<Element> {
    intervals.sort_unstable();
    let mut joined: Vec<Interval> = Vec::new();
    for (first, last) in intervals {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            Some(_) | None => joined.push((first, last)),
        }
    }
    let element = |(first, last): Interval| {
        let end = last.checked_add(1).and_then(&bytes);
        Some(Element::From(bytes(first)?, end))
    };
    joined.into_iter().filter_map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(text: &str, ports: Option<RangeInclusive<u16>>) -> Closed {
        let (addr, len) = text.split_once('/').unwrap();
        Closed {
            prefix: Prefix::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap(),
            ports,
        }
    }

    fn span(first: &str, end: Option<&str>) -> Element {
        let bytes = |text: &str| match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        Element::From(bytes(first), end.map(bytes))
    }

    #[test]
    fn what_touches_is_one_interval() {
        let addresses = of(
            &[
                closed("10.9.0.0/16", None),
                closed("10.0.0.1/32", None),
                closed("10.9.4.0/24", None),
                closed("10.0.0.2/32", None),
                closed("255.0.0.0/8", None),
            ],
            &[],
        );
        let expected = [
            span("10.0.0.1", Some("10.0.0.3")),
            span("10.9.0.0", Some("10.10.0.0")),
            span("255.0.0.0", None),
        ];
        assert_eq!(addresses.whole4, expected);
        assert_eq!((addresses.partly4.len(), addresses.ports), (0, None));
        assert_eq!(
            of(&[closed("0.0.0.0/0", None)], &[]).whole4,
            [span("0.0.0.0", None)]
        );
    }

    #[test]
    fn an_ipv4_address_is_closed_in_its_disguises() {
        let addresses = of(
            &[closed("10.0.0.1/32", None), closed("2001:db8::a/128", None)],
            &["2001:db8:64::".parse().unwrap()],
        );
        let expected = [
            span("::ffff:10.0.0.1", Some("::ffff:10.0.0.2")),
            span("64:ff9b::10.0.0.1", Some("64:ff9b::10.0.0.2")),
            span("2001:db8::a", Some("2001:db8::b")),
            span("2001:db8:64::10.0.0.1", Some("2001:db8:64::10.0.0.2")),
        ];
        assert_eq!(addresses.whole6, expected);
        assert_eq!(of(&[closed("::/0", None)], &[]).whole6, [span("::", None)]);
    }

    #[test]
    fn ports_of_all_addresses_are_one_range() {
        let addresses = of(
            &[
                closed("10.0.0.7/32", Some(10..=20)),
                closed("10.0.0.9/32", Some(15..=30)),
            ],
            &[],
        );
        assert_eq!(addresses.ports, Some(10..=30));
        assert_eq!((addresses.whole4.len(), addresses.partly4.len()), (0, 2));
    }
}
