//! Routes outside the catalogue: what else a program could say to the kernel so that the guard hears one destination and the
//! packet takes another. Nobody here judges them: a witness on the other side of the boundary does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use eks_guard_core::catalogue::probe::Plan;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use rustix::net::{SendFlags, connect, connect_unspec, send, sendto};

use crate::found::{Attempt, Found, forms};
use crate::sys::{self, set_option};
use crate::tries::socket::{DATAGRAM, INET, INET6, STREAM, any, family_of, mapped, raw_address, v4};

const IPPROTO_IP: i32 = 0;
const IPPROTO_UDP: i32 = 17;
const IPPROTO_IPV6: i32 = 41;
const SOL_SOCKET: i32 = 1;
const IP_OPTIONS: i32 = 4;
const IPV6_ADDRFORM: i32 = 1;
const IPV6_FLOWINFO_SEND: i32 = 33;
const IPV6_RTHDR: i32 = 57;
const UDP_CORK: i32 = 1;
/// Loose and strict source routes (RFC 791).
const SOURCE_ROUTES: [u8; 2] = [131, 137];
const MESSAGE: &[u8] = b"eks-guard-probe";
/// Length of `struct sockaddr_in6` before it had a scope.
const ADDRESS_WITHOUT_SCOPE: usize = 24;
/// How often an address is read while another thread changes it.
const RACES: usize = 2_000;

/// A host that has to do with nothing (RFC 5737, RFC 3849).
fn outside(like: SocketAddr) -> SocketAddr {
    if like.is_ipv4() {
        SocketAddr::from((Ipv4Addr::new(203, 0, 113, 99), like.port()))
    } else {
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99), like.port()))
    }
}

fn v6(plan: &Plan) -> Vec<SocketAddr> {
    plan.api.iter().copied().filter(SocketAddr::is_ipv6).collect()
}

/// A first packet to an address, by a socket of either kind.
fn knock(kind: u32, socket: &OwnedFd, to: SocketAddr) -> Attempt {
    connect(socket, &to)?;
    if kind == DATAGRAM {
        send(socket, MESSAGE, SendFlags::empty())?;
    }
    Ok(Found::sent())
}

/// Both kinds of sockets to an address, prepared.
fn both(
    plan: &Plan,
    name: &str,
    to: SocketAddr,
    prepare: impl Fn(&OwnedFd) -> io::Result<()>,
) -> Vec<(String, Attempt)> {
    let attempt = |kind| {
        let socket = any(plan, family_of(to), kind, 0)?;
        prepare(&socket)?;
        knock(kind, &socket, to)
    };
    let form = |(word, kind)| (format!("{name} {word} {to}"), attempt(kind));
    [("TCP", STREAM), ("UDP", DATAGRAM)].map(form).into()
}

/// A source route in the options of an ordinary socket: to the API server by way of others, and to others by way of it.
pub(crate) fn source_routes(plan: &Plan) -> Found {
    let routed = |to: SocketAddr, by: SocketAddr| {
        SOURCE_ROUTES.map(|kind| {
            let IpAddr::V4(hop) = by.ip() else {
                return Vec::new();
            };
            let options = [&[1, kind, 7, 4][..], &hop.octets()].concat();
            both(plan, &format!("{kind} by {hop}"), to, |socket| {
                set_option(socket, IPPROTO_IP, IP_OPTIONS, &options)
            })
        })
    };
    let api = v4(plan).into_iter();
    let tried = api.flat_map(|api| [routed(api, outside(api)), routed(outside(api), api)]);
    forms(tried.flatten().flatten())
}

/// The same with the segments of IPv6 (RFC 8754), which need no privilege either.
pub(crate) fn segment_routes(plan: &Plan) -> Found {
    let routed = |to: SocketAddr, by: SocketAddr| {
        let (IpAddr::V6(last), IpAddr::V6(hop)) = (to.ip(), by.ip()) else {
            return Vec::new();
        };
        let header = [&[0, 4, 4, 1, 1, 0, 0, 0][..], &last.octets(), &hop.octets()].concat();
        both(plan, &format!("by {hop}"), to, |socket| {
            set_option(socket, IPPROTO_IPV6, IPV6_RTHDR, &header)
        })
    };
    let api = v6(plan).into_iter();
    let tried = api.flat_map(|api| [routed(api, outside(api)), routed(outside(api), api)]);
    forms(tried.flatten())
}

/// Addresses that are longer and shorter than the kernel's own, in connect() and sendto().
pub(crate) fn address_lengths(plan: &Plan) -> Found {
    forms(plan.api.iter().flat_map(|to| {
        let whole = raw_address(*to);
        let long = [&whole[..], &[0xff; 100]].concat();
        let without_scope = whole.get(..ADDRESS_WITHOUT_SCOPE).unwrap_or(&whole).to_vec();
        let short = whole.get(..8).unwrap_or_default().to_vec();
        let lengths = [("long", long), ("no scope", without_scope), ("short", short)];
        lengths.into_iter().flat_map(move |(name, address)| {
            [STREAM, DATAGRAM].map(|kind| {
                let attempt = any(plan, family_of(*to), kind, 0).and_then(|socket| {
                    if kind == STREAM {
                        sys::connect(&socket, &address)?;
                    } else {
                        sys::send_to(&socket, MESSAGE, &address)?;
                    }
                    Ok(Found::sent())
                });
                (format!("{name} {to}"), attempt)
            })
        })
    }))
}

/// Addresses of no family, which some calls take for the socket's own and some for the end of a connection.
pub(crate) fn unspecified_family(plan: &Plan) -> Found {
    forms(plan.api.iter().flat_map(|to| {
        let mut address = raw_address(*to);
        address.splice(..2, [0, 0]);
        let unconnected = any(plan, family_of(*to), DATAGRAM, 0).and_then(|socket| {
            sys::send_to(&socket, MESSAGE, &address)?;
            Ok(Found::sent())
        });
        let connected = any(plan, family_of(*to), DATAGRAM, 0).and_then(|socket| {
            connect(&socket, &outside(*to))?;
            sys::connect(&socket, &address)?;
            sys::send_to(&socket, MESSAGE, &address)?;
            Ok(Found::sent())
        });
        [
            (format!("unconnected {to}"), unconnected),
            (format!("disconnected {to}"), connected),
        ]
    }))
}

/// A flow label and a scope beside the address.
pub(crate) fn scope_and_flow(plan: &Plan) -> Found {
    let all = v6(plan).into_iter().chain(mapped(plan));
    forms(all.flat_map(|to| {
        let SocketAddr::V6(mut labelled) = to else {
            return Vec::new();
        };
        labelled.set_flowinfo(0x000f_ffff_u32.to_be());
        labelled.set_scope_id(1);
        both(plan, "labelled", labelled.into(), |socket| {
            set_option(socket, IPPROTO_IPV6, IPV6_FLOWINFO_SEND, &0_i32.to_ne_bytes())
        })
    }))
}

/// An IPv6 socket that becomes one of IPv4 while it is connected, and then goes to the API server.
pub(crate) fn address_form(plan: &Plan) -> Found {
    let becomes_v4 = |socket: &OwnedFd| {
        let inet = i32::from(INET).to_ne_bytes();
        set_option(socket, IPPROTO_IPV6, IPV6_ADDRFORM, &inet)
    };
    let datagram = |api: SocketAddr| {
        let socket = any(plan, INET6, DATAGRAM, 0)?;
        let mapped = match outside(api).ip() {
            IpAddr::V4(v4) => SocketAddr::from((v4.to_ipv6_mapped(), api.port())),
            IpAddr::V6(v6) => SocketAddr::from((v6, api.port())),
        };
        connect(&socket, &mapped)?;
        becomes_v4(&socket)?;
        knock(DATAGRAM, &socket, api)
    };
    let stream = |api: SocketAddr, mapped: SocketAddr| {
        let socket = any(plan, INET6, STREAM, 0)?;
        connect(&socket, &mapped)?;
        becomes_v4(&socket)?;
        connect_unspec(&socket)?;
        knock(STREAM, &socket, api)
    };
    let pairs = v4(plan).into_iter().zip(mapped(plan));
    forms(pairs.flat_map(|(api, mapped)| {
        [
            (format!("UDP {api}"), datagram(api)),
            (format!("TCP {api}"), stream(api, mapped)),
        ]
    }))
}

/// A datagram that waits for more, and whose rest names another destination.
pub(crate) fn corked(plan: &Plan) -> Found {
    let attempt = |api: SocketAddr, flags: SendFlags, cork: i32| {
        let socket = any(plan, family_of(api), DATAGRAM, 0)?;
        set_option(&socket, IPPROTO_UDP, UDP_CORK, &cork.to_ne_bytes())?;
        sendto(&socket, MESSAGE, flags, &outside(api))?;
        let rest = sendto(&socket, MESSAGE, SendFlags::empty(), &api);
        set_option(&socket, IPPROTO_UDP, UDP_CORK, &0_i32.to_ne_bytes())?;
        rest?;
        Ok(Found::sent())
    };
    forms(plan.api.iter().flat_map(|api| {
        [
            (format!("corked {api}"), attempt(*api, SendFlags::empty(), 1)),
            (format!("more {api}"), attempt(*api, SendFlags::MORE, 0)),
        ]
    }))
}

/// Several datagrams in one call, the first of which go elsewhere.
pub(crate) fn many_at_once(plan: &Plan) -> Found {
    let attempt = |api: SocketAddr| -> Attempt {
        use std::os::fd::AsRawFd;
        let socket = any(plan, family_of(api), DATAGRAM, 0)?;
        let to: Vec<Option<SockaddrStorage>> = [outside(api), outside(api), api, api]
            .map(|address| Some(SockaddrStorage::from(address)))
            .into();
        let slices = [[io::IoSlice::new(MESSAGE)]; 4];
        let mut headers = MultiHeaders::preallocate(slices.len(), None);
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            &to,
            [],
            MsgFlags::empty(),
        )?;
        match sent.count() {
            4 => Ok(Found::sent()),
            taken => Ok(Found::blocked(format!("{taken} of 4 were taken"))),
        }
    };
    forms(plan.api.iter().map(|api| (api.to_string(), attempt(*api))))
}

/// Another thread changes the address while the kernel reads it.
pub(crate) fn rewritten_address(plan: &Plan) -> Found {
    forms(plan.api.iter().map(|api| {
        let attempt = any(plan, family_of(*api), DATAGRAM, 0).map(|socket| {
            let addresses = [raw_address(outside(*api)), raw_address(*api)];
            let taken = sys::connect_while_rewritten(&socket, &addresses, RACES, || {
                // A refusal leaves the socket as it was: what it sends then goes to where it was connected.
                send(&socket, MESSAGE, SendFlags::empty()).is_ok()
            });
            Found::reached(format!("{taken} of {RACES} datagrams were taken"))
        });
        (api.to_string(), attempt)
    }))
}

/// Options that change how a packet leaves, each on a socket of its own.
pub(crate) fn socket_options(plan: &Plan) -> Found {
    const ON: [u8; 4] = 1_i32.to_ne_bytes();
    // Level, number and value; the interface is the one the packets would leave by.
    let options: [(&str, i32, i32, &[u8]); 10] = [
        ("SO_DONTROUTE", SOL_SOCKET, 5, &ON),
        ("SO_REUSEPORT", SOL_SOCKET, 15, &ON),
        ("SO_BINDTODEVICE", SOL_SOCKET, 25, b"wire"),
        ("SO_MARK", SOL_SOCKET, 36, &ON),
        ("IP_FREEBIND", IPPROTO_IP, 15, &ON),
        ("IP_TRANSPARENT", IPPROTO_IP, 19, &ON),
        ("IP_BIND_ADDRESS_NO_PORT", IPPROTO_IP, 24, &ON),
        ("IPV6_FREEBIND", IPPROTO_IPV6, 78, &ON),
        ("IPV6_TRANSPARENT", IPPROTO_IPV6, 75, &ON),
        ("IPV6_DONTFRAG", IPPROTO_IPV6, 62, &ON),
    ];
    forms(plan.api.iter().flat_map(|api| {
        options.iter().flat_map(|(name, level, number, value)| {
            both(plan, name, *api, |socket| {
                set_option(socket, *level, *number, value)
            })
        })
    }))
}

/// IPv6 addresses with the API server's IPv4 address inside, for whatever translates or tunnels them.
pub(crate) fn embedded(plan: &Plan) -> Found {
    let forms_of = |v4: Ipv4Addr| {
        let [a, b, c, d] = v4.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        [
            ("IPv4-compatible", Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low)),
            ("SIIT", Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low)),
            ("6to4", Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)),
            ("Teredo", Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low)),
            ("ISATAP", Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low)),
            (
                "NAT64 of 48 bits",
                Ipv6Addr::new(0x64, 0xff9b, 1, high, c, d << 8, 0, 0),
            ),
            ("local NAT64", Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low)),
        ]
    };
    let tried = v4(plan).into_iter().flat_map(|api| {
        let IpAddr::V4(v4) = api.ip() else {
            return Vec::new();
        };
        let forms = forms_of(v4);
        let each = |(name, addr): (&str, Ipv6Addr)| {
            let to = SocketAddr::from((addr, api.port()));
            both(plan, name, to, |_| Ok(()))
        };
        forms.into_iter().flat_map(each).collect()
    });
    forms(tried)
}

/// The API server's address as one number, in octal and in hexadecimal: whatever a resolver makes of it.
pub(crate) fn spellings(plan: &Plan) -> Found {
    let tried = v4(plan).into_iter().flat_map(|api| {
        let IpAddr::V4(v4) = api.ip() else {
            return Vec::new();
        };
        let [a, b, c, d] = v4.octets();
        let low = u16::from_be_bytes([c, d]);
        let spelled = [
            v4.to_bits().to_string(),
            format!("{:#x}", v4.to_bits()),
            format!("{a:#05o}.{b}.{c}.{d:#05o}").replace("0o", "0"),
            format!("{a}.{b}.{low}"),
            format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        ];
        let dial = |name: String| {
            let attempt = (&*name, api.port()).to_socket_addrs().and_then(|mut found| {
                let to = found.next().ok_or(io::ErrorKind::NotFound)?;
                knock(STREAM, &any(plan, family_of(to), STREAM, 0)?, to)
            });
            (name, attempt)
        };
        spelled.map(dial).into()
    });
    forms(tried)
}
