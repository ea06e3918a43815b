//! Replies to those who connected to an agent: a health probe, say. They go where no list allows, and whether a packet is
//! one is not to be read from it. Its socket says so: TCP, with a listener or made by one. The mark is set when the listener
//! answers, copied by the kernel to the connection's socket, and gone as soon as anyone turns the socket to elsewhere.
//! Packets without such a socket are no replies: those of packet sockets, datagrams, answers under a flood of connections
//! (SYN cookies), and resets of what is closed already.

use core::ptr::{addr_of, null_mut};

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_get_listener_sock, bpf_sk_fullsock, bpf_sk_storage_delete, bpf_sk_storage_get,
};
use aya_ebpf::programs::sk_buff::SkBuff;

use crate::maps::SK_ACCEPTED;

/// Whether a packet's socket is one that others have connected to.
#[inline(always)]
pub(crate) fn is_reply(packet: &SkBuff) -> bool {
    // SAFETY: a field of the context; the helpers check the socket, and answer null for what is none.
    unsafe {
        let sock = addr_of!((*packet.skb).__bindgen_anon_2.sk).read_volatile();
        if sock.is_null() {
            return false;
        }
        let listener = bpf_get_listener_sock(sock);
        if !listener.is_null() {
            return has_mark(listener, BPF_SK_STORAGE_GET_F_CREATE.into());
        }
        let full = bpf_sk_fullsock(sock);
        !full.is_null() && has_mark(full, 0)
    }
}

/// Takes the mark off a socket that is turned to elsewhere.
#[inline(always)]
pub(crate) fn forget(sock: *mut bpf_sock) {
    // SAFETY: the socket of a context. To look is cheap, to delete nothing is not; an error says that another thread was
    // faster.
    unsafe {
        if has_mark(sock, 0) {
            let _gone_already = bpf_sk_storage_delete(SK_ACCEPTED.as_ptr(), sock.cast());
        }
    }
}

/// # Safety
/// `sock` is the socket of a context, or what a helper has answered and not null.
#[inline(always)]
unsafe fn has_mark(sock: *mut bpf_sock, flags: u64) -> bool {
    // SAFETY: see above.
    !unsafe { bpf_sk_storage_get(SK_ACCEPTED.as_ptr(), sock.cast(), null_mut(), flags) }.is_null()
}
