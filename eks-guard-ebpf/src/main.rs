//! The kernel programs: each entry turns one typed outcome into a verdict. Built for the BPF target by `cargo xtask build`.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "contexts, maps and helpers are raw; the verifier checks every access"
)]

mod apart;
mod connect;
mod context;
mod flow;
mod header;
mod judge;
mod maps;
mod owner;
mod packet;
mod reply;
mod report;
mod socket;
mod wire;

use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext, TcContext};
use eks_guard_ebpf::refusal::{Hook, Refusal};

use crate::context::SockAddr;

const ALLOW: i32 = 1;
const DENY: i32 = 0;
/// To whatever else looks at the frame; on kernels without tcx, too.
const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
const EPROTONOSUPPORT: i32 = 93;
const ECONNREFUSED: i32 = 111;

/// connect() on an IPv4 address, every protocol.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v4(&ctx);
    verdict(&socket, Hook::Connect, connect::connect(&socket))
}

/// connect() on an IPv6 address, mapped ones included.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v6(&ctx);
    verdict(&socket, Hook::Connect, connect::connect(&socket))
}

/// A datagram with its own IPv4 destination.
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v4(&ctx);
    verdict(&socket, Hook::Send, connect::send(&socket))
}

/// A datagram with its own IPv6 destination.
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v6(&ctx);
    verdict(&socket, Hook::Send, connect::send(&socket))
}

/// getpeername() on an IPv4 socket: a redirected one names where it meant to go.
#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    connect::peer_name(&SockAddr::v4(&ctx));
    ALLOW
}

/// getpeername() on an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    connect::peer_name(&SockAddr::v6(&ctx));
    ALLOW
}

/// getsockname() on an IPv4 socket: a redirected one names its pod.
#[cgroup_sock_addr(getsockname4)]
fn getsockname4(ctx: SockAddrContext) -> i32 {
    connect::own_name(&SockAddr::v4(&ctx));
    ALLOW
}

/// getsockname() on an IPv6 socket.
#[cgroup_sock_addr(getsockname6)]
fn getsockname6(ctx: SockAddrContext) -> i32 {
    connect::own_name(&SockAddr::v6(&ctx));
    ALLOW
}

/// socket() of the IPv4 and IPv6 families.
#[cgroup_sock(sock_create)]
fn sock_create(ctx: SockContext) -> i32 {
    match socket::create(&ctx) {
        Ok(()) => ALLOW,
        Err(refusal) => {
            report::socket_refused(&ctx, refusal);
            // SAFETY: a helper without pointers; should it fail, the caller sees EPERM instead.
            unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
            DENY
        }
    }
}

/// The last close() of a socket of the IPv4 and IPv6 families.
#[cgroup_sock(sock_release)]
fn sock_release(ctx: SockContext) -> i32 {
    flow::end(&ctx);
    ALLOW
}

/// A packet of a guarded socket, after every rewriting of its destination on this host. Whoever sends it sees EPERM.
#[cgroup_skb(egress)]
fn egress(ctx: SkBuffContext) -> i32 {
    match packet::leave(&ctx.skb) {
        Ok(()) => ALLOW,
        Err(dropped) => {
            report::packet_dropped(&ctx.skb, &dropped);
            DENY
        }
    }
}

/// A frame from an agent's pod, on the host side of its interface.
#[classifier]
fn wire(ctx: TcContext) -> i32 {
    match wire::arrive(&ctx.skb) {
        Ok(()) => TCX_NEXT,
        Err(dropped) => {
            report::frame_dropped(&ctx.skb, &dropped);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn verdict(socket: &SockAddr<'_>, hook: Hook, outcome: Result<(), Refusal>) -> i32 {
    match outcome {
        Ok(()) => ALLOW,
        Err(refusal) => {
            report::refused(hook, socket, refusal);
            // SAFETY: a helper without pointers; should it fail, the caller sees EPERM instead.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            DENY
        }
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Several helpers are for programs under a GPL-compatible licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
