//! The kernel programs: each entry turns one typed outcome into a verdict. Built for the BPF target by `cargo xtask build`.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "contexts, maps and helpers are raw; the verifier checks every access"
)]

mod connect;
mod context;
mod flow;
mod judge;
mod maps;
mod report;

use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::{cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};

use crate::context::SockAddr;
use crate::judge::Refusal;

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// connect() on an IPv4 address, every protocol.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v4(&ctx);
    verdict(&socket, connect::connect(&socket))
}

/// connect() on an IPv6 address, mapped ones included.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v6(&ctx);
    verdict(&socket, connect::connect(&socket))
}

/// A datagram with its own IPv4 destination.
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v4(&ctx);
    verdict(&socket, connect::send(&socket))
}

/// A datagram with its own IPv6 destination.
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let socket = SockAddr::v6(&ctx);
    verdict(&socket, connect::send(&socket))
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

/// The life of a TCP socket: the flow entry exists from before the SYN until it is taken or the socket is closed.
#[sock_ops]
fn flow_events(ctx: SockOpsContext) -> u32 {
    flow::event(&ctx);
    1
}

#[inline(always)]
fn verdict(socket: &SockAddr<'_>, outcome: Result<(), Refusal>) -> i32 {
    match outcome {
        Ok(()) => ALLOW,
        Err(refusal) => {
            report::refused(&socket.destination(), refusal);
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
