//! Which sockets a guarded process gets, root included.

use std::collections::BTreeMap;

use eks_guard::ebpf::{Hook, Refusal};

use crate::world::{Side, World};

const INET: u32 = 2;
const INET6: u32 = 10;

/// Family, kind and protocol of sockets whose destinations the connect and send hooks do not see.
const UNSEEN: [(u32, u32, u32); 20] = [
    // Raw.
    (INET, 3, 1),
    (INET, 3, 6),
    (INET, 3, 17),
    (INET, 3, 255),
    (INET6, 3, 6),
    (INET6, 3, 58),
    (INET6, 3, 255),
    // SCTP.
    (INET, 1, 132),
    (INET, 5, 132),
    (INET6, 1, 132),
    (INET6, 5, 132),
    // DCCP.
    (INET, 6, 33),
    (INET6, 6, 33),
    // UDP-Lite.
    (INET, 2, 136),
    (INET6, 2, 136),
    // L2TP.
    (INET, 2, 115),
    (INET6, 2, 115),
    // Multipath TCP.
    (INET, 1, 262),
    (INET6, 1, 262),
    // SMC under its TCP family.
    (INET, 1, 256),
];

#[test]
fn sockets_that_do_not_say_where_they_go_are_refused_to_root_too() {
    let world = World::local();
    let made = |side, (family, kind, protocol)| {
        let probe = world.probe(side, &format!("socket {family} {kind} {protocol}"));
        probe.finish()
    };
    let outside: BTreeMap<_, _> = UNSEEN
        .into_iter()
        .map(|kind| (kind, made(Side::Outside, kind)))
        .collect();
    let known = outside.values().filter(|answer| *answer == "made").count();
    // Raw sockets and multipath TCP, whatever the kernel was built with.
    assert!(known >= 9, "{outside:?}");
    for (side, times) in [(Side::Inside, 1), (Side::Nested, 2)] {
        for kind in UNSEEN {
            let expected = match outside[&kind].as_str() {
                "made" => "error EPROTONOSUPPORT",
                unknown_to_this_kernel => unknown_to_this_kernel,
            };
            assert_eq!(made(side, kind), expected, "{kind:?}");
        }
        let refused = world
            .datapath
            .stats()
            .refused_by(Hook::Create, Refusal::SocketKind);
        assert_eq!(refused, known as u64 * times);
    }
    assert_eq!(world.datapath.stats().failed(), 0);
}

#[test]
fn other_sockets_are_made() {
    const UNIX: u32 = 1;
    const NETLINK: u32 = 16;
    let world = World::local();
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    for (family, kind, protocol) in [
        (INET, 1, 0),
        (INET, 1, 6),
        (INET6, 1, 0),
        (INET, 2, 0),
        (INET6, 2, 17),
        (INET, 2, 1),
        (INET6, 2, 58),
        (UNIX, 1, 0),
        (NETLINK, 3, 0),
    ] {
        let probe = world.probe(Side::Inside, &format!("socket {family} {kind} {protocol}"));
        assert_eq!(probe.finish(), "made", "{family} {kind} {protocol}");
    }
    assert_eq!(world.datapath.stats().refused(), 0);
}
