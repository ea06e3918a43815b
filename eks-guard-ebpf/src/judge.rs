//! What a guarded cgroup may do with a destination. Nothing here changes the socket.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use eks_guard_ebpf::address::{Form, Words};
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{ABI_VERSION, Class, Config, MAX_ANCESTOR_LEVELS, POD_AGENT, Pod, class};

use crate::context::Destination;
use crate::maps::{API4, API6, CFG, PODS};

/// What a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The one that is redirected.
    Tcp,
    /// Everything else.
    Other,
}

/// What is to be done with a destination that is not refused.
pub(crate) enum Judgement {
    /// None of the guard's business.
    Pass,
    /// The API server: goes to this port of the guard, on behalf of this cgroup.
    Redirect { cgroup: u64, port: u16 },
}

/// Judges a destination.
#[inline(always)]
pub(crate) fn judge(destination: &Destination, transport: Transport) -> Result<Judgement, Refusal> {
    let config = config()?;
    let Some(found) = class_of(destination.form, destination.addr) else {
        return Ok(Judgement::Pass);
    };
    let (cgroup, pod) = pod_of_current(config).ok_or(Refusal::Unclassified)?;
    if pod.flags & POD_AGENT == 0 {
        return Ok(Judgement::Pass);
    }
    if found.class != class::API {
        return Err(Refusal::UnknownClass);
    }
    let other_port = destination.port != found.port;
    if other_port && found.port_only == 1 {
        return Ok(Judgement::Pass);
    }
    match transport {
        Transport::Other => Err(Refusal::NotTcp),
        Transport::Tcp if other_port => Err(Refusal::OtherPort),
        Transport::Tcp if pod.listener_port == 0 => Err(Refusal::NoListener),
        Transport::Tcp => Ok(Judgement::Redirect {
            cgroup,
            port: pod.listener_port,
        }),
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

/// The class of a destination; whatever stands for an IPv4 address is looked up as that address.
#[inline(always)]
pub(crate) fn class_of(form: Form, addr: Words) -> Option<&'static Class> {
    match form {
        Form::Mapped(v4) | Form::Nat64(v4) => API4.get(&Key::new(32, v4)),
        Form::Native => API6.get(&Key::new(128, addr)),
    }
}

/// The guarded cgroup the current process stands in, at whatever depth below it.
#[inline(always)]
pub(crate) fn pod_of_current(config: &Config) -> Option<(u64, &'static Pod)> {
    // SAFETY: a helper without pointers; it answers 0 where there is no ancestor.
    pod_by(config, |level| unsafe {
        bpf_get_current_ancestor_cgroup_id(level)
    })
}

/// The guarded cgroup whose ancestor at some level has the id that `ancestor` answers.
#[inline(always)]
pub(crate) fn pod_by(config: &Config, ancestor: impl Fn(i32) -> u64) -> Option<(u64, &'static Pod)> {
    for i in 0..MAX_ANCESTOR_LEVELS {
        if i as u32 >= config.level_count {
            break;
        }
        let id = ancestor(config.levels[i] as i32);
        // SAFETY: entries of a live run are neither removed nor changed.
        if let Some(pod) = unsafe { PODS.get(id) } {
            return Some((id, pod));
        }
    }
    None
}
