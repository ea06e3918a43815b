//! Flow entries: written when the SYN of a redirected socket leaves, taken by the listener, and removed when the socket closes
//! or turns elsewhere untaken. An entry is for the connection that this SYN begins, and for no other.

use core::ptr::{addr_of, null_mut};

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_sk_fullsock, bpf_sk_storage_get};
use aya_ebpf::programs::SockContext;
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{OriginalDst, Redirected, stat};

use crate::context::SockAddr;
use crate::header::Header;
use crate::judge::Target;
use crate::maps::{FLOWS, SK_REDIRECTED};
use crate::report;

/// Notes where a socket that is being redirected meant to go.
#[inline(always)]
pub(crate) fn expect(socket: &SockAddr<'_>, target: &Target, cgroup: u64) -> Result<(), Refusal> {
    // SAFETY: the socket of the context; the pointer is checked before use.
    let stored = unsafe { SK_REDIRECTED.get_or_insert_ptr_mut(socket.ctx, None).as_mut() };
    let stored = stored.ok_or(Refusal::Storage)?;
    stored.original = OriginalDst {
        addr: target.addr,
        cgroup,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        port: target.port as u16,
        padding: 0,
    };
    stored.flow.netns = socket.netns();
    stored.flow.port = 0;
    Ok(())
}

/// Where a redirected socket meant to go.
#[inline(always)]
pub(crate) fn original<'a>(socket: &SockAddr<'a>) -> Option<&'a OriginalDst> {
    redirected(socket).map(|redirected| &redirected.original)
}

/// Writes the entry of a connection to the listener when its SYN leaves: once, because a repeated SYN may come after the entry
/// was taken. Without its entry the connection is of no use: the listener closes it.
#[inline(always)]
pub(crate) fn begin(packet: &SkBuff, header: &Header) {
    let Some(syn) = header.syn(packet) else { return };
    let Some(redirected) = of_packet(packet) else {
        return;
    };
    if redirected.flow.port != 0 {
        return;
    }
    redirected.flow.addr = syn.addr;
    redirected.flow.port = u32::from(syn.port);
    redirected.flow.isn = syn.isn;
    if FLOWS.insert(&redirected.flow, &redirected.original, 0).is_ok() {
        report::count(stat::FLOWS);
    } else {
        report::flow_not_written(&redirected.original, redirected.flow.netns);
    }
}

/// Forgets what a socket was that is turned to elsewhere.
#[inline(always)]
pub(crate) fn forget(socket: &SockAddr<'_>) {
    // To look is cheap, to delete nothing is not.
    if let Some(redirected) = redirected(socket) {
        remove(redirected);
        // SAFETY: the socket of the context. An error says that another thread was faster.
        let _gone_already = unsafe { SK_REDIRECTED.delete(socket.sock()) };
    }
}

/// Removes the entry of a socket that is closed: whoever has not spoken TLS yet, will not.
#[inline(always)]
pub(crate) fn end(ctx: &SockContext) {
    // SAFETY: the context of this program, which is the socket.
    if let Some(redirected) = unsafe { stored(ctx.sock) } {
        remove(redirected);
    }
}

#[inline(always)]
fn remove(redirected: &Redirected) {
    if redirected.flow.port != 0 {
        // An error says that the listener took the entry.
        let _taken = FLOWS.remove(&redirected.flow);
    }
}

#[inline(always)]
fn redirected<'a>(socket: &SockAddr<'a>) -> Option<&'a Redirected> {
    // SAFETY: the socket of the context; the pointer is checked before use and lives as long as the socket.
    unsafe { SK_REDIRECTED.get_ptr_mut(socket.ctx).as_ref() }
}

#[inline(always)]
fn of_packet(packet: &SkBuff) -> Option<&mut Redirected> {
    // SAFETY: a field of the context; the helper checks the socket, and answers null for what is none.
    unsafe {
        let sock = addr_of!((*packet.skb).__bindgen_anon_2.sk).read_volatile();
        if sock.is_null() {
            return None;
        }
        let full = bpf_sk_fullsock(sock);
        if full.is_null() { None } else { stored(full) }
    }
}

/// # Safety
/// `sock` is the socket of a context, or what a helper has answered and not null.
#[inline(always)]
unsafe fn stored<'a>(sock: *mut bpf_sock) -> Option<&'a mut Redirected> {
    let map = addr_of!(SK_REDIRECTED).cast_mut().cast();
    // SAFETY: see above; the pointer is checked before use, and lives as long as the socket.
    unsafe {
        bpf_sk_storage_get(map, sock.cast(), null_mut(), 0)
            .cast::<Redirected>()
            .as_mut()
    }
}
