//! The kernel side: the run's cgroup or the node's, load and attach, and where a redirected connection meant to go.

pub mod abstract_names;
pub mod cgroup;
pub(crate) mod cgroup2_mount;
mod classes;
pub(crate) mod events;
mod kernel_log;
mod load_error;
pub mod loader;
pub mod node;
pub(crate) mod object;
pub mod original_dst;
mod prefix;
mod stats;
mod sys;

pub use self::cgroup::{CgroupError, RunCgroup, remove_leftovers};
pub use self::cgroup2_mount::FindError;
pub(crate) use self::cgroup2_mount::find as find_cgroup2;
pub use self::kernel_log::KernelLog;
pub use self::load_error::LoadError;
pub use self::loader::{Datapath, Limits, LoadRequest};
pub use self::node::{NodeDatapath, NodeError, NodeRequest};
pub use self::original_dst::{Downstream, Flow, FlowTable, OriginalDstAddr};
pub use self::prefix::Prefix;
pub use self::stats::Stats;
pub use self::sys::syn::keep_syns;
pub use self::sys::{bpf_is_refused, netns_cookie};
pub use eks_guard_ebpf::refusal::{Hook, Refusal};
