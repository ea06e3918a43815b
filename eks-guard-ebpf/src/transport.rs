//! Which sockets a guarded process may have, and where a packet of which protocol keeps its destination port.

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Whether a socket of this kind (`SOCK_*`, protocol) tells the connect and send hooks where it goes: TCP, UDP and ping do.
/// Raw, SCTP, DCCP, UDP-Lite and L2TP sockets, and those of protocols to come, do not. Multipath TCP does, but answers
/// getpeername() with the guard's listener; its clients fall back to TCP.
#[inline(always)]
#[must_use]
pub const fn is_visible(kind: u32, protocol: u32) -> bool {
    const TCP: u32 = self::TCP as u32;
    const UDP: u32 = self::UDP as u32;
    const ICMP: u32 = self::ICMP as u32;
    const ICMPV6: u32 = self::ICMPV6 as u32;
    matches!(
        (kind, protocol),
        (SOCK_STREAM, TCP) | (SOCK_DGRAM, UDP | ICMP | ICMPV6)
    )
}

/// What a packet's protocol says about its destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Two bytes, two into the header, in network order.
    Second,
    /// There are none, and no other protocol is inside either.
    None,
    /// Not known: something else may be inside.
    Unknown,
}

/// Where packets of a protocol keep their destination port.
#[inline(always)]
#[must_use]
pub const fn ports(protocol: u8) -> Ports {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => Ports::Second,
        ICMP | ICMPV6 => Ports::None,
        _ => Ports::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: u32 = 3;
    const SEQPACKET: u32 = 5;
    const SOCK_DCCP: u32 = 6;

    #[test]
    fn only_sockets_that_say_where_they_go_are_made() {
        for (kind, protocol) in [
            (SOCK_STREAM, 6),
            (SOCK_DGRAM, 17),
            (SOCK_DGRAM, 1),
            (SOCK_DGRAM, 58),
        ] {
            assert!(is_visible(kind, protocol), "{kind} {protocol}");
        }
        for (kind, protocol) in [
            (RAW, 0),
            (RAW, 1),
            (RAW, 6),
            (RAW, 17),
            (RAW, 58),
            (RAW, 255),
            (SOCK_STREAM, 132),
            (SEQPACKET, 132),
            (SOCK_DCCP, 33),
            (SOCK_DGRAM, 136),
            (SOCK_DGRAM, 115),
            (SOCK_STREAM, 262),
            (SOCK_STREAM, 256),
            (SOCK_STREAM, 0),
        ] {
            assert!(!is_visible(kind, protocol), "{kind} {protocol}");
        }
    }

    #[test]
    fn a_protocol_that_may_carry_another_has_unknown_ports() {
        for protocol in [6, 17, 33, 132, 136] {
            assert_eq!(ports(protocol), Ports::Second, "{protocol}");
        }
        for protocol in [1, 58] {
            assert_eq!(ports(protocol), Ports::None, "{protocol}");
        }
        for protocol in [0, 4, 41, 43, 44, 47, 50, 51, 59, 60, 115, 255] {
            assert_eq!(ports(protocol), Ports::Unknown, "{protocol}");
        }
    }
}
