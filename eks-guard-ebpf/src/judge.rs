//! What may be done with a destination, whoever asks: the socket hooks, the packet hook and the wire hook. Nothing here
//! changes the socket.

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

/// What is to be done with a destination that is not refused.
#[derive(Clone, Copy)]
pub(crate) enum Judgement {
    /// None of the guard's business.
    Pass,
    /// The API server: a port of its at an address that is somebody else's otherwise.
    ApiPort,
    /// The API server: a port of its at its own address.
    OwnApiPort,
    /// The API server's own address, and no port of its.
    OwnApiAddress,
}

/// What the functions that are walked apart answer: the number of a [`Refusal`], or one of these.
const PASS: u32 = 0x100;
const API_PORT: u32 = 0x101;
const OWN_API_PORT: u32 = 0x102;
const OWN_API_ADDRESS: u32 = 0x103;

/// What is in none: no class has this number.
const NO_CLASS: u32 = 0;

/// Instead of the IPv4 address that an address stands for.
const NATIVE: u64 = u64::MAX;

/// What an agent, by its index in the allow maps and its mode, may do with a target.
#[inline(always)]
pub(crate) fn of_agent(index: u32, mode: u32, target: &Target) -> Result<Judgement, Refusal> {
    match judge_agent(target, index, mode) {
        PASS => Ok(Judgement::Pass),
        API_PORT => Ok(Judgement::ApiPort),
        OWN_API_PORT => Ok(Judgement::OwnApiPort),
        OWN_API_ADDRESS => Ok(Judgement::OwnApiAddress),
        refusal => Err(refused(refusal)),
    }
}

/// What a cgroup that nobody has classified may do with a target.
#[inline(always)]
pub(crate) fn of_unknown(target: &Target) -> Result<(), Refusal> {
    match judge_unknown(target) {
        PASS => Ok(()),
        refusal => Err(refused(refusal)),
    }
}

/// A number that is none is no permission.
#[inline(always)]
fn refused(number: u32) -> Refusal {
    if number < Refusal::ALL.len() as u32 {
        // SAFETY: they are numbered from zero on, without gaps.
        unsafe { core::mem::transmute::<u32, Refusal>(number) }
    } else {
        Refusal::Abi
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_agent(target: *const Target, index: u32, mode: u32) -> u32 {
    // SAFETY: the caller's memory, unless it is null.
    let Some(target) = (unsafe { target.as_ref() }) else {
        return Refusal::Abi as u32;
    };
    match towards(index, mode, target) {
        Ok(None) => PASS,
        Ok(Some(api)) if api.port_only == 1 => API_PORT,
        Ok(Some(api)) if api.has_port(target.port as u16) => OWN_API_PORT,
        Ok(Some(_)) => OWN_API_ADDRESS,
        Err(refusal) => refusal as u32,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_unknown(target: *const Target) -> u32 {
    // SAFETY: the caller's memory, unless it is null.
    let Some(target) = (unsafe { target.as_ref() }) else {
        return Refusal::Abi as u32;
    };
    match unclassified(target) {
        Ok(()) => PASS,
        Err(refusal) => refusal as u32,
    }
}

#[inline(always)]
fn unclassified(target: &Target) -> Result<(), Refusal> {
    let config = config()?;
    if config.unknown == unknown::PASS {
        return Ok(());
    }
    if target.payload == Payload::Routed {
        return Err(Refusal::Unclassified);
    }
    match class_of(address::form_among(&target.addr, &config.nat64), target) {
        Some(found) if belongs(found, target)? => Err(Refusal::Unclassified),
        _ => Ok(()),
    }
}

/// What an agent may do with a target: pass it, or, where it is the API server's, whatever the hook makes of that.
#[inline(always)]
fn towards(index: u32, mode: u32, target: &Target) -> Result<Option<&'static Class>, Refusal> {
    if mode == u32::from(egress::ALLOW_LIST) && is_exact(index, target) {
        return Ok(None);
    }
    let form = address::form_among(&target.addr, &config()?.nat64);
    let class = match class_of(form, target) {
        Some(found) if belongs(found, target)? => match found.class {
            class::API => return Ok(Some(found)),
            class::IMDS | class::POD_IDENTITY | class::KUBELET | class::OTHER_CLUSTER => found.class,
            _ => return Err(Refusal::UnknownClass),
        },
        _ if mode == u32::from(egress::BLOCK_LIST) || address::is_loopback(form, &target.addr) => {
            return Ok(None);
        }
        _ => NO_CLASS,
    };
    let v4 = match form {
        Form::Mapped(v4) | Form::Nat64(v4) => u64::from(v4),
        Form::Native => NATIVE,
    };
    if list_allows(target, index, class, v4) == 1 {
        Ok(None)
    } else if class == NO_CLASS {
        Err(Refusal::NotAllowed)
    } else {
        Err(Refusal::Infrastructure)
    }
}

/// Whether an agent's list names just this destination, and no class has the address: one look instead of several into
/// tables of prefixes. The address of a NAT64 gateway is never found: what it stands for decides.
#[inline(always)]
fn is_exact(index: u32, target: &Target) -> bool {
    if target.payload != Payload::Known {
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
fn class_of(form: Form, target: &Target) -> Option<&'static Class> {
    match form {
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
    let form = if v4 == NATIVE {
        Form::Native
    } else {
        Form::Mapped(v4 as u32)
    };
    let look = |scope| opens(entry(index, scope, form, target), class);
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
fn entry(index: u32, scope: u32, form: Form, target: &Target) -> Option<&'static Allow> {
    match form {
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
