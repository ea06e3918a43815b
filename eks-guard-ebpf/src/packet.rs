//! Packets of a guarded socket on their way out: whatever brought them past the other hooks, they do not reach what those
//! refuse. The hook stands before fragmentation and after the rewriting of destinations, so only a forged packet is a
//! fragment here. Whose packet it is, is the socket's cgroup's to say: it also leaves from timers and interrupts, and the
//! oldest supported kernels name no caller here.

use aya_ebpf::helpers::generated::bpf_skb_ancestor_cgroup_id;
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::address::{Form, LOOPBACK4, LOOPBACK6};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{Config, Pod, unknown};

use crate::header::{self, Dropped, Header};
use crate::judge::{Standing, Target, config, is_exact, of_unknown, pod_by, standing, towards};
use crate::{flow, reply};

/// Passes or drops a packet.
#[inline(always)]
pub(crate) fn leave(packet: &SkBuff) -> Result<(), Dropped> {
    let config = config().map_err(Dropped::unread)?;
    // SAFETY: the context of this program; the helper answers 0 where there is no ancestor.
    let pod = pod_by(config, |level| unsafe {
        bpf_skb_ancestor_cgroup_id(packet.skb, level)
    });
    let standing = standing(pod.map(|(_, pod)| pod));
    if let Standing::Exempt = standing {
        return Ok(());
    }
    if let (Standing::Agent, Some((_, pod))) = (&standing, pod)
        && let Some(destination) = header::plain(packet, 0)
        && is_exact(pod.index, pod.egress, &destination)
    {
        return Ok(());
    }
    let Some(header) = Header::read(packet, 0) else {
        return Err(Dropped::unread(Refusal::Unreadable));
    };
    let target = header.target(packet, &config.nat64);
    let outcome = match (standing, pod) {
        (Standing::Agent, Some((_, pod))) => {
            let outcome = of_agent(packet, &header, &target, pod);
            if outcome.is_ok() && is_listener(&target, pod) {
                flow::begin(packet, &header);
            }
            outcome
        }
        _ => of_nobody(config, &header, &target),
    };
    outcome.map_err(|refusal| Dropped::towards(&target, refusal))
}

/// The rule of connect(), for packets that were not redirected.
#[inline(always)]
fn of_agent(packet: &SkBuff, header: &Header, target: &Target, pod: &Pod) -> Result<(), Refusal> {
    if header.is_routed() {
        return Err(Refusal::RoutingHeader);
    }
    match towards(pod.index, pod.egress, target) {
        Ok(Some(api)) if api.port_only == 1 && is_listener(target, pod) => Ok(()),
        Ok(Some(_)) => Err(Refusal::NotRedirected),
        Err(Refusal::NotAllowed) if reply::is_reply(packet) => Ok(()),
        Err(refusal) => Err(refusal),
        Ok(None) => Ok(()),
    }
}

#[inline(always)]
fn of_nobody(config: &Config, header: &Header, target: &Target) -> Result<(), Refusal> {
    if header.is_routed() && config.unknown != unknown::PASS {
        return Err(Refusal::Unclassified);
    }
    of_unknown(config, target)
}

/// An API server on one address of this host leaves its port free on others, and the guard may have got it on loopback.
#[inline(always)]
fn is_listener(target: &Target, pod: &Pod) -> bool {
    let loopback = match target.form {
        Form::Mapped(v4) => v4 == LOOPBACK4,
        Form::Native => target.addr == LOOPBACK6,
        Form::Nat64(_) => false,
    };
    loopback && target.port == pod.listener_port
}
