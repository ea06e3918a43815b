//! Whom a probe runs as: what a container's `securityContext` comes to in the kernel.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_gid,
    set_thread_groups, set_thread_uid,
};
use serde::{Deserialize, Serialize};

/// A `securityContext`, and the network it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Pod Security Standard "restricted": a user, no capability, no escalation.
    Restricted,
    /// Nothing said: root with the capabilities that container runtimes leave, NET_RAW among them.
    Default,
    /// All capabilities dropped, `NET_RAW` added.
    NetRaw,
    /// Nothing said but `NET_ADMIN` added.
    NetAdmin,
    /// As restricted, in the node's own network.
    HostNetwork,
}

/// The user of a container that names none but must not be root.
const USER: u32 = 1000;

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
    pub const ALL: [Profile; 5] = [
        Profile::Restricted,
        Profile::Default,
        Profile::NetRaw,
        Profile::NetAdmin,
        Profile::HostNetwork,
    ];

    /// Its name in reports and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Default => "default capabilities",
            Self::NetRaw => "+NET_RAW",
            Self::NetAdmin => "+NET_ADMIN",
            Self::HostNetwork => "hostNetwork",
        }
    }

    /// Becomes it for good.
    ///
    /// # Errors
    /// The kernel refuses any step; the caller must not go on.
    pub fn take(self) -> io::Result<()> {
        let (user, wanted) = match self {
            Self::Restricted | Self::HostNetwork => (USER, CapabilitySet::empty()),
            Self::Default => (0, DEFAULT),
            Self::NetRaw => (0, CapabilitySet::NET_RAW),
            Self::NetAdmin => (0, DEFAULT.union(CapabilitySet::NET_ADMIN)),
        };
        let kept = wanted & capabilities(None)?.permitted;
        if kept != wanted {
            // A profile with less than it names would show more than is true.
            return Err(Errno::PERM.into());
        }
        clear_ambient_capability_set()?;
        limit_bounding_set(kept)?;
        set_no_new_privs(true)?;
        set_thread_groups(&[])?;
        set_thread_gid(Gid::from_raw(user))?;
        set_thread_uid(Uid::from_raw(user))?;
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        Ok(set_capabilities(None, sets)?)
    }
}

/// Removes every other capability this kernel knows; the first unknown one ends the list.
fn limit_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in all.filter(|one| !kept.contains(*one)) {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    /// `default` stands for the default capabilities.
    fn from_str(text: &str) -> Result<Self, String> {
        let named =
            |profile: &Profile| profile.name() == text || (text == "default" && *profile == Self::Default);
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            "there is no such profile; there are restricted, default, +NET_RAW, +NET_ADMIN, hostNetwork"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn profiles_are_known_by_their_names() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        assert_eq!("default".parse(), Ok(Profile::Default));
        assert!("privileged".parse::<Profile>().is_err());
    }
}
