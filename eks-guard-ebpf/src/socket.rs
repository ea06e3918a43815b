//! socket() of a guarded process.

use aya_ebpf::programs::SockContext;
use eks_guard_ebpf::refusal::Refusal;
use eks_guard_ebpf::transport::is_visible;

use crate::context;
use crate::owner::Owner;

/// Refuses sockets whose destinations the connect and send hooks do not see. Those of cgroups that nobody has classified
/// are left to the packet hook.
#[inline(always)]
pub(crate) fn create(ctx: &SockContext) -> Result<(), Refusal> {
    let (kind, protocol) = context::kind(ctx);
    if is_visible(kind, protocol) {
        return Ok(());
    }
    match Owner::of_current()? {
        Owner::Agent(_) => Err(Refusal::SocketKind),
        Owner::Exempt | Owner::Unknown => Ok(()),
    }
}
