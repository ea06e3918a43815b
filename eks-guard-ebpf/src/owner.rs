//! Whose a socket, a packet or a process is: the cgroup on record that it stands in, at whatever depth below it.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id};
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{MAX_ANCESTOR_LEVELS, POD_AGENT, POD_ORDINARY, POD_SYSTEM, Pod};

use crate::apart::{self, Plain};
use crate::judge::config;
use crate::maps::PODS;

/// Who a cgroup on record is.
pub(crate) enum Owner<'a> {
    Agent(&'a Agent),
    Exempt,
    Unknown,
}

/// What the record of an agent says.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Agent {
    pub(crate) cgroup: u64,
    pub(crate) listener_netns: u64,
    /// Host order.
    pub(crate) listener_port: u32,
    /// Names the agent in the allow maps.
    pub(crate) index: u32,
    /// One of [`eks_guard_ebpf::egress`].
    pub(crate) egress: u32,
    _padding: u32,
}

// SAFETY: eight words, whole numbers.
unsafe impl Plain for Agent {}

/// What the functions apart answer; anything else is as good as [`UNKNOWN`].
const UNKNOWN: u32 = 0;
const AGENT: u32 = 1;
const EXEMPT: u32 = 2;
const FOREIGN: u32 = 3;

impl<'a> Owner<'a> {
    /// Of the current process.
    #[inline(always)]
    pub(crate) fn of_current(memory: &'a mut MaybeUninit<Agent>) -> Result<Self, Refusal> {
        let answer = owner_of_current(apart::clear(memory));
        Self::new(answer, memory)
    }

    /// Of a packet's socket.
    #[inline(always)]
    pub(crate) fn of_packet(packet: &SkBuff, memory: &'a mut MaybeUninit<Agent>) -> Result<Self, Refusal> {
        let answer = owner_of_packet(packet.skb, apart::clear(memory));
        Self::new(answer, memory)
    }

    #[inline(always)]
    fn new(answer: u32, memory: &'a MaybeUninit<Agent>) -> Result<Self, Refusal> {
        match answer {
            // SAFETY: all of it was written, and zeros are a value.
            AGENT => Ok(Self::Agent(unsafe { memory.assume_init_ref() })),
            EXEMPT => Ok(Self::Exempt),
            FOREIGN => Err(Refusal::Abi),
            _ => Ok(Self::Unknown),
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owner_of_current(agent: *mut Agent) -> u32 {
    // SAFETY: a helper without pointers; it answers 0 where there is no ancestor.
    owner(agent, |level| unsafe {
        bpf_get_current_ancestor_cgroup_id(level)
    })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn owner_of_packet(packet: *mut __sk_buff, agent: *mut Agent) -> u32 {
    // SAFETY: the context of this program; the helper answers 0 where there is no ancestor.
    owner(agent, |level| unsafe {
        bpf_skb_ancestor_cgroup_id(packet, level)
    })
}

/// Answers for the cgroup on record whose ancestor at some level has the id that `ancestor` answers.
#[inline(always)]
fn owner(agent: *mut Agent, ancestor: impl Fn(i32) -> u64) -> u32 {
    let Ok(config) = config() else { return FOREIGN };
    for i in 0..MAX_ANCESTOR_LEVELS {
        if i as u32 >= config.level_count {
            break;
        }
        let cgroup = ancestor(config.levels[i] as i32);
        // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
        if let Some(pod) = unsafe { PODS.get(cgroup) } {
            return on_record(cgroup, pod, agent);
        }
    }
    UNKNOWN
}

/// An entry that says nothing is none.
#[inline(always)]
fn on_record(cgroup: u64, pod: &Pod, agent: *mut Agent) -> u32 {
    if pod.flags & POD_AGENT != 0 {
        // SAFETY: the caller's memory, unless it is null.
        let Some(agent) = (unsafe { agent.as_mut() }) else {
            return FOREIGN;
        };
        *agent = Agent {
            cgroup,
            listener_netns: pod.listener_netns,
            listener_port: u32::from(pod.listener_port),
            index: pod.index,
            egress: u32::from(pod.egress),
            _padding: 0,
        };
        AGENT
    } else if pod.flags & (POD_SYSTEM | POD_ORDINARY) != 0 {
        EXEMPT
    } else {
        UNKNOWN
    }
}
