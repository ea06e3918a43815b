//! Whose connection it is: the kernel names a cgroup, and the workload of that cgroup is the one that asks.

use std::sync::Arc;

use eks_guard_core::principal::Principal;
use tokio::sync::Semaphore;

use crate::ebpf::original_dst::Flow;
use crate::proxy::{Limits, Origins};
use crate::recording::Recorder;

/// One agent on this machine: who it is, where its events go, and how much it may have under way.
pub struct Workload {
    /// Who its requests are attributed to.
    pub principal: Arc<Principal>,
    /// The session that its events belong to.
    pub session: String,
    /// Where its events go.
    pub recorder: Arc<dyn Recorder>,
    pub(crate) connection_slots: Arc<Semaphore>,
    pub(crate) short_slots: Arc<Semaphore>,
    pub(crate) stream_slots: Arc<Semaphore>,
    pub(crate) body_memory: Arc<Semaphore>,
}

impl Workload {
    /// A workload with slots of its own, so that none can take another's.
    #[must_use]
    pub fn new(
        principal: Principal,
        session: impl Into<String>,
        recorder: Arc<dyn Recorder>,
        limits: &Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            principal: Arc::new(principal),
            session: session.into(),
            recorder,
            connection_slots: Arc::new(Semaphore::new(limits.connections)),
            short_slots: Arc::new(Semaphore::new(limits.short_requests)),
            stream_slots: Arc::new(Semaphore::new(limits.streams)),
            body_memory: Arc::new(Semaphore::new(limits.body_memory)),
        })
    }
}

/// Which workload a flow belongs to.
pub trait Workloads: Send + Sync + 'static {
    /// The workload of the flow's cgroup; `None` closes the connection.
    fn of(&self, flow: &Flow) -> Option<Arc<Workload>>;
}

/// The only workload there is: a run guards one cgroup, and its kernel programs redirect nothing else.
impl Workloads for Arc<Workload> {
    fn of(&self, _flow: &Flow) -> Option<Arc<Workload>> {
        Some(Arc::clone(self))
    }
}

/// Where a listener stands.
#[derive(Clone)]
pub struct Place {
    /// The kernel's word on who connected, in the listener's network namespace.
    pub origins: Arc<dyn Origins>,
    /// Who that is.
    pub workloads: Arc<dyn Workloads>,
    /// Whose record takes the connections that nobody vouches for.
    pub resident: Arc<Workload>,
}
