//! Packets of a guarded socket on their way out: whatever brought them past the other hooks, they do not reach what those
//! refuse. The hook stands before fragmentation and after the rewriting of destinations, so only a forged packet is a
//! fragment here. Whose packet it is, is the socket's cgroup's to say: it also leaves from timers and interrupts, and the
//! oldest supported kernels name no caller here.

use core::mem::MaybeUninit;

use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::Pod;
use eks_guard_ebpf::address::{LOOPBACK4, LOOPBACK6, mapped};
use eks_guard_ebpf::refusal::Refusal;

use crate::header::{self, Dropped, Header};
use crate::judge::{self, Judgement, Target};
use crate::owner::{Agent, Owner};
use crate::{flow, reply};

/// Passes or drops a packet.
#[inline(always)]
pub(crate) fn leave(packet: &SkBuff) -> Result<(), Dropped> {
    let owner = Owner::of_packet(packet).map_err(Dropped::unread)?;
    match owner {
        Owner::Exempt => return Ok(()),
        Owner::Agent(Agent { pod, .. })
            if header::plain(packet, 0)
                .is_some_and(|target| judge::is_exact(pod.index, pod.egress.into(), &target)) =>
        {
            return Ok(());
        }
        Owner::Agent(_) | Owner::Unknown => {}
    }
    let mut memory = MaybeUninit::uninit();
    let Some(header) = Header::of_packet(packet, &mut memory) else {
        return Err(Dropped::unread(Refusal::Unreadable));
    };
    let outcome = match owner {
        Owner::Agent(agent) => of_agent(packet, header, agent.pod),
        Owner::Exempt | Owner::Unknown => judge::of_unknown(&header.target),
    };
    outcome.map_err(|refusal| Dropped::towards(&header.target, refusal))
}

/// The rule of connect(), for packets that were not redirected.
#[inline(always)]
fn of_agent(packet: &SkBuff, header: &Header, pod: &Pod) -> Result<(), Refusal> {
    if header.is_routed() {
        return Err(Refusal::RoutingHeader);
    }
    let to_listener = is_listener(&header.target, pod);
    match judge::of_agent(pod.index, pod.egress.into(), &header.target) {
        Ok(Judgement::Pass) => {}
        Ok(Judgement::ApiPort) if to_listener => {}
        Ok(Judgement::ApiPort | Judgement::OwnApiPort | Judgement::OwnApiAddress) => {
            return Err(Refusal::NotRedirected);
        }
        Err(Refusal::NotAllowed) if reply::is_reply(packet) => {}
        Err(refusal) => return Err(refusal),
    }
    if to_listener {
        flow::begin(packet, header);
    }
    Ok(())
}

/// An API server on one address of this host leaves its port free on others, and the guard may have got it on loopback.
#[inline(always)]
fn is_listener(target: &Target, pod: &Pod) -> bool {
    (target.addr == mapped(LOOPBACK4) || target.addr == LOOPBACK6)
        && target.port == u32::from(pod.listener_port)
}
