//! Flow entries: written before the SYN of a redirected socket leaves, removed when the socket closes untaken.

use core::ptr::{addr_of, null_mut};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get};
use aya_ebpf::programs::SockOpsContext;
use eks_guard_ebpf::{FlowKey, OriginalDst, stat};

use crate::context::flow_key;
use crate::maps::{FLOWS, SK_ORIG};
use crate::report;

const BPF_TCP_CLOSE: u32 = 7;

/// Handles one socket event.
#[inline(always)]
pub(crate) fn event(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => open(ctx),
        // Only sockets that `open` marked report their states. A half-closed one may still be accepted.
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => {
            // An error says that the listener took the entry.
            let _taken = FLOWS.remove(key(ctx));
        }
        _ => {}
    }
}

/// Without its entry the connection is of no use: the listener closes it.
#[inline(always)]
fn open(ctx: &SockOpsContext) {
    let Some(original) = original(ctx) else { return };
    let key = key(ctx);
    let flags = ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    // An entry that nothing would remove must not be written.
    let written = ctx.set_cb_flags(flags as i32).is_ok() && FLOWS.insert(key, original, 0).is_ok();
    if written {
        report::count(stat::FLOWS);
    } else {
        report::flow_not_written(original, key.netns);
    }
}

#[inline(always)]
fn original(ctx: &SockOpsContext) -> Option<&OriginalDst> {
    // SAFETY: both pointers are checked before use; the storage lives as long as the socket.
    unsafe {
        let sock = addr_of!((*ctx.ops).__bindgen_anon_2.sk).read_volatile();
        if sock.is_null() {
            return None;
        }
        let map = addr_of!(SK_ORIG).cast_mut().cast();
        bpf_sk_storage_get(map, sock.cast(), null_mut(), 0)
            .cast::<OriginalDst>()
            .as_ref()
    }
}

#[inline(always)]
fn key(ctx: &SockOpsContext) -> FlowKey {
    // SAFETY: the context of this program.
    flow_key(ctx, unsafe { bpf_get_netns_cookie(ctx.as_ptr()) })
}
