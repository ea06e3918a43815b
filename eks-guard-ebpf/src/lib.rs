//! The map ABI shared by the kernel programs and the loader: `no_std`, `repr(C)`, explicit padding, stated byte order.
//! Zero is the closed value of every field: an entry somebody forgot to fill refuses.
#![no_std]

pub mod address;
pub mod allow;
pub mod refusal;
pub mod transport;

/// Version of everything in this crate; a change of layout or meaning raises it.
pub const ABI_VERSION: u32 = 7;

/// Ancestor levels of a cgroup that are tried when classifying (root is level 0).
pub const MAX_ANCESTOR_LEVELS: usize = 8;

/// NAT64 prefixes beside `64:ff9b::/96` that are understood.
pub const MAX_NAT64_PREFIXES: usize = 4;

/// Set in [`Pod::flags`] of a guarded cgroup.
pub const POD_AGENT: u32 = 1;
/// Set in [`Pod::flags`] of a cgroup that the operator's configuration exempts by name.
pub const POD_SYSTEM: u32 = 2;
/// Set in [`Pod::flags`] of a cgroup that is known not to be an agent's.
pub const POD_ORDINARY: u32 = 4;

/// What an agent may reach beside the API server: values of [`Pod::egress`] and [`Link::egress`].
pub mod egress {
    /// Loopback, the guard's listener, and what the allow maps name.
    pub const ALLOW_LIST: u16 = 0;
    /// Everything but the classes.
    pub const BLOCK_LIST: u16 = 1;
}

/// What a cgroup that nobody has classified may do: values of [`Config::unknown`].
pub mod unknown {
    /// Everything but to reach the classes.
    pub const NO_CLASSES: u32 = 0;
    /// Everything.
    pub const PASS: u32 = 1;
}

/// Value of the `pods` map (HASH, key: cgroup id, u64 native order).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `POD_*` bits. None of them: the cgroup counts as not classified.
    pub flags: u32,
    /// Port of the guard's listener on 127.0.0.1 and ::1, host order.
    pub listener_port: u16,
    /// One of [`egress`].
    pub egress: u16,
    /// Raised each time the entry is rewritten.
    pub generation: u32,
    /// Names the pod in the allow maps.
    pub index: u32,
    /// IPv4 address of the pod, network order; 0 when it has none or shares the node's.
    pub addr4: u32,
    /// IPv6 address of the pod, words in network order; zero as above.
    pub addr6: [u32; 4],
    /// Zero.
    pub padding: u32,
    /// Cookie of the network namespace that the listener is in. No namespace has 0.
    pub listener_netns: u64,
}

/// Value of the `links` map (HASH, key: interface index, u32 native order): the host side of an agent's interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// [`POD_AGENT`], or the entry is none: an interface with the program but without an entry passes nothing.
    pub flags: u32,
    /// [`Pod::index`] of the agent.
    pub index: u32,
    /// [`Pod::generation`] of the entry this one was made from.
    pub generation: u32,
    /// One of [`egress`].
    pub egress: u16,
    /// Zero.
    pub padding: u16,
}

/// Destination classes: values of [`Class::class`]. Zero is not a class. All but the first are infrastructure: refused to
/// agents unless an entry of their own allow list opens the class at that address.
pub mod class {
    /// The Kubernetes API server.
    pub const API: u32 = 1;
    /// The instance metadata service of the cloud.
    pub const IMDS: u32 = 2;
    /// The agent that hands out the cloud credentials of a pod.
    pub const POD_IDENTITY: u32 = 3;
    /// The kubelet of a node.
    pub const KUBELET: u32 = 4;
    /// API servers of other clusters.
    pub const OTHER_CLUSTER: u32 = 5;
}

/// Value of the `api4` and `api6` maps (LPM_TRIE, key: prefix length and address, in words of network order).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// One of [`class`].
    pub class: u32,
    /// First of the ports of the class, host order. TCP to those of [`class::API`] is redirected.
    pub first_port: u16,
    /// Last of them.
    pub last_port: u16,
    /// 0: every other port and protocol towards the address belongs to the class, too.
    /// 1: the rest of the address is somebody else's.
    pub port_only: u32,
}

impl Class {
    /// Whether a port is one of those of the class.
    #[inline(always)]
    #[must_use]
    pub const fn has_port(&self, port: u16) -> bool {
        self.first_port <= port && port <= self.last_port
    }
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
    /// One of [`unknown`].
    pub unknown: u32,
    /// First three words (network order) of NAT64 prefixes beside `64:ff9b::/96`, all of them of 96 bits. One of zeros
    /// ends the list.
    pub nat64: [[u32; 3]; MAX_NAT64_PREFIXES],
}

/// Value of the `flows` map: where a connection meant to go, and whose it is.
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

/// Key of the `flows` map (HASH): one redirected connection, as the listener sees it. With the number its SYN began with, no
/// other connection has the key, whenever it comes from the same port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Network namespace cookie of the connecting socket.
    pub netns: u64,
    /// Source address, four words in network order; IPv4 as ::ffff:a.b.c.d.
    pub addr: [u32; 4],
    /// Source port, host order.
    pub port: u32,
    /// Initial sequence number of the SYN, host order.
    pub isn: u32,
}

/// Value of the `sk_redirected` map (SK_STORAGE).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redirected {
    /// Where the socket meant to go.
    pub original: OriginalDst,
    /// Key of its flow entry. Port 0: its SYN has not left yet.
    pub flow: FlowKey,
}

/// One record of the `events` map (RINGBUF): something was refused. What a hook cannot know is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot, without suspend.
    pub time: u64,
    /// Cgroup of the caller, or of the packet's socket.
    pub cgroup: u64,
    /// Network namespace cookie of the socket.
    pub netns: u64,
    /// Name of the calling thread: up to 16 bytes in memory order, zero-padded.
    pub comm: [u64; 2],
    /// Destination, four words in network order; IPv4 as ::ffff:a.b.c.d.
    pub addr: [u32; 4],
    /// Process id (tgid) of the caller, in the initial PID namespace.
    pub pid: u32,
    /// Interface a frame came in through.
    pub ifindex: u32,
    /// Destination port, host order.
    pub port: u16,
    /// IP protocol.
    pub protocol: u16,
    /// A [`refusal::Hook`].
    pub hook: u16,
    /// A [`refusal::Refusal`].
    pub refusal: u16,
}

/// Entries of the maps, at most.
pub mod limits {
    /// Flows between connect and accept.
    pub const FLOWS: u32 = 16_384;
    /// Cgroups on a node.
    pub const PODS: u32 = 4_096;
    /// Interfaces of agents on a node.
    pub const LINKS: u32 = 4_096;
    /// Classed prefixes per address family.
    pub const PREFIXES: u32 = 16_384;
    /// Entries of all allow lists together, per address family; and those of them that one look decides.
    pub const ALLOWED: u32 = 65_536;
    /// Bytes of the ring buffer: a power of two and whole pages.
    pub const EVENT_BYTES: u32 = 256 * 1024;
}

/// Indices of the `stats` map (PERCPU_ARRAY of u64).
pub mod stat {
    use crate::refusal::{Hook, Refusal};

    /// connect() calls redirected.
    pub const REDIRECTED: u32 = 0;
    /// Flow entries written.
    pub const FLOWS: u32 = 1;
    /// Events that found no room; what they told of is counted all the same.
    pub const EVENTS_LOST: u32 = 2;
    /// How many there are.
    pub const COUNT: u32 = refused(Hook::Wire, Refusal::UnknownProtocol) + 1;

    const FIRST_REFUSAL: u32 = 3;
    const REASONS: u32 = Refusal::UnknownProtocol as u32 + 1;

    /// What one hook refused for one reason.
    #[inline(always)]
    #[must_use]
    pub const fn refused(hook: Hook, refusal: Refusal) -> u32 {
        FIRST_REFUSAL + hook as u32 * REASONS + refusal as u32
    }
}

#[cfg(test)]
mod tests;

#[cfg(feature = "pod")]
#[expect(
    unsafe_code,
    reason = "the types are repr(C), without padding bytes or invalid bit patterns"
)]
mod pod {
    //! What lets the loader put these types into maps.
    unsafe impl aya::Pod for super::Pod {}
    unsafe impl aya::Pod for super::Link {}
    unsafe impl aya::Pod for super::Class {}
    unsafe impl aya::Pod for super::Config {}
    unsafe impl aya::Pod for super::OriginalDst {}
    unsafe impl aya::Pod for super::FlowKey {}
    unsafe impl aya::Pod for super::Event {}
    unsafe impl aya::Pod for super::allow::Allow {}
    unsafe impl aya::Pod for super::allow::Exact {}
}
