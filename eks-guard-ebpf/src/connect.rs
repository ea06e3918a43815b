//! connect(), sendto() and getpeername() of a guarded socket.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use eks_guard_ebpf::address::{self, Form, LOOPBACK4, LOOPBACK6};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{OriginalDst, stat};

use crate::context::{self, Destination, SockAddr};
use crate::judge::{Judgement, Transport, judge};
use crate::maps::SK_ORIG;
use crate::report;

/// Redirects, passes or refuses a connect(). Whatever is not redirected leaves nothing in the socket's storage:
/// a socket that was redirected, disconnected and connected again must not name its former destination.
#[inline(always)]
pub(crate) fn connect(socket: &SockAddr<'_>) -> Result<(), Refusal> {
    let destination = socket.destination();
    let transport = if socket.is_tcp() {
        Transport::Tcp
    } else {
        Transport::Other
    };
    match judge(&destination, transport) {
        Ok(Judgement::Redirect { cgroup, port }) => redirect(socket, &destination, cgroup, port),
        Ok(Judgement::Pass) => {
            forget(socket);
            Ok(())
        }
        Err(refusal) => {
            forget(socket);
            Err(refusal)
        }
    }
}

/// Passes or refuses a datagram that names its own destination; there is nothing to redirect it to.
#[inline(always)]
pub(crate) fn send(socket: &SockAddr<'_>) -> Result<(), Refusal> {
    match judge(&socket.destination(), Transport::Other)? {
        Judgement::Pass => Ok(()),
        Judgement::Redirect { .. } => Err(Refusal::NotTcp),
    }
}

/// Answers getpeername() of a redirected socket with where it meant to go.
#[inline(always)]
pub(crate) fn peer_name(socket: &SockAddr<'_>) {
    // SAFETY: the socket of the context; the pointer is checked before use.
    let original = unsafe { SK_ORIG.get_ptr_mut(socket.ctx).as_ref() };
    if let Some(original) = original {
        socket.set(&context::peer(original), original.port);
    }
}

#[inline(always)]
fn redirect(
    socket: &SockAddr<'_>,
    destination: &Destination,
    cgroup: u64,
    listener_port: u16,
) -> Result<(), Refusal> {
    // SAFETY: the socket of the context; the pointer is checked before use.
    let stored = unsafe { SK_ORIG.get_or_insert_ptr_mut(socket.ctx, None).as_mut() };
    *stored.ok_or(Refusal::Storage)? = OriginalDst {
        addr: destination.addr,
        cgroup,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        port: destination.port,
        padding: 0,
    };
    let listener = match destination.form {
        Form::Mapped(_) => address::mapped(LOOPBACK4),
        Form::Native | Form::Nat64(_) => LOOPBACK6,
    };
    socket.set(&listener, listener_port);
    report::count(stat::REDIRECTED);
    Ok(())
}

#[inline(always)]
fn forget(socket: &SockAddr<'_>) {
    // SAFETY: the socket of the context. An error says that there was nothing to forget.
    let _nothing_stored = unsafe { SK_ORIG.delete(socket.sock()) };
}
