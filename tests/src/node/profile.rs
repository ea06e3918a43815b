//! The profiles under which the processes of a pod run: what a pod's `securityContext` comes to in the kernel.

use rustix::thread::CapabilitySet;

use crate::place::{Escalation, Privileges};

/// A `securityContext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Pod Security Standard "restricted": a user, no capabilities, no escalation.
    Restricted,
    /// Nothing said: root with the capabilities that container runtimes leave.
    Default,
    /// All capabilities dropped, `NET_RAW` added.
    NetRaw,
    /// Nothing said but `NET_ADMIN` added.
    NetAdmin,
    /// `privileged: true`.
    Privileged,
}

/// What containerd leaves root in a container.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE);

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [
        Self::Restricted,
        Self::Default,
        Self::NetRaw,
        Self::NetAdmin,
        Self::Privileged,
    ];

    /// User and capabilities.
    #[must_use]
    pub fn privileges(self) -> Privileges {
        let (user, capabilities, escalation) = match self {
            Self::Restricted => (1000, CapabilitySet::empty(), Escalation::Refused),
            Self::Default => (0, DEFAULT, Escalation::Allowed),
            Self::NetRaw => (0, CapabilitySet::NET_RAW, Escalation::Refused),
            Self::NetAdmin => (0, DEFAULT.union(CapabilitySet::NET_ADMIN), Escalation::Allowed),
            Self::Privileged => (0, CapabilitySet::all(), Escalation::Allowed),
        };
        Privileges {
            user,
            capabilities: capabilities.bits(),
            escalation,
        }
    }
}
