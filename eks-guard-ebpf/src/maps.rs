//! The maps, by the names the loader looks them up. Plain hashes: a full one refuses, none evicts.

use core::ffi::c_void;
use core::ptr::{from_ref, null};

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use eks_guard_ebpf::address::Words;
use eks_guard_ebpf::allow::{Allow, Exact, Key4, Key6};
use eks_guard_ebpf::{Class, Config, Event, FlowKey, Link, OriginalDst, Pod, Redirected, limits, stat};

/// Classified cgroups by cgroup id.
#[btf_map(name = "pods")]
pub(crate) static PODS: HashMap<u64, Pod, { limits::PODS as usize }> = HashMap::new();

/// Classed IPv4 prefixes.
#[btf_map(name = "api4")]
pub(crate) static API4: LpmTrie<u32, Class, { limits::PREFIXES as usize }> = LpmTrie::new();

/// Classed IPv6 prefixes.
#[btf_map(name = "api6")]
pub(crate) static API6: LpmTrie<Words, Class, { limits::PREFIXES as usize }> = LpmTrie::new();

/// What agents may reach over IPv4, by pod, protocol and port.
#[btf_map(name = "allow4")]
pub(crate) static ALLOW4: LpmTrie<Key4, Allow, { limits::ALLOWED as usize }> = LpmTrie::new();

/// What agents may reach over IPv6.
#[btf_map(name = "allow6")]
pub(crate) static ALLOW6: LpmTrie<Key6, Allow, { limits::ALLOWED as usize }> = LpmTrie::new();

/// What agents may reach that one look decides. Not preallocated: most of it is never used.
#[btf_map(name = "exact")]
pub(crate) static EXACT: HashMap<Key6, Exact, { limits::ALLOWED as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Host sides of agents' interfaces, by interface index.
#[btf_map(name = "links")]
pub(crate) static LINKS: HashMap<u32, Link, { limits::LINKS as usize }> = HashMap::new();

/// The one configuration.
#[btf_map(name = "cfg")]
pub(crate) static CFG: Array<Config, 1> = Array::new();

/// Where each redirected socket meant to go.
#[btf_map(name = "sk_redirected")]
pub(crate) static SK_REDIRECTED: SkStorage<Redirected> = SkStorage::new();

/// Sockets that others have connected to: a mark on a listener, which the sockets of its connections inherit.
#[btf_map(name = "sk_accepted")]
pub(crate) static SK_ACCEPTED: InheritedStorage = InheritedStorage::new();

/// Redirected connections that the listener has not taken yet.
#[btf_map(name = "flows")]
pub(crate) static FLOWS: HashMap<FlowKey, OriginalDst, { limits::FLOWS as usize }> = HashMap::new();

/// What was refused, for whoever reads along; the counters are complete, this may not be.
#[btf_map(name = "events")]
pub(crate) static EVENTS: RingBuf<Event, { limits::EVENT_BYTES as usize }> = RingBuf::new();

/// Counters, summed over the processors by the loader.
#[btf_map(name = "stats")]
pub(crate) static STATS: PerCpuArray<u64, { stat::COUNT as usize }> = PerCpuArray::new();

/// Storage of sockets that is copied when the kernel makes a connection's socket from its listener. The library's own type
/// has no flags.
#[repr(C)]
pub(crate) struct InheritedStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the fields say what the map is like; nothing ever follows them.
unsafe impl Sync for InheritedStorage {}

impl InheritedStorage {
    const fn new() -> Self {
        Self {
            r#type: null(),
            key: null(),
            value: null(),
            max_entries: null(),
            map_flags: null(),
        }
    }

    /// What the helpers know the map by.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        from_ref(self).cast_mut().cast()
    }
}
