//! A rule: conditions on a packet, one after the other, and what happens when all of them hold.

use std::ops::RangeInclusive;

use crate::netlink::Message;

/// Registers: a value of up to 16 bytes, and the verdict.
const VALUE: u32 = 1;
const VERDICT: u32 = 0;

/// Keys of expression `meta`.
const INTERFACE: u32 = 4;
const FAMILY: u32 = 15;
const PROTOCOL: u32 = 16;

/// Where expression `payload` reads.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// Of expression `cmp`.
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;

/// IPv6 extension headers.
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Conditions and a verdict.
#[derive(Clone, Debug)]
pub struct Rule(Message);

impl Rule {
    /// Packets that came in through an interface of a set.
    #[must_use]
    pub fn from_interface_in(set: &str) -> Self {
        Self(Message::attributes()).meta(INTERFACE).lookup(set)
    }

    /// Packets of a version of IP.
    #[must_use]
    pub fn of(version: Version) -> Self {
        let family = match version {
            Version::V4 => 2,
            Version::V6 => 10,
        };
        Self(Message::attributes()).meta(FAMILY).compare(EQUAL, &[family])
    }

    /// Packets of a version of IP to an address of a set.
    #[must_use]
    pub fn to_address_in(version: Version, set: &str) -> Self {
        let (offset, length) = match version {
            Version::V4 => (16, 4),
            Version::V6 => (24, 16),
        };
        Self::of(version).payload(NETWORK, offset, length).lookup(set)
    }

    /// Of a protocol of a set, to a port between two.
    #[must_use]
    pub fn to_port(self, protocols: &str, ports: &RangeInclusive<u16>) -> Self {
        let value = |port: &u16| Message::attributes().with(1, &port.to_be_bytes());
        let range = Message::attributes()
            .with_number(1, VALUE)
            .with_number(2, EQUAL)
            .with_nested(3, &value(ports.start()))
            .with_nested(4, &value(ports.end()));
        self.meta(PROTOCOL)
            .lookup(protocols)
            .payload(TRANSPORT, 2, 2)
            .expression("range", &range)
    }

    /// Parts of IPv4 packets but the first, which have no ports.
    #[must_use]
    pub fn later_part4(self) -> Self {
        self.payload(NETWORK, 6, 2)
            .masked(&[0x1f, 0xff])
            .compare(UNEQUAL, &[0, 0])
    }

    /// Parts of IPv6 packets: where the ports stand is in another part if the sender likes.
    #[must_use]
    pub fn part6(self) -> Self {
        self.has_extension(FRAGMENT)
    }

    /// IPv4 packets with options, a source route perhaps.
    #[must_use]
    pub fn with_options4(self) -> Self {
        self.payload(NETWORK, 0, 1).masked(&[0x0f]).compare(UNEQUAL, &[5])
    }

    /// IPv6 packets that others send on.
    #[must_use]
    pub fn routed6(self) -> Self {
        self.has_extension(ROUTING)
    }

    /// Another chain says.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        const JUMP: i32 = -3;
        let code = Message::attributes().with_number(1, JUMP.cast_unsigned());
        self.verdict(&code.with_text(2, chain))
    }

    /// They are counted, and go no further.
    #[must_use]
    pub fn drop(self) -> Self {
        let counted = self.expression("counter", &Message::attributes());
        counted.verdict(&Message::attributes().with_number(1, 0))
    }

    pub(super) fn expressions(&self) -> &Message {
        &self.0
    }

    fn has_extension(self, header: u8) -> Self {
        const PRESENT: u32 = 1;
        let exthdr = Message::attributes()
            .with_number(1, VALUE)
            .with(2, &[header])
            .with_number(3, 0)
            .with_number(4, 1)
            .with_number(5, PRESENT);
        self.expression("exthdr", &exthdr).compare(EQUAL, &[1])
    }

    fn meta(self, key: u32) -> Self {
        let meta = Message::attributes().with_number(1, VALUE).with_number(2, key);
        self.expression("meta", &meta)
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        let payload = Message::attributes()
            .with_number(1, VALUE)
            .with_number(2, base)
            .with_number(3, offset)
            .with_number(4, length);
        self.expression("payload", &payload)
    }

    fn masked(self, mask: &[u8]) -> Self {
        let value = |bytes: &[u8]| Message::attributes().with(1, bytes);
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        let bitwise = Message::attributes()
            .with_number(1, VALUE)
            .with_number(2, VALUE)
            .with_number(3, length)
            .with_nested(4, &value(mask))
            .with_nested(5, &value(&vec![0; mask.len()]));
        self.expression("bitwise", &bitwise)
    }

    fn compare(self, how: u32, value: &[u8]) -> Self {
        let cmp = Message::attributes()
            .with_number(1, VALUE)
            .with_number(2, how)
            .with_nested(3, &Message::attributes().with(1, value));
        self.expression("cmp", &cmp)
    }

    fn lookup(self, set: &str) -> Self {
        let lookup = Message::attributes().with_text(1, set).with_number(2, VALUE);
        self.expression("lookup", &lookup)
    }

    fn verdict(self, code: &Message) -> Self {
        let immediate = Message::attributes()
            .with_number(1, VERDICT)
            .with_nested(2, &Message::attributes().with_nested(2, code));
        self.expression("immediate", &immediate)
    }

    fn expression(self, name: &str, data: &Message) -> Self {
        let expression = Message::attributes().with_text(1, name).with_nested(2, data);
        Self(self.0.with_nested(1, &expression))
    }
}
