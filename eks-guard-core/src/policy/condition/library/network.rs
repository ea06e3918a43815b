//! IP addresses and CIDR ranges. Zones, addresses of IPv4 inside IPv6 and leading zeros are refused, as in Kubernetes.

use std::net::IpAddr;

use cel::common::functions::Function;
use cel::common::types::{STRING_TYPE, Type};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::library::opaque::Named;
use crate::policy::condition::library::{
    Answer, Arguments, argument, found, number, rejected, string, text, truth, value,
};

static IP: Type = Type::new_unspecified_type("net.IP");
static CIDR: Type = Type::new_unspecified_type("net.CIDR");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ip(IpAddr);

impl Named for Ip {
    const TYPE: &'static Type = &IP;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    length: u32,
}

impl Named for Cidr {
    const TYPE: &'static Type = &CIDR;
}

impl Ip {
    fn parse(text: &str) -> Option<Self> {
        let address = text.parse().ok()?;
        let mapped = matches!(address, IpAddr::V6(it) if it.to_ipv4_mapped().is_some());
        (!mapped).then_some(Self(address))
    }

    fn is_link_local(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
    }

    fn is_link_local_multicast(self) -> bool {
        match self.0 {
            IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        }
    }

    fn is_global_unicast(self) -> bool {
        let broadcast = matches!(self.0, IpAddr::V4(address) if address.is_broadcast());
        let other = self.0.is_unspecified() || self.0.is_loopback() || self.0.is_multicast();
        !(broadcast || other || self.is_link_local())
    }
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let Ip(address) = Ip::parse(address)?;
        let plain =
            length.bytes().all(|it| it.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let length = length
            .parse()
            .ok()
            .filter(|length| plain && *length <= bits(address))?;
        Some(Self { address, length })
    }

    fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self { address, ..self }
    }

    fn contains(self, other: Self) -> bool {
        let same_family = self.address.is_ipv4() == other.address.is_ipv4();
        let outer = Self {
            length: self.length,
            ..other
        };
        same_family && self.length <= other.length && self.masked() == outer.masked()
    }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(IP.to_owned())?;
    env.add_type(CIDR.to_owned())?;
    let from_text: [(&str, Function); 5] = [
        ("ip", |it| found(Ip::parse(text(&it, 0)?), "ip")),
        ("isIP", |it| truth(Ip::parse(text(&it, 0)?).is_some())),
        ("cidr", |it| found(Cidr::parse(text(&it, 0)?), "cidr")),
        ("isCIDR", |it| truth(Cidr::parse(text(&it, 0)?).is_some())),
        ("ip.isCanonical", |it| {
            let text = text(&it, 0)?;
            let Ip(address) = Ip::parse(text).ok_or_else(|| rejected("ip.isCanonical"))?;
            truth(address.to_string() == text)
        }),
    ];
    for (name, run) in from_text {
        env.add_overload(name, name, vec![STRING_TYPE.to_owned()], run)?;
    }
    let of_ip: [(&str, Function); 6] = [
        ("family", |it| {
            number(if address(&it)?.0.is_ipv4() { 4 } else { 6 })
        }),
        ("isUnspecified", |it| truth(address(&it)?.0.is_unspecified())),
        ("isLoopback", |it| truth(address(&it)?.0.is_loopback())),
        ("isLinkLocalMulticast", |it| {
            truth(address(&it)?.is_link_local_multicast())
        }),
        ("isLinkLocalUnicast", |it| truth(address(&it)?.is_link_local())),
        ("isGlobalUnicast", |it| truth(address(&it)?.is_global_unicast())),
    ];
    for (name, run) in of_ip {
        env.add_member_overload(name, name, IP.to_owned(), Vec::new(), run)?;
    }
    let of_cidr: [(&str, Function); 3] = [
        ("ip", |it| Ok(value(Ip(range(&it, 0)?.address)))),
        ("masked", |it| Ok(value(range(&it, 0)?.masked()))),
        ("prefixLength", |it| number(range(&it, 0)?.length.into())),
    ];
    for (name, run) in of_cidr {
        env.add_member_overload(name, &format!("cidr {name}"), CIDR.to_owned(), Vec::new(), run)?;
    }
    for (name, other, run) in [
        ("containsIP", &IP, contains_ip as Function),
        ("containsIP", &STRING_TYPE, contains_ip),
        ("containsCIDR", &CIDR, contains_cidr),
        ("containsCIDR", &STRING_TYPE, contains_cidr),
    ] {
        let id = format!("{name} {}", other.name());
        env.add_member_overload(name, &id, CIDR.to_owned(), vec![Type::to_owned(other)], run)?;
    }
    for (of, run) in [(&IP, ip_text as Function), (&CIDR, cidr_text)] {
        env.add_overload(
            "string",
            &format!("string {}", of.name()),
            vec![Type::to_owned(of)],
            run,
        )?;
    }
    Ok(())
}

fn address(arguments: &[CowVal<'_, '_>]) -> Result<Ip, ExecutionError> {
    argument::<Ip>(arguments, 0).copied()
}

fn range(arguments: &[CowVal<'_, '_>], position: usize) -> Result<Cidr, ExecutionError> {
    argument::<Cidr>(arguments, position).copied()
}

fn contains_ip<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let Ip(address) = match text(&arguments, 1) {
        Ok(text) => Ip::parse(text).ok_or_else(|| rejected("containsIP"))?,
        Err(_) => *argument::<Ip>(&arguments, 1)?,
    };
    let single = Cidr {
        address,
        length: bits(address),
    };
    truth(range(&arguments, 0)?.contains(single))
}

fn contains_cidr<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let other = match text(&arguments, 1) {
        Ok(text) => Cidr::parse(text).ok_or_else(|| rejected("containsCIDR"))?,
        Err(_) => range(&arguments, 1)?,
    };
    truth(range(&arguments, 0)?.contains(other))
}

fn ip_text<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    string(address(&arguments)?.0.to_string())
}

fn cidr_text<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let Cidr { address, length } = range(&arguments, 0)?;
    string(format!("{address}/{length}"))
}
