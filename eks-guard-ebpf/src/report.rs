//! Counters, and log lines that a caller in a loop cannot turn into a flood.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::SockContext;
use aya_log_ebpf::{error, info, warn};
use eks_guard_ebpf::address::Words;
use eks_guard_ebpf::refusal::{Hook, Refusal};
use eks_guard_ebpf::{OriginalDst, stat};

use crate::context::{self, Destination};
use crate::maps::{LOG_BUDGET, STATS};
use crate::packet::Dropped;

/// Lines per second and processor; the counters go on.
const LINES_PER_SECOND: u64 = 8;

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: this processor's slot.
        unsafe { *counter += 1 };
    }
}

/// Counts and logs a refused destination.
#[inline(always)]
pub(crate) fn refused(hook: Hook, destination: &Destination, refusal: Refusal) {
    count(stat::refused(hook, refusal));
    if may_log() {
        log_refusal(destination, refusal);
    }
}

/// Counts and logs a refused socket.
#[inline(always)]
pub(crate) fn socket_refused(ctx: &SockContext, refusal: Refusal) {
    count(stat::refused(Hook::Create, refusal));
    if may_log() {
        let (kind, protocol) = context::kind(ctx);
        log_socket(kind, protocol, refusal);
    }
}

/// Counts and logs a dropped packet.
#[inline(always)]
pub(crate) fn packet_dropped(dropped: &Dropped) {
    count(stat::refused(Hook::Packet, dropped.refusal));
    if may_log() {
        log_packet(dropped);
    }
}

/// Counts and logs a connection that the listener will close.
#[inline(always)]
pub(crate) fn flow_not_written(original: &OriginalDst) {
    count(stat::refused(Hook::Flow, Refusal::FlowTable));
    if may_log() {
        log_flow_not_written(original);
    }
}

#[cold]
#[inline(never)]
fn log_refusal(destination: &Destination, refusal: Refusal) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let to = octets(destination.addr);
    let port = destination.port;
    match refusal {
        // Every resolver does it: it connects a datagram socket to each address of a name to see which way it goes.
        Refusal::NotTcp => info!((), "refused [{:i}]:{} to process {}: not TCP", to, port, pid),
        Refusal::OtherPort
        | Refusal::NotRedirected
        | Refusal::FlowTable
        | Refusal::SocketKind
        | Refusal::RoutingHeader
        | Refusal::Unreadable => warn!(
            (),
            "refused [{:i}]:{} to process {}: not the port of the API server", to, port, pid
        ),
        Refusal::Unclassified => warn!(
            (),
            "refused [{:i}]:{} to process {}: cgroup not on record", to, port, pid
        ),
        Refusal::NoListener => error!((), "refused [{:i}]:{} to process {}: no listener", to, port, pid),
        Refusal::UnknownClass => error!(
            (),
            "refused [{:i}]:{} to process {}: unknown class", to, port, pid
        ),
        Refusal::Storage => error!(
            (),
            "refused [{:i}]:{} to process {}: no socket storage", to, port, pid
        ),
        Refusal::Abi => error!(
            (),
            "refused [{:i}]:{} to process {}: maps of another version", to, port, pid
        ),
    }
}

#[cold]
#[inline(never)]
fn log_socket(kind: u32, protocol: u32, refusal: Refusal) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if refusal.is_failure() {
        error!(
            (),
            "refused a socket of kind {} and protocol {} to process {}: maps of another version, or cgroup not on record",
            kind,
            protocol,
            pid
        );
    } else {
        warn!(
            (),
            "refused a socket of kind {} and protocol {} to process {}: its destinations would not be seen",
            kind,
            protocol,
            pid
        );
    }
}

/// Which process sent it is not known here.
#[cold]
#[inline(never)]
fn log_packet(dropped: &Dropped) {
    let to = octets(dropped.addr);
    match dropped.refusal {
        Refusal::RoutingHeader => warn!((), "dropped a packet to [{:i}]: routing header", to),
        Refusal::Unreadable => warn!((), "dropped a packet to [{:i}]: its port cannot be read", to),
        Refusal::NotRedirected => warn!((), "dropped a packet to [{:i}]: it was not redirected", to),
        _ => error!(
            (),
            "dropped a packet to [{:i}]: maps of another version, or cgroup not on record", to
        ),
    }
}

#[cold]
#[inline(never)]
fn log_flow_not_written(original: &OriginalDst) {
    let to = octets(original.addr);
    error!(
        (),
        "flow of process {} to [{:i}]:{} not written: map full", original.pid, to, original.port
    );
}

#[inline(always)]
fn may_log() -> bool {
    let Some(budget) = LOG_BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a helper without pointers, and this processor's slot.
    let (second, budget) = unsafe { (bpf_ktime_get_ns() / 1_000_000_000, &mut *budget) };
    if budget.second != second {
        budget.second = second;
        budget.lines = 0;
    }
    budget.lines += 1;
    budget.lines <= LINES_PER_SECOND
}

#[inline(always)]
fn octets(addr: Words) -> [u8; 16] {
    // SAFETY: the same sixteen bytes; asking for them one by one costs a call the target does not have.
    unsafe { core::mem::transmute(addr) }
}
