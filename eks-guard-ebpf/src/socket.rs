//! socket() of a guarded process.

use aya_ebpf::programs::SockContext;
use eks_guard_ebpf::POD_AGENT;
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::transport::is_visible;

use crate::context;
use crate::judge::{config, pod_of_current};

/// Refuses sockets whose destinations the connect and send hooks do not see, whoever asks for them.
#[inline(always)]
pub(crate) fn create(ctx: &SockContext) -> Result<(), Refusal> {
    let (kind, protocol) = context::kind(ctx);
    if is_visible(kind, protocol) {
        return Ok(());
    }
    let (_, pod) = pod_of_current(config()?).ok_or(Refusal::Unclassified)?;
    if pod.flags & POD_AGENT == 0 {
        Ok(())
    } else {
        Err(Refusal::SocketKind)
    }
}
