//! The layout that kernel programs and loader agree on.

use core::mem::{align_of, size_of};

use crate::allow::{Allow, Exact};
use crate::refusal::{Hook, Refusal};
use crate::{
    Class, Config, Event, FlowKey, Link, OriginalDst, Pod, Redirected, egress, limits, stat, unknown,
};

#[test]
fn every_counter_has_a_place_of_its_own() {
    let refusals = Hook::ALL
        .iter()
        .flat_map(|hook| Refusal::ALL.map(|refusal| stat::refused(*hook, refusal)));
    let counters = [stat::REDIRECTED, stat::FLOWS, stat::EVENTS_LOST]
        .into_iter()
        .chain(refusals);
    assert!(counters.eq(0..stat::COUNT));
}

#[test]
fn hooks_and_refusals_are_found_by_their_number() {
    for hook in Hook::ALL {
        assert_eq!(Hook::from_number(hook as u16), Some(hook));
    }
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::from_number(refusal as u16), Some(refusal));
    }
    assert_eq!(Hook::from_number(Hook::Wire as u16 + 1), None);
    assert_eq!(Refusal::from_number(Refusal::UnknownProtocol as u16 + 1), None);
}

#[test]
fn no_layout_has_hidden_bytes() {
    assert_eq!((size_of::<Pod>(), align_of::<Pod>()), (48, 8));
    assert_eq!((size_of::<Link>(), align_of::<Link>()), (16, 4));
    assert_eq!((size_of::<Class>(), align_of::<Class>()), (12, 4));
    assert_eq!((size_of::<Config>(), align_of::<Config>()), (92, 4));
    assert_eq!((size_of::<OriginalDst>(), align_of::<OriginalDst>()), (32, 8));
    assert_eq!((size_of::<FlowKey>(), align_of::<FlowKey>()), (32, 8));
    assert_eq!((size_of::<Redirected>(), align_of::<Redirected>()), (64, 8));
    assert_eq!((size_of::<Event>(), align_of::<Event>()), (72, 8));
    assert_eq!((size_of::<Allow>(), align_of::<Allow>()), (4, 4));
    assert_eq!((size_of::<Exact>(), align_of::<Exact>()), (4, 4));
    assert!(limits::EVENT_BYTES.is_power_of_two() && limits::EVENT_BYTES.is_multiple_of(4096));
}

#[test]
fn zero_is_closed() {
    assert_eq!(Pod::default().egress, egress::ALLOW_LIST);
    assert_eq!(Pod::default().flags, 0);
    assert_eq!(Class::default().port_only, 0);
    assert_eq!(Config::default().unknown, unknown::NO_CLASSES);
    assert_eq!(Allow::default().opens, 0);
    assert_eq!(Exact::default().passes, 0);
}

#[test]
fn a_class_has_the_ports_of_its_range() {
    let class = Class {
        first_port: 10248,
        last_port: 10259,
        ..Class::default()
    };
    for port in [10248, 10250, 10255, 10256, 10259] {
        assert!(class.has_port(port), "{port}");
    }
    assert!(!class.has_port(10247) && !class.has_port(10260));
}
