//! What a guarded cgroup may do with a destination. Nothing here changes the socket.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use eks_guard_ebpf::address::Form;
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

/// Why a destination is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The maps were filled for other programs than these, so no lookup can be trusted.
    Abi,
    /// The caller stands in no cgroup on record, and the socket belongs to a guarded one.
    Unclassified,
    /// The cgroup has no listener.
    NoListener,
    /// A class these programs do not know.
    UnknownClass,
    /// Not the port of the API server.
    OtherPort,
    /// Not TCP.
    NotTcp,
    /// No room to remember where the socket meant to go.
    Storage,
}

impl Refusal {
    /// Whether the guard failed, rather than the caller having asked for what nobody may have.
    #[inline(always)]
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::Abi | Self::Unclassified | Self::NoListener | Self::UnknownClass | Self::Storage => true,
            Self::OtherPort | Self::NotTcp => false,
        }
    }
}

/// Judges a destination.
#[inline(always)]
pub(crate) fn judge(destination: &Destination, transport: Transport) -> Result<Judgement, Refusal> {
    let config = CFG.get(0).ok_or(Refusal::Abi)?;
    if config.abi != ABI_VERSION {
        return Err(Refusal::Abi);
    }
    let Some(found) = class_of(destination) else {
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

/// The class of a destination; whatever stands for an IPv4 address is looked up as that address.
#[inline(always)]
fn class_of(destination: &Destination) -> Option<&'static Class> {
    match destination.form {
        Form::Mapped(v4) | Form::Nat64(v4) => API4.get(&Key::new(32, v4)),
        Form::Native => API6.get(&Key::new(128, destination.addr)),
    }
}

/// The guarded cgroup the current process stands in, at whatever depth below it.
#[inline(always)]
fn pod_of_current(config: &Config) -> Option<(u64, &'static Pod)> {
    for i in 0..MAX_ANCESTOR_LEVELS {
        if i as u32 >= config.level_count {
            break;
        }
        // SAFETY: a helper without pointers; it answers 0 where there is no ancestor.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(config.levels[i] as i32) };
        // SAFETY: entries of a live run are neither removed nor changed.
        if let Some(pod) = unsafe { PODS.get(id) } {
            return Some((id, pod));
        }
    }
    None
}
