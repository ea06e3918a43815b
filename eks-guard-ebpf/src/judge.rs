//! What a cgroup may do with a destination, whoever asks: the socket hooks, the packet hook and the wire hook. Nothing here
//! changes the socket.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use eks_guard_ebpf::address::{self, Form, Words};
use eks_guard_ebpf::allow::{self, Allow};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{
    ABI_VERSION, Class, Config, MAX_ANCESTOR_LEVELS, POD_AGENT, POD_ORDINARY, POD_SYSTEM, Pod, class, egress,
    unknown,
};

use crate::context::Destination;
use crate::maps::{ALLOW4, ALLOW6, API4, API6, CFG, EXACT, PODS};

const IPPROTO_TCP: u8 = 6;

/// Where something goes. Every field always has a value: the verifier refuses to copy one that has none.
pub(crate) struct Target {
    /// IPv4 mapped.
    pub(crate) addr: Words,
    /// What `addr` stands for.
    pub(crate) form: Form,
    /// Of IP.
    pub(crate) protocol: u8,
    /// Host order; 0 where the protocol has none.
    pub(crate) port: u16,
    /// Why `protocol` and `port` cannot be relied on.
    pub(crate) unknown: Option<Refusal>,
}

/// What is to be done with a destination that is not refused.
pub(crate) enum Judgement {
    /// None of the guard's business.
    Pass,
    /// The API server: goes to this port of the guard, on behalf of this cgroup, from a socket in this network namespace.
    Redirect { cgroup: u64, port: u16, netns: u64 },
}

/// Who a cgroup on record is.
pub(crate) enum Standing {
    Agent,
    Exempt,
    Unknown,
}

/// Judges what the current process does with a destination.
#[inline(always)]
pub(crate) fn judge(destination: &Destination) -> Result<Judgement, Refusal> {
    let config = config()?;
    let pod = pod_of_current(config);
    let standing = standing(pod.map(|(_, pod)| pod));
    if let Standing::Exempt = standing {
        return Ok(Judgement::Pass);
    }
    if let (Standing::Agent, Some((_, pod))) = (&standing, pod)
        && is_exact(pod.index, pod.egress, destination)
    {
        return Ok(Judgement::Pass);
    }
    let target = Target {
        addr: destination.addr,
        form: address::form_among(&destination.addr, &config.nat64),
        protocol: destination.protocol,
        port: destination.port,
        unknown: None,
    };
    match (standing, pod) {
        (Standing::Agent, Some((cgroup, pod))) => of_agent(&target, cgroup, pod),
        _ => of_unknown(config, &target).map(|()| Judgement::Pass),
    }
}

#[inline(always)]
fn of_agent(target: &Target, cgroup: u64, pod: &Pod) -> Result<Judgement, Refusal> {
    let Some(api) = towards(pod.index, pod.egress, target)? else {
        return Ok(Judgement::Pass);
    };
    if target.protocol != IPPROTO_TCP {
        Err(Refusal::NotTcp)
    } else if !api.has_port(target.port) {
        Err(Refusal::OtherPort)
    } else if pod.listener_port == 0 {
        Err(Refusal::NoListener)
    } else {
        Ok(Judgement::Redirect {
            cgroup,
            port: pod.listener_port,
            netns: pod.listener_netns,
        })
    }
}

/// Whether an agent's list names just this destination, and no class has the address: one look instead of several into
/// tables of prefixes. The address of a NAT64 gateway is never found: what it stands for decides.
#[inline(always)]
pub(crate) fn is_exact(index: u32, mode: u16, destination: &Destination) -> bool {
    if mode != egress::ALLOW_LIST {
        return false;
    }
    let scope = allow::scope(destination.protocol, destination.port);
    // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
    let found = unsafe { EXACT.get(allow::key6(index, scope, &destination.addr)) };
    found.is_some_and(|exact| exact.passes == 1)
}

/// What an agent may do with a target: pass it, or, where it is the API server's, whatever the hook makes of that.
#[inline(always)]
pub(crate) fn towards(index: u32, mode: u16, target: &Target) -> Result<Option<&'static Class>, Refusal> {
    if let Some(found) = class_of(target)
        && belongs(found, target)?
    {
        return match found.class {
            class::API => Ok(Some(found)),
            class::IMDS | class::POD_IDENTITY | class::KUBELET | class::OTHER_CLUSTER => {
                if allows(index, target, found.class) {
                    Ok(None)
                } else {
                    Err(Refusal::Infrastructure)
                }
            }
            _ => Err(Refusal::UnknownClass),
        };
    }
    if mode == egress::BLOCK_LIST
        || address::is_loopback(target.form, &target.addr)
        || allows(index, target, 0)
    {
        Ok(None)
    } else {
        Err(Refusal::NotAllowed)
    }
}

/// What a cgroup that nobody has classified may do with a target.
#[inline(always)]
pub(crate) fn of_unknown(config: &Config, target: &Target) -> Result<(), Refusal> {
    if config.unknown == unknown::PASS {
        return Ok(());
    }
    match class_of(target) {
        Some(found) if belongs(found, target)? => Err(Refusal::Unclassified),
        _ => Ok(()),
    }
}

/// The configuration, when it is for these programs.
#[inline(always)]
pub(crate) fn config() -> Result<&'static Config, Refusal> {
    let config = CFG.get(0).ok_or(Refusal::Abi)?;
    if config.abi == ABI_VERSION {
        Ok(config)
    } else {
        Err(Refusal::Abi)
    }
}

/// An entry that says nothing is none.
#[inline(always)]
pub(crate) fn standing(pod: Option<&Pod>) -> Standing {
    match pod {
        Some(pod) if pod.flags & POD_AGENT != 0 => Standing::Agent,
        Some(pod) if pod.flags & (POD_SYSTEM | POD_ORDINARY) != 0 => Standing::Exempt,
        Some(_) | None => Standing::Unknown,
    }
}

/// The class of a target; whatever stands for an IPv4 address is looked up as that address.
#[inline(always)]
fn class_of(target: &Target) -> Option<&'static Class> {
    match target.form {
        Form::Mapped(v4) | Form::Nat64(v4) => API4.get(&Key::new(32, v4)),
        Form::Native => API6.get(&Key::new(128, target.addr)),
    }
}

/// Whether a target is the class's, or only shares its address.
#[inline(always)]
fn belongs(found: &Class, target: &Target) -> Result<bool, Refusal> {
    if found.port_only != 1 {
        return Ok(true);
    }
    match target.unknown {
        Some(refusal) => Err(refusal),
        None => Ok(found.has_port(target.port)),
    }
}

/// Whether an agent's list has an entry for a target of an infrastructure class, or of none (0). The narrowest scope is
/// asked first: it is what most entries have.
#[inline(always)]
fn allows(index: u32, target: &Target, class: u32) -> bool {
    if target.unknown.is_none() {
        if target.port != 0
            && opens(
                entry(index, allow::scope(target.protocol, target.port), target),
                class,
            )
        {
            return true;
        }
        if opens(entry(index, allow::scope(target.protocol, 0), target), class) {
            return true;
        }
    }
    opens(entry(index, allow::ANYTHING, target), class)
}

#[inline(always)]
fn opens(entry: Option<&Allow>, class: u32) -> bool {
    match entry {
        Some(entry) => class == 0 || entry.opens == class,
        None => false,
    }
}

#[inline(always)]
fn entry(index: u32, scope: u32, target: &Target) -> Option<&'static Allow> {
    match target.form {
        Form::Mapped(v4) | Form::Nat64(v4) => {
            let key = allow::key4(index, scope, v4);
            ALLOW4.get(&Key::new(allow::FIXED_BITS + 32, key))
        }
        Form::Native => {
            let key = allow::key6(index, scope, &target.addr);
            ALLOW6.get(&Key::new(allow::FIXED_BITS + 128, key))
        }
    }
}

/// The cgroup on record the current process stands in, at whatever depth below it.
#[inline(always)]
pub(crate) fn pod_of_current(config: &Config) -> Option<(u64, &'static Pod)> {
    // SAFETY: a helper without pointers; it answers 0 where there is no ancestor.
    pod_by(config, |level| unsafe {
        bpf_get_current_ancestor_cgroup_id(level)
    })
}

/// The cgroup on record whose ancestor at some level has the id that `ancestor` answers.
#[inline(always)]
pub(crate) fn pod_by(config: &Config, ancestor: impl Fn(i32) -> u64) -> Option<(u64, &'static Pod)> {
    for i in 0..MAX_ANCESTOR_LEVELS {
        if i as u32 >= config.level_count {
            break;
        }
        let id = ancestor(config.levels[i] as i32);
        // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
        if let Some(pod) = unsafe { PODS.get(id) } {
            return Some((id, pod));
        }
    }
    None
}
