//! Where a connection comes from, in the kernel's word: the flow that was redirected, and the process that opened it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use eks_guard_core::record::Caller;

use crate::ebpf::original_dst::{Downstream, Flow, FlowTable};
use crate::identity::Callers;

/// The process behind a connection, once it has been looked up.
pub type CallerFuture = Pin<Box<dyn Future<Output = Caller> + Send>>;

/// A connection's origin, once it has been looked up.
pub type OriginFuture<'a> = Pin<Box<dyn Future<Output = Option<Origin>> + Send + 'a>>;

/// Where a connection comes from.
pub struct Origin {
    /// What the kernel recorded before the SYN left.
    pub flow: Flow,
    /// The process that called connect(); it may take a while to say.
    pub caller: CallerFuture,
}

/// Tells where connections come from, each once.
pub trait Origins: Send + Sync + 'static {
    /// The origin of an accepted connection; `None` closes the connection.
    fn take(&self, downstream: Downstream) -> OriginFuture<'_>;
}

/// For the process that holds the flow map and sees the callers.
pub struct LocalOrigins {
    flows: Arc<dyn FlowTable>,
    callers: Callers,
}

impl LocalOrigins {
    /// For listeners in the network namespace of these flows.
    #[must_use]
    pub fn of(flows: Arc<dyn FlowTable>) -> Arc<Self> {
        Arc::new(Self {
            flows,
            callers: Callers::default(),
        })
    }
}

impl Origins for LocalOrigins {
    fn take(&self, downstream: Downstream) -> OriginFuture<'_> {
        let origin = self.flows.take(downstream).map(|flow| {
            let callers = self.callers.clone();
            Origin {
                caller: Box::pin(async move { callers.caller(flow.pid).await }),
                flow,
            }
        });
        Box::pin(std::future::ready(origin))
    }
}
