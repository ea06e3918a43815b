//! connect(), sendto(), getpeername() and getsockname() of a guarded socket.

use eks_guard_ebpf::address::{self, Form, LOOPBACK4, LOOPBACK6};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::stat;

use crate::context::{self, Destination, SockAddr};
use crate::judge::{Judgement, judge};
use crate::maps::PODS;
use crate::{flow, reply, report};

/// Redirects, passes or refuses a connect(). What the socket was before, it is no more: one that was redirected, disconnected
/// and connected again must not name its former destination.
#[inline(always)]
pub(crate) fn connect(socket: &SockAddr<'_>) -> Result<(), Refusal> {
    let destination = socket.destination();
    reply::forget(socket.sock());
    flow::forget(socket);
    match judge(&destination)? {
        Judgement::Redirect { cgroup, port } => redirect(socket, &destination, cgroup, port),
        Judgement::Pass => Ok(()),
    }
}

/// Passes or refuses a datagram that names its own destination; there is nothing to redirect it to.
#[inline(always)]
pub(crate) fn send(socket: &SockAddr<'_>) -> Result<(), Refusal> {
    match judge(&socket.destination())? {
        Judgement::Pass => Ok(()),
        Judgement::Redirect { .. } => Err(Refusal::NotTcp),
    }
}

/// Answers getpeername() of a redirected socket with where it meant to go.
#[inline(always)]
pub(crate) fn peer_name(socket: &SockAddr<'_>) {
    if let Some(original) = flow::original(socket) {
        socket.set(&context::peer(original), original.port);
    }
}

/// Answers getsockname() of a redirected socket with the address of its pod, as a direct one would: whoever hands its own
/// address to others would hand out loopback otherwise. Where the pod's address is not known, and for a destination on
/// this host, loopback is what it says: a guess would be worse. Its port is its own either way.
#[inline(always)]
pub(crate) fn own_name(socket: &SockAddr<'_>) {
    let Some(original) = flow::original(socket) else {
        return;
    };
    let form = address::form(&original.addr);
    if address::is_loopback(form, &original.addr) {
        return;
    }
    // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
    let Some(pod) = (unsafe { PODS.get(original.cgroup) }) else {
        return;
    };
    let own = match form {
        Form::Mapped(_) if pod.addr4 != 0 => address::mapped(pod.addr4),
        Form::Native | Form::Nat64(_) if pod.addr6 != [0; 4] => pod.addr6,
        Form::Mapped(_) | Form::Native | Form::Nat64(_) => return,
    };
    socket.set(&own, socket.destination().port);
}

#[inline(always)]
fn redirect(
    socket: &SockAddr<'_>,
    destination: &Destination,
    cgroup: u64,
    listener_port: u16,
) -> Result<(), Refusal> {
    flow::expect(socket, destination, cgroup)?;
    let listener = match address::form(&destination.addr) {
        Form::Mapped(_) => address::mapped(LOOPBACK4),
        Form::Native | Form::Nat64(_) => LOOPBACK6,
    };
    socket.set(&listener, listener_port);
    report::count(stat::REDIRECTED);
    Ok(())
}
