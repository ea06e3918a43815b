//! Where a process of the rig runs from its first instruction: cgroup, network, files, privileges.
//! The program `leash` enters a place before it becomes what it was told to start.

use std::fs::{self, DirBuilder, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, capabilities, capability_is_in_bounding_set,
    move_into_link_name_space, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    set_thread_gid, set_thread_groups, set_thread_uid,
};
use serde::{Deserialize, Serialize};

/// Where a pod finds what its ServiceAccount may show.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A folder in which every user of a pod may write.
pub const HOME: &str = "/run/home";

/// Each part that is missing stays as it is for the starting process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// Folder of a cgroup.
    pub cgroup: Option<PathBuf>,
    /// A file that is a network namespace.
    pub netns: Option<PathBuf>,
    /// The files of a pod.
    pub files: Option<PodFiles>,
    /// Whom to run as.
    pub privileges: Option<Privileges>,
}

/// What a pod sees that its node does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodFiles {
    /// Comes to [`SERVICE_ACCOUNT`]: token, ca.crt, namespace.
    pub service_account: PathBuf,
    /// Comes to `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// The cgroup2 mount, which a pod may only read.
    pub cgroups: PathBuf,
}

/// User and capabilities of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// User and group id.
    pub user: u32,
    /// Bits of the capabilities that are left of those that the rig has, as in `/proc/PID/status`; none of them survive in
    /// a user other than 0.
    pub capabilities: u64,
    /// Whether a program may raise them (`allowPrivilegeEscalation`).
    pub escalation: Escalation,
}

/// `allowPrivilegeEscalation` of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escalation {
    /// `no_new_privs` is set.
    Refused,
    /// Programs with set-user-id work.
    Allowed,
}

impl Place {
    /// Moves this process, which must have one thread only.
    pub fn enter(&self) -> Result<()> {
        if let Some(netns) = &self.netns {
            let file = fs::File::open(netns).with_context(|| format!("opening {}", netns.display()))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering the network namespace")?;
        }
        // Last of the two: whoever looks for the cgroup's processes finds them where they stay.
        if let Some(cgroup) = &self.cgroup {
            let procs = cgroup.join("cgroup.procs");
            fs::write(&procs, "0").with_context(|| format!("joining {}", procs.display()))?;
        }
        if let Some(files) = &self.files {
            files.mount()?;
        }
        self.privileges.as_ref().map_or(Ok(()), Privileges::take)
    }
}

impl PodFiles {
    fn mount(&self) -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).context("making a view of its own")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("parting the view from the node's")?;
        // What the node has there (sockets of its services, pins of its programs) a pod does not see.
        for hidden in ["/run", "/sys/fs/bpf"] {
            mount(
                Some("rig"),
                hidden,
                Some("tmpfs"),
                MsFlags::MS_NOSUID,
                Some("mode=755,size=4m"),
            )
            .with_context(|| format!("hiding {hidden}"))?;
        }
        fs::create_dir(HOME).context("making a home")?;
        fs::set_permissions(HOME, Permissions::from_mode(0o1777)).context("opening the home")?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(SERVICE_ACCOUNT)
            .context("making the folder of the ServiceAccount")?;
        bind(
            &self.service_account,
            Path::new(SERVICE_ACCOUNT),
            MsFlags::MS_RDONLY,
        )?;
        bind(&self.resolv_conf, &resolv_conf_to_cover()?, MsFlags::MS_RDONLY)?;
        bind(&self.cgroups, &self.cgroups, MsFlags::MS_RDONLY)
    }
}

/// `/etc/resolv.conf`, or the file to which it leads where a resolver of the node keeps it in `/run`, which is hidden.
fn resolv_conf_to_cover() -> Result<PathBuf> {
    let path = Path::new("/etc/resolv.conf");
    if path.exists() {
        return Ok(path.to_owned());
    }
    let link = fs::read_link(path).context("looking for /etc/resolv.conf")?;
    let hidden = link.strip_prefix("/run").or_else(|_| link.strip_prefix("../run"));
    let target = Path::new("/run").join(hidden.context("/etc/resolv.conf leads nowhere")?);
    let folder = target.parent().context("/etc/resolv.conf leads to no file")?;
    fs::create_dir_all(folder).context("making the folder of resolv.conf")?;
    fs::write(&target, "").context("making a place for resolv.conf")?;
    Ok(target)
}

fn bind(from: &Path, to: &Path, flags: MsFlags) -> Result<()> {
    let none: Option<&str> = None;
    let context = || format!("mounting {} on {}", from.display(), to.display());
    mount(Some(from), to, none, MsFlags::MS_BIND, none).with_context(context)?;
    // The kernel ignores other flags of a bind mount until the second call.
    mount(
        none,
        to,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags,
        none,
    )
    .with_context(context)
}

impl Privileges {
    fn take(&self) -> Result<()> {
        let permitted = capabilities(None).context("reading capabilities")?.permitted;
        let kept = CapabilitySet::from_bits_retain(self.capabilities) & permitted;
        let known = (0..u64::BITS)
            .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
            .take_while(|one| capability_is_in_bounding_set(*one).is_ok());
        for capability in known.filter(|one| !kept.contains(*one)) {
            remove_capability_from_bounding_set(capability).context("giving up capabilities for good")?;
        }
        if self.escalation == Escalation::Refused {
            set_no_new_privs(true).context("refusing new privileges")?;
        }
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.user));
        set_thread_groups(&[]).context("leaving all groups")?;
        set_thread_gid(group).context("becoming the group")?;
        set_thread_uid(user).context("becoming the user")?;
        if user.is_root() {
            let sets = CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets).context("giving up capabilities")?;
        }
        Ok(())
    }
}
