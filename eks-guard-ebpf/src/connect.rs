//! connect(), sendto(), getpeername() and getsockname() of a guarded socket.

use eks_guard_ebpf::Pod;
use eks_guard_ebpf::address::{self, Form, LOOPBACK4, LOOPBACK6};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::stat;

use crate::context::{self, SockAddr};
use crate::judge::{self, Judgement, Target};
use crate::maps::PODS;
use crate::owner::{Agent, Owner};
use crate::{flow, reply, report};

const IPPROTO_TCP: u32 = 6;

/// Redirects, passes or refuses a connect(). What the socket was before, it is no more: one that was redirected, disconnected
/// and connected again must not name its former destination.
#[inline(always)]
pub(crate) fn connect(socket: &SockAddr<'_>) -> Result<(), Refusal> {
    let target = socket.target();
    reply::forget(socket.sock());
    flow::forget(socket);
    let agent = match Owner::of_current()? {
        Owner::Agent(agent) => agent,
        Owner::Exempt => return Ok(()),
        Owner::Unknown => return judge::of_unknown(&target),
    };
    match of_agent(agent.pod, &target)? {
        Judgement::Pass => Ok(()),
        _ if target.protocol != IPPROTO_TCP => Err(Refusal::NotTcp),
        Judgement::OwnApiAddress => Err(Refusal::OtherPort),
        Judgement::ApiPort | Judgement::OwnApiPort => redirect(socket, &target, &agent),
    }
}

/// Passes or refuses a datagram that names its own destination; there is nothing to redirect it to.
#[inline(always)]
pub(crate) fn send(socket: &SockAddr<'_>) -> Result<(), Refusal> {
    let target = socket.target();
    match Owner::of_current()? {
        Owner::Agent(agent) => match of_agent(agent.pod, &target)? {
            Judgement::Pass => Ok(()),
            Judgement::ApiPort | Judgement::OwnApiPort | Judgement::OwnApiAddress => Err(Refusal::NotTcp),
        },
        Owner::Exempt => Ok(()),
        Owner::Unknown => judge::of_unknown(&target),
    }
}

#[inline(always)]
fn of_agent(pod: &Pod, target: &Target) -> Result<Judgement, Refusal> {
    if judge::is_exact(pod.index, pod.egress.into(), target) {
        Ok(Judgement::Pass)
    } else {
        judge::of_agent(pod.index, pod.egress.into(), target)
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
    socket.set(&own, socket.target().port as u16);
}

#[inline(always)]
fn redirect(socket: &SockAddr<'_>, target: &Target, agent: &Agent) -> Result<(), Refusal> {
    // In another network nobody listens, and what waits there for ever would take the place of others' flows.
    if agent.pod.listener_port == 0 || agent.pod.listener_netns != socket.netns() {
        return Err(Refusal::NoListener);
    }
    flow::expect(socket, target, agent.cgroup)?;
    let listener = match address::form(&target.addr) {
        Form::Mapped(_) => address::mapped(LOOPBACK4),
        Form::Native | Form::Nat64(_) => LOOPBACK6,
    };
    socket.set(&listener, agent.pod.listener_port);
    report::count(stat::REDIRECTED);
    Ok(())
}
