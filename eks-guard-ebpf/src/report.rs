//! Counters, and for one reader of two kinds: log lines that a caller in a loop cannot turn into a flood, or events.

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_ns, bpf_skb_cgroup_id,
};
use aya_ebpf::programs::SockContext;
use aya_ebpf::programs::sk_buff::SkBuff;
use aya_log_ebpf::{error, info, warn};
use eks_guard_ebpf::address::Words;
use eks_guard_ebpf::refusal::{Hook, Refusal};
use eks_guard_ebpf::{Event, OriginalDst, reports, stat};

use crate::context::{self, Destination, SockAddr};
use crate::header::Dropped;
use crate::maps::{CFG, EVENTS, LOG_BUDGET, STATS};
use crate::wire;

/// Lines per second and processor; the counters go on.
const LINES_PER_SECOND: u64 = 8;

const COMM_BYTES: u32 = 16;
const IPPROTO_TCP: u16 = 6;

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: this processor's slot.
        unsafe { *counter += 1 };
    }
}

/// Counts and reports a refused destination.
#[inline(always)]
pub(crate) fn refused(hook: Hook, socket: &SockAddr<'_>, refusal: Refusal) {
    let destination = socket.destination();
    count(stat::refused(hook, refusal));
    if events_are_read() {
        let protocol = u16::from(destination.protocol);
        let report = Report {
            netns: socket.netns(),
            ..Report::of_caller(hook, refusal, destination.port, protocol)
        };
        send(&report, &destination.addr);
    } else if may_log() {
        log_refusal(&destination, refusal);
    }
}

/// Counts and reports a refused socket.
#[inline(always)]
pub(crate) fn socket_refused(ctx: &SockContext, refusal: Refusal) {
    count(stat::refused(Hook::Create, refusal));
    let (kind, protocol) = context::kind(ctx);
    if events_are_read() {
        send(
            &Report::of_caller(Hook::Create, refusal, 0, protocol as u16),
            &[0; 4],
        );
    } else if may_log() {
        log_socket(kind, protocol, refusal);
    }
}

/// Counts and reports a dropped packet.
#[inline(always)]
pub(crate) fn packet_dropped(packet: &SkBuff, dropped: &Dropped) {
    count(stat::refused(Hook::Packet, dropped.refusal));
    if events_are_read() {
        send(&Report::of_packet(Hook::Packet, packet, dropped), &dropped.addr);
    } else if may_log() {
        log_packet(dropped);
    }
}

/// Counts and reports a dropped frame.
#[inline(always)]
pub(crate) fn frame_dropped(packet: &SkBuff, dropped: &Dropped) {
    count(stat::refused(Hook::Wire, dropped.refusal));
    if events_are_read() {
        let report = Report {
            ifindex: wire::ifindex(packet),
            ..Report::of_packet(Hook::Wire, packet, dropped)
        };
        send(&report, &dropped.addr);
    } else if may_log() {
        log_packet(dropped);
    }
}

/// Counts and reports a connection that the listener will close.
#[inline(always)]
pub(crate) fn flow_not_written(original: &OriginalDst, netns: u64) {
    count(stat::refused(Hook::Flow, Refusal::FlowTable));
    if events_are_read() {
        let report = Report {
            cgroup: original.cgroup,
            netns,
            by: By::Nobody,
            pid: original.pid,
            ifindex: 0,
            port: original.port,
            protocol: IPPROTO_TCP,
            hook: Hook::Flow,
            refusal: Refusal::FlowTable,
        };
        send(&report, &original.addr);
    } else if may_log() {
        log_flow_not_written(original);
    }
}

#[inline(always)]
fn events_are_read() -> bool {
    CFG.get(0).is_some_and(|config| config.reports == reports::EVENTS)
}

/// Writes one event. One volatile store per word: the target has no memset, and stores are merged into one otherwise.
#[inline(always)]
fn send(report: &Report, addr: &Words) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        count(stat::EVENTS_LOST);
        return;
    };
    let event: *mut Event = entry.as_mut_ptr();
    // SAFETY: the ring buffer has reserved an event here; every field of it is written.
    unsafe {
        addr_of_mut!((*event).time).write_volatile(bpf_ktime_get_ns());
        addr_of_mut!((*event).cgroup).write_volatile(report.cgroup);
        addr_of_mut!((*event).netns).write_volatile(report.netns);
        addr_of_mut!((*event).comm[0]).write_volatile(0);
        addr_of_mut!((*event).comm[1]).write_volatile(0);
        if let By::Caller = report.by {
            bpf_get_current_comm(addr_of_mut!((*event).comm).cast(), COMM_BYTES);
        }
        for (i, word) in addr.iter().enumerate() {
            addr_of_mut!((*event).addr[i]).write_volatile(*word);
        }
        addr_of_mut!((*event).pid).write_volatile(report.pid);
        addr_of_mut!((*event).ifindex).write_volatile(report.ifindex);
        addr_of_mut!((*event).port).write_volatile(report.port);
        addr_of_mut!((*event).protocol).write_volatile(report.protocol);
        addr_of_mut!((*event).hook).write_volatile(report.hook as u16);
        addr_of_mut!((*event).refusal).write_volatile(report.refusal as u16);
    }
    entry.submit(0);
}

/// What is in an event beside its time and its destination.
struct Report {
    cgroup: u64,
    netns: u64,
    by: By,
    pid: u32,
    ifindex: u32,
    port: u16,
    protocol: u16,
    hook: Hook,
    refusal: Refusal,
}

/// Whether the hook is one of a system call, so that a caller can be named.
enum By {
    Caller,
    Nobody,
}

impl Report {
    /// Of a packet: which process sent it is not known.
    #[inline(always)]
    fn of_packet(hook: Hook, packet: &SkBuff, dropped: &Dropped) -> Self {
        Self {
            // SAFETY: the context of this program; the helper answers 0 where there is no socket.
            cgroup: unsafe { bpf_skb_cgroup_id(packet.skb) },
            netns: 0,
            by: By::Nobody,
            pid: 0,
            ifindex: 0,
            port: dropped.port,
            protocol: u16::from(dropped.protocol),
            hook,
            refusal: dropped.refusal,
        }
    }

    /// Of a system call.
    #[inline(always)]
    fn of_caller(hook: Hook, refusal: Refusal, port: u16, protocol: u16) -> Self {
        Self {
            // SAFETY: a helper without pointers.
            cgroup: unsafe { bpf_get_current_cgroup_id() },
            netns: 0,
            by: By::Caller,
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            ifindex: 0,
            port,
            protocol,
            hook,
            refusal,
        }
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
        | Refusal::Unreadable
        | Refusal::Martian
        | Refusal::UnknownProtocol => warn!(
            (),
            "refused [{:i}]:{} to process {}: not the port of the API server", to, port, pid
        ),
        Refusal::NotAllowed | Refusal::Infrastructure => warn!(
            (),
            "refused [{:i}]:{} to process {}: not on its allow list", to, port, pid
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
        Refusal::NotAllowed | Refusal::Infrastructure => {
            warn!((), "dropped a packet to [{:i}]: not on the allow list", to);
        }
        Refusal::Martian | Refusal::UnknownProtocol => {
            warn!((), "dropped a frame to [{:i}]: no wire leads there", to);
        }
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
