//! What may be done with a destination, whoever asks: the socket hooks, the packet hook and the wire hook. Nothing here
//! changes the socket.

use core::mem::transmute;

use aya_ebpf::btf_maps::lpm_trie::Key;
use eks_guard_ebpf::address::{self, Form, Words};
use eks_guard_ebpf::allow::{self, Allow};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{ABI_VERSION, Class, Config, class, egress, unknown};

use crate::maps::{ALLOW4, ALLOW6, API4, API6, CFG, EXACT};

/// Where something goes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// IPv4 mapped.
    pub(crate) addr: Words,
    /// Of IP.
    pub(crate) protocol: u32,
    /// Host order; 0 where the protocol has none.
    pub(crate) port: u32,
    /// Whether `protocol` and `port` can be relied on.
    pub(crate) payload: Payload,
}

/// What is known of what follows the headers of IP.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing: it is not there to be read.
    Unreadable = 0,
    /// Nothing: others may have to send the packet on to where its header does not say.
    Routed = 1,
    /// Its protocol, and its port where it has one.
    Known = 2,
}

/// What is to be done with a destination that is not refused. The numbers are none of a [`Refusal`].
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Judgement {
    /// None of the guard's business.
    Pass = 0x100,
    /// The API server: a port of its at an address that is somebody else's otherwise.
    ApiPort = 0x101,
    /// The API server: a port of its at its own address.
    OwnApiPort = 0x102,
    /// The API server's own address, and no port of its.
    OwnApiAddress = 0x103,
}

/// Instead of one of [`egress`]: nobody has classified the cgroup.
const UNCLASSIFIED: u32 = u32::MAX;

/// What is in no class: none has this number.
const NO_CLASS: u32 = 0;

/// Instead of the IPv4 address that an address stands for.
const NATIVE: u64 = u64::MAX;

/// What an agent, by its index in the allow maps and its mode, may do with a target that its list does not name exactly.
#[inline(always)]
pub(crate) fn of_agent(index: u32, mode: u32, target: &Target) -> Result<Judgement, Refusal> {
    const PASS: u32 = Judgement::Pass as u32;
    const API_PORT: u32 = Judgement::ApiPort as u32;
    const OWN_API_PORT: u32 = Judgement::OwnApiPort as u32;
    const OWN_API_ADDRESS: u32 = Judgement::OwnApiAddress as u32;
    match judge_target(target, index, mode) {
        PASS => Ok(Judgement::Pass),
        API_PORT => Ok(Judgement::ApiPort),
        OWN_API_PORT => Ok(Judgement::OwnApiPort),
        OWN_API_ADDRESS => Ok(Judgement::OwnApiAddress),
        // SAFETY: they are numbered from zero on, without gaps.
        number if number < Refusal::ALL.len() as u32 => Err(unsafe { transmute::<u32, Refusal>(number) }),
        _ => Err(Refusal::Abi),
    }
}

/// What a cgroup that nobody has classified may do with a target.
#[inline(always)]
pub(crate) fn of_unknown(target: &Target) -> Result<(), Refusal> {
    of_agent(0, UNCLASSIFIED, target).map(|_pass| ())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_target(target: *const Target, index: u32, mode: u32) -> u32 {
    // SAFETY: the caller's memory, unless it is null.
    let outcome = match unsafe { target.as_ref() } {
        Some(target) => judge(target, index, mode),
        None => Err(Refusal::Abi),
    };
    match outcome {
        Ok(judgement) => judgement as u32,
        Err(refusal) => refusal as u32,
    }
}

#[inline(always)]
fn judge(target: &Target, index: u32, mode: u32) -> Result<Judgement, Refusal> {
    if mode == UNCLASSIFIED {
        if config()?.unknown == unknown::PASS {
            return Ok(Judgement::Pass);
        }
        if target.payload == Payload::Routed {
            return Err(Refusal::Unclassified);
        }
    }
    let v4 = stands_for(&target.addr);
    let class = match class_of(v4, target) {
        Some(found) if belongs(found, target)? => match found.class {
            _ if mode == UNCLASSIFIED => return Err(Refusal::Unclassified),
            class::API => return Ok(api(found, target)),
            class::IMDS | class::POD_IDENTITY | class::KUBELET | class::OTHER_CLUSTER => found.class,
            _ => return Err(Refusal::UnknownClass),
        },
        _ if mode == UNCLASSIFIED || mode == u32::from(egress::BLOCK_LIST) => return Ok(Judgement::Pass),
        _ if address::is_loopback(address::form(&target.addr), &target.addr) => return Ok(Judgement::Pass),
        _ => NO_CLASS,
    };
    if list_allows(target, index, class, v4) == 1 {
        Ok(Judgement::Pass)
    } else if class == NO_CLASS {
        Err(Refusal::NotAllowed)
    } else {
        Err(Refusal::Infrastructure)
    }
}

#[inline(always)]
fn api(found: &Class, target: &Target) -> Judgement {
    if found.port_only == 1 {
        Judgement::ApiPort
    } else if found.has_port(target.port as u16) {
        Judgement::OwnApiPort
    } else {
        Judgement::OwnApiAddress
    }
}

/// The IPv4 address (network order) that an address stands for, or [`NATIVE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stands_for(addr: *const Words) -> u64 {
    // SAFETY: the caller's memory, unless it is null.
    let (Some(addr), Ok(config)) = (unsafe { addr.as_ref() }, config()) else {
        return NATIVE;
    };
    match address::form_among(addr, &config.nat64) {
        Form::Mapped(v4) | Form::Nat64(v4) => v4.into(),
        Form::Native => NATIVE,
    }
}

/// Whether an agent's list names just this destination, and no class has the address: one look instead of several into
/// tables of prefixes. The address of a NAT64 gateway is never found: what it stands for decides.
#[inline(always)]
pub(crate) fn is_exact(index: u32, mode: u32, target: &Target) -> bool {
    if mode != u32::from(egress::ALLOW_LIST) || target.payload != Payload::Known {
        return false;
    }
    // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
    let found = unsafe { EXACT.get(allow::key6(index, scope(target), &target.addr)) };
    found.is_some_and(|exact| exact.passes == 1)
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

/// The class of a target; whatever stands for an IPv4 address is looked up as that address.
#[inline(always)]
fn class_of(v4: u64, target: &Target) -> Option<&'static Class> {
    if v4 == NATIVE {
        API6.get(&Key::new(128, target.addr))
    } else {
        API4.get(&Key::new(32, v4 as u32))
    }
}

/// Whether a target is the class's, or only shares its address.
#[inline(always)]
fn belongs(found: &Class, target: &Target) -> Result<bool, Refusal> {
    if found.port_only != 1 {
        return Ok(true);
    }
    match target.payload {
        Payload::Unreadable => Err(Refusal::Unreadable),
        Payload::Routed => Err(Refusal::RoutingHeader),
        Payload::Known => Ok(found.has_port(target.port as u16)),
    }
}

/// Answers 1 when an agent's list has an entry for a target of an infrastructure class, or of [`NO_CLASS`]. The narrowest
/// scope is asked first: it is what most entries have. `v4` is the IPv4 address that the target's stands for, or [`NATIVE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn list_allows(target: *const Target, index: u32, class: u32, v4: u64) -> u32 {
    // SAFETY: the caller's memory, unless it is null.
    let Some(target) = (unsafe { target.as_ref() }) else {
        return 0;
    };
    let look = |scope| opens(entry(index, scope, v4, target), class);
    let is_known = target.payload == Payload::Known;
    let found = is_known && target.port != 0 && look(scope(target))
        || is_known && look(allow::scope(target.protocol as u8, 0))
        || look(allow::ANYTHING);
    u32::from(found)
}

#[inline(always)]
fn scope(target: &Target) -> u32 {
    allow::scope(target.protocol as u8, target.port as u16)
}

#[inline(always)]
fn opens(entry: Option<&Allow>, class: u32) -> bool {
    match entry {
        Some(entry) => class == NO_CLASS || entry.opens == class,
        None => false,
    }
}

#[inline(always)]
fn entry(index: u32, scope: u32, v4: u64, target: &Target) -> Option<&'static Allow> {
    if v4 == NATIVE {
        let key = allow::key6(index, scope, &target.addr);
        ALLOW6.get(&Key::new(allow::FIXED_BITS + 128, key))
    } else {
        let key = allow::key4(index, scope, v4 as u32);
        ALLOW4.get(&Key::new(allow::FIXED_BITS + 32, key))
    }
}
