//! Counters, and an event for each refusal, as long as its reader keeps up.

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_ns, bpf_skb_cgroup_id,
};
use aya_ebpf::programs::SockContext;
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::address::Words;
use eks_guard_ebpf::refusal::{Hook, Refusal};
use eks_guard_ebpf::{Event, OriginalDst, stat};

use crate::context::{self, SockAddr};
use crate::header::Dropped;
use crate::maps::{EVENTS, STATS};
use crate::wire;

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

/// Counts and reports a refused target.
#[inline(always)]
pub(crate) fn refused(hook: Hook, socket: &SockAddr<'_>, refusal: Refusal) {
    let target = socket.target();
    count(stat::refused(hook, refusal));
    let protocol = target.protocol as u16;
    let report = Report {
        netns: socket.netns(),
        ..Report::of_caller(hook, refusal, target.port as u16, protocol)
    };
    send(&report, &target.addr);
}

/// Counts and reports a refused socket.
#[inline(always)]
pub(crate) fn socket_refused(ctx: &SockContext, refusal: Refusal) {
    count(stat::refused(Hook::Create, refusal));
    let (_kind, protocol) = context::kind(ctx);
    send(
        &Report::of_caller(Hook::Create, refusal, 0, protocol as u16),
        &[0; 4],
    );
}

/// Counts and reports a dropped packet.
#[inline(always)]
pub(crate) fn packet_dropped(packet: &SkBuff, dropped: &Dropped) {
    count(stat::refused(Hook::Packet, dropped.refusal));
    send(
        &Report::of_packet(Hook::Packet, packet, dropped),
        &dropped.target.addr,
    );
}

/// Counts and reports a dropped frame.
#[inline(always)]
pub(crate) fn frame_dropped(packet: &SkBuff, dropped: &Dropped) {
    count(stat::refused(Hook::Wire, dropped.refusal));
    let report = Report {
        ifindex: wire::ifindex(packet),
        ..Report::of_packet(Hook::Wire, packet, dropped)
    };
    send(&report, &dropped.target.addr);
}

/// Counts and reports a connection that the listener will close.
#[inline(always)]
pub(crate) fn flow_not_written(original: &OriginalDst, netns: u64) {
    count(stat::refused(Hook::Flow, Refusal::FlowTable));
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

/// What is in an event beside its time and its target.
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
            port: dropped.target.port as u16,
            protocol: dropped.target.protocol as u16,
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
