//! The map ABI shared by the kernel programs and the loader: `no_std`, `repr(C)`, explicit padding, stated byte order.
#![no_std]

pub mod address;
pub mod refusal;
pub mod transport;

/// Version of everything in this file; a change of layout or meaning raises it.
pub const ABI_VERSION: u32 = 2;

/// Ancestor levels of a cgroup that are tried when classifying (root is level 0).
pub const MAX_ANCESTOR_LEVELS: usize = 8;

/// Set in [`Pod::flags`] of a guarded cgroup.
pub const POD_AGENT: u32 = 1;

/// Value of the `pods` map (HASH, key: cgroup id, u64 native order).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `POD_*` bits.
    pub flags: u32,
    /// Port of the guard's listener on 127.0.0.1 and ::1, host order.
    pub listener_port: u16,
    /// Zero.
    pub padding: u16,
    /// Raised each time the entry is rewritten.
    pub generation: u32,
    /// Index of the pod, for statistics.
    pub index: u32,
}

/// Destination classes: values of [`Class::class`]. Zero is not a class.
pub mod class {
    /// The Kubernetes API server.
    pub const API: u32 = 1;
}

/// Value of the `api4` and `api6` maps (LPM_TRIE, key: prefix length and address, in words of network order).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// One of [`class`].
    pub class: u32,
    /// TCP port that is redirected, host order.
    pub port: u16,
    /// 0: every other port and protocol towards the address is refused.
    /// 1: only `port` belongs to the class; the rest of the address is somebody else's (addresses of this host).
    pub port_only: u16,
}

/// Index 0 of the `cfg` map (ARRAY of one).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// [`ABI_VERSION`]; the programs refuse everything when it differs.
    pub abi: u32,
    /// How many entries of `levels` count.
    pub level_count: u32,
    /// Levels at which guarded cgroups stand below the cgroup2 root.
    pub levels: [u32; MAX_ANCESTOR_LEVELS],
}

/// Value of the `sk_orig` map (SK_STORAGE): where the socket meant to go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginalDst {
    /// Address, four words in network order; IPv4 as ::ffff:a.b.c.d.
    pub addr: [u32; 4],
    /// Cgroup id that classified the socket.
    pub cgroup: u64,
    /// Process id (tgid) of the caller, in the initial PID namespace.
    pub pid: u32,
    /// Port, host order.
    pub port: u16,
    /// Zero.
    pub padding: u16,
}

/// Key of the `flows` map (HASH): one redirected connection, seen from the listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Network namespace cookie of the connecting socket.
    pub netns: u64,
    /// Source address, four words in network order; IPv4 as ::ffff:a.b.c.d.
    pub addr: [u32; 4],
    /// Source port, host order.
    pub port: u32,
    /// Zero.
    pub padding: u32,
}

/// Value of the `flows` map is [`OriginalDst`]. Entries of the map and of the other maps, at most.
pub mod limits {
    /// Flows between connect and accept.
    pub const FLOWS: u32 = 16_384;
    /// Guarded cgroups on a node.
    pub const PODS: u32 = 4_096;
    /// Prefixes per address family.
    pub const PREFIXES: u32 = 4_096;
}

/// Indices of the `stats` map (PERCPU_ARRAY of u64).
pub mod stat {
    use crate::refusal::{Hook, Refusal};

    /// connect() calls redirected.
    pub const REDIRECTED: u32 = 0;
    /// Flow entries written.
    pub const FLOWS: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = refused(Hook::Flow, Refusal::Unreadable) + 1;

    const FIRST_REFUSAL: u32 = 2;
    const REASONS: u32 = Refusal::Unreadable as u32 + 1;

    /// What one hook refused for one reason.
    #[inline(always)]
    #[must_use]
    pub const fn refused(hook: Hook, refusal: Refusal) -> u32 {
        FIRST_REFUSAL + hook as u32 * REASONS + refusal as u32
    }
}

#[cfg(test)]
mod tests {
    use crate::refusal::{Hook, Refusal};
    use crate::stat;

    #[test]
    fn every_counter_has_a_place_of_its_own() {
        let refusals = Hook::ALL
            .iter()
            .flat_map(|hook| Refusal::ALL.map(|refusal| stat::refused(*hook, refusal)));
        let counters = [stat::REDIRECTED, stat::FLOWS].into_iter().chain(refusals);
        assert!(counters.eq(0..stat::COUNT));
    }
}

#[cfg(feature = "pod")]
#[expect(
    unsafe_code,
    reason = "the types are repr(C), without padding bytes or invalid bit patterns"
)]
mod pod {
    //! What lets the loader put these types into maps.
    unsafe impl aya::Pod for super::Pod {}
    unsafe impl aya::Pod for super::Class {}
    unsafe impl aya::Pod for super::Config {}
    unsafe impl aya::Pod for super::OriginalDst {}
    unsafe impl aya::Pod for super::FlowKey {}
}
