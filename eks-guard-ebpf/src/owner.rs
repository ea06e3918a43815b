//! Whose a socket, a packet or a process is: the cgroup on record that it stands in, at whatever depth below it.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id};
use aya_ebpf::programs::sk_buff::SkBuff;
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::{MAX_ANCESTOR_LEVELS, POD_AGENT, POD_ORDINARY, POD_SYSTEM, Pod};

use crate::judge::config;
use crate::maps::PODS;

/// Who a cgroup on record is.
pub(crate) enum Owner {
    Agent(Agent),
    Exempt,
    Unknown,
}

/// The record of an agent.
#[derive(Clone, Copy)]
pub(crate) struct Agent {
    pub(crate) cgroup: u64,
    pub(crate) pod: &'static Pod,
}

impl Owner {
    /// Of the current process.
    #[inline(always)]
    pub(crate) fn of_current() -> Result<Self, Refusal> {
        // SAFETY: a helper without pointers; it answers 0 where there is no ancestor.
        Self::by(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
    }

    /// Of a packet's socket.
    #[inline(always)]
    pub(crate) fn of_packet(packet: &SkBuff) -> Result<Self, Refusal> {
        // SAFETY: the context of this program; the helper answers 0 where there is no ancestor.
        Self::by(|level| unsafe { bpf_skb_ancestor_cgroup_id(packet.skb, level) })
    }

    /// Of the cgroup on record whose ancestor at some level has the id that `ancestor` answers.
    #[inline(always)]
    fn by(ancestor: impl Fn(i32) -> u64) -> Result<Self, Refusal> {
        let config = config()?;
        for i in 0..MAX_ANCESTOR_LEVELS {
            if i as u32 >= config.level_count {
                break;
            }
            let cgroup = ancestor(config.levels[i] as i32);
            // SAFETY: the memory is the map's for as long as the program runs; a rewritten entry may be read in its new form.
            if let Some(pod) = unsafe { PODS.get(cgroup) } {
                return Ok(Self::on_record(cgroup, pod));
            }
        }
        Ok(Self::Unknown)
    }

    /// An entry that says nothing is none.
    #[inline(always)]
    fn on_record(cgroup: u64, pod: &'static Pod) -> Self {
        if pod.flags & POD_AGENT != 0 {
            Self::Agent(Agent { cgroup, pod })
        } else if pod.flags & (POD_SYSTEM | POD_ORDINARY) != 0 {
            Self::Exempt
        } else {
            Self::Unknown
        }
    }
}
