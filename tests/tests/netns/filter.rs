//! The packet filter of the node: what an agent's interface is not forwarded, and what becomes of the table when somebody
//! dies or meddles.

use std::time::Instant;

use eks_guard::ebpf::node::closed;
use eks_guard::netlink::nftables::Ownership;
use eks_guard::node::filter::{Filter, Raw, Wanted, remove};
use eks_guard::node::kernel::Interfaces;

use crate::node_world::{Node, Who, destinations, kernel};
use crate::probe::Probe;
use crate::wire::{FRAGMENT, IPV4, IPV6, ROUTING, frame, summed, v4, v6, v6_behind};
use crate::world::{PATIENCE, enter_new_network};

/// Name of the tests' table.
pub(crate) const TABLE: &str = "eks-guard-test";
/// First kernel with tables that outlive their owner.
const KEPT_SINCE: (u32, u32) = (6, 9);

/// Everything that agents must not reach, closed to what comes in through an interface.
pub(crate) fn wanted(interface: u32) -> Wanted {
    let nat64 = vec!["2001:db8:64::".parse().unwrap()];
    Wanted {
        interfaces: closed_to(interface),
        closed: closed(&destinations(), &nat64),
        nat64,
    }
}

fn closed_to(interface: u32) -> Interfaces {
    Interfaces {
        closed: [interface].into(),
        ..Interfaces::default()
    }
}

/// A dead owner's socket may live on for a moment in a process that is being started.
fn close_at_last(filter: &mut Filter, wanted: &Wanted) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = filter.close(wanted) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::yield_now();
    }
}

/// Sends frames that the rules about headers stop, and those about an address in disguise of which some ports are closed. How
/// many of them the table drops.
fn send_disguised(probe: &mut Probe, raw: Raw) -> u64 {
    let seen_anywhere = [
        v6("64:ff9b::192.0.2.7", 10_250),
        v6_behind(FRAGMENT, "64:ff9b::192.0.2.7", 443),
        v6_behind(ROUTING, "2001:db8::99", 443),
    ];
    for packet in &seen_anywhere {
        assert_eq!(probe.ask(&frame(IPV6, packet)), "sent");
    }
    // The chain before all others alone sees what the node takes for a mistake, a packet in its own name, and parts of
    // packets before it puts them together.
    let mut own_name = v4("192.0.2.1", 443, &[]);
    own_name[12..16].copy_from_slice(&[127, 0, 0, 1]);
    let mut part = v4("192.0.2.7", 443, &[]);
    part[7] = 1;
    let seen_early = [own_name, part].map(summed);
    for packet in &seen_early {
        assert_eq!(probe.ask(&frame(IPV4, packet)), "sent");
    }
    let early = match raw {
        Raw::Judged => seen_early.len(),
        Raw::LeftToPrograms => 0,
    };
    (seen_anywhere.len() + early) as u64
}

#[test]
fn what_the_node_forwards_for_an_agent_is_looked_at_by_itself() {
    for raw in [Raw::Judged, Raw::LeftToPrograms] {
        let node = Node::block_list();
        let mut probe = node.probe(Who::Agent, "frames");
        assert_eq!(probe.line(), "ready");
        let to_api = frame(IPV4, &v4("192.0.2.1", 443, &[]));
        assert_eq!(probe.ask(&to_api), "sent");
        assert_eq!(node.far.datagram(), b"raw", "no other layer sees it");

        let wanted = wanted(node.ifindex());
        let mut filter = node.far.run(|| {
            let mut filter = Filter::open(TABLE, raw).unwrap();
            filter.close(&wanted).unwrap();
            filter
        });
        for to in ["192.0.2.1", "169.254.169.254", "169.254.170.23", "203.0.113.1"] {
            assert_eq!(probe.ask(&frame(IPV4, &v4(to, 443, &[]))), "sent");
        }
        assert_eq!(probe.ask(&frame(IPV4, &v4("192.0.2.7", 10_250, &[]))), "sent");
        let routed = v4("203.0.113.99", 443, &[1; 4]);
        assert_eq!(probe.ask(&frame(IPV4, &routed)), "sent");
        for to in ["2001:db8::a", "64:ff9b::192.0.2.1", "2001:db8:64::192.0.2.1"] {
            assert_eq!(probe.ask(&frame(IPV6, &v6(to, 443))), "sent");
        }
        let dropped = 9 + send_disguised(&mut probe, raw);
        // The rest passes, and what was sent before it has been looked at by then.
        for port in [443, 8080] {
            assert_eq!(probe.ask(&frame(IPV4, &v4("192.0.2.7", port, &[]))), "sent");
            assert_eq!(node.far.datagram(), b"raw");
        }
        node.far.assert_untouched("frames to the classes");
        assert_eq!(filter.fault().unwrap(), None);
        assert_eq!(filter.dropped(), dropped, "{raw:?}");

        // Of another interface nothing is dropped, and what was counted stays so.
        filter
            .close(&Wanted {
                interfaces: closed_to(node.ifindex() + 1000),
                ..wanted.clone()
            })
            .unwrap();
        assert_eq!(probe.ask(&to_api), "sent");
        assert_eq!(node.far.datagram(), b"raw");
        assert_eq!(filter.fault().unwrap(), None);
        assert_eq!(filter.dropped(), dropped, "{raw:?}");

        // What an agent's list may open is left to the other layers, the API server is not.
        let opened = Interfaces {
            opened: [node.ifindex()].into(),
            ..Interfaces::default()
        };
        filter
            .close(&Wanted {
                interfaces: opened.clone(),
                ..wanted
            })
            .unwrap();
        assert_eq!(filter.interfaces().unwrap(), opened);
        assert_eq!(probe.ask(&to_api), "sent");
        for to in ["169.254.169.254", "203.0.113.1"] {
            assert_eq!(probe.ask(&frame(IPV4, &v4(to, 443, &[]))), "sent");
            assert_eq!(node.far.datagram(), b"raw");
        }
        assert_eq!(probe.ask(&frame(IPV4, &v4("192.0.2.7", 10_250, &[]))), "sent");
        assert_eq!(node.far.datagram(), b"raw");
        node.far.assert_untouched("frames to the API server");
        assert_eq!(filter.fault().unwrap(), None);
        assert_eq!(filter.dropped(), dropped + 1, "{raw:?}");
    }
}

#[test]
fn the_table_stays_when_its_daemon_dies_and_the_next_one_takes_it() {
    enter_new_network();
    let first = wanted(7);
    let mut filter = Filter::open(TABLE, Raw::Judged).unwrap();
    filter.close(&first).unwrap();
    assert_eq!(filter.fault().unwrap(), None);
    assert_eq!(filter.ownership() == Ownership::Kept, kernel() >= KEPT_SINCE);
    drop(filter);

    let mut next = Filter::open(TABLE, Raw::Judged).unwrap();
    assert_eq!(next.interfaces().unwrap(), first.interfaces);
    close_at_last(&mut next, &wanted(8));
    assert_eq!(next.interfaces().unwrap(), closed_to(8));
    assert_eq!(next.fault().unwrap(), None);
    drop(next);

    let deadline = Instant::now() + PATIENCE;
    while remove(TABLE).is_err() {
        assert!(Instant::now() < deadline, "the table is still owned");
        std::thread::yield_now();
    }
    assert!(!remove(TABLE).unwrap(), "there was a second one");
}

#[test]
fn who_meddles_with_the_table_is_refused_or_noticed() {
    enter_new_network();
    let wanted = wanted(7);
    let mut filter = Filter::open(TABLE, Raw::Judged).unwrap();
    filter.close(&wanted).unwrap();
    if filter.ownership() == Ownership::Kept {
        assert!(remove(TABLE).is_err());
        let mut second = Filter::open(TABLE, Raw::Judged).unwrap();
        assert!(second.close(&Wanted::default()).is_err());
    } else {
        assert!(remove(TABLE).unwrap());
        assert_eq!(filter.fault().unwrap(), Some("is gone"));
        filter.forget();
        filter.close(&wanted).unwrap();
        assert_eq!(filter.fault().unwrap(), None);
        // Another that says something else.
        let mut second = Filter::open(TABLE, Raw::Judged).unwrap();
        second.close(&Wanted::default()).unwrap();
        assert_eq!(filter.fault().unwrap(), Some("was changed by somebody else"));
        filter.forget();
        filter.close(&wanted).unwrap();
    }
    assert_eq!(filter.fault().unwrap(), None);
    assert_eq!(filter.interfaces().unwrap(), closed_to(7));
}
