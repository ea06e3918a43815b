//! The agents of this node, and where a process of each runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use eks_guard_core::catalogue::Boundary;

use crate::node::cgroup::processes::{Process, oldest_first, sandbox_netns};
use crate::node::cgroup::{PodCgroup, scan};
use crate::node::status::{PodStatus, Status};
use crate::node::trial::TrialError;
use crate::probe::place::Namespaces;

/// A pod to be tried.
#[derive(Debug)]
pub struct Target {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// What is to be expected of its boundary.
    pub boundary: Boundary,
    /// The cgroup of one of its containers.
    pub(super) container: PathBuf,
    /// That container's namespaces.
    pub(super) namespaces: Namespaces,
    /// Where the container sees the cgroup2 file system.
    pub(super) cgroup2: Option<PathBuf>,
}

impl Target {
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> TrialError {
        let pod = self.pod.clone();
        move |source| TrialError::Pod {
            pod: pod.clone(),
            action,
            source,
        }
    }
}

/// The agents that a status names and that have a process.
///
/// # Errors
/// The cgroups cannot be read, or one of an agent's processes cannot be followed.
pub fn targets(status: &Status, root: &Path) -> Result<Vec<Target>, TrialError> {
    let cgroups = scan(root)?;
    let mut found = Vec::new();
    for pod in status.pods.iter().filter(|pod| pod.agent.is_some()) {
        let cgroup = cgroups.values().find(|cgroup| cgroup.id == pod.cgroup);
        let target = cgroup.map_or(Ok(None), |cgroup| target(pod, cgroup));
        let target = target.map_err(|source| TrialError::Pod {
            pod: name(pod),
            action: "find the namespaces of its container",
            source,
        })?;
        found.extend(target);
    }
    Ok(found)
}

fn name(pod: &PodStatus) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

fn target(pod: &PodStatus, cgroup: &PodCgroup) -> io::Result<Option<Target>> {
    let Some(container) = container(cgroup)? else {
        return Ok(None);
    };
    let Some(netns) = sandbox_netns(cgroup)? else {
        return Ok(None);
    };
    let own = |kind: &str| inode(Path::new("/proc/self/ns").join(kind));
    let of = |kind: &str| PathBuf::from(format!("/proc/{}/ns/{kind}", container.pid));
    let boundary = if netns.inode == own("net")? {
        Boundary::HostNetworkPod
    } else {
        Boundary::Pod
    };
    // Entering one's own user namespace is refused.
    let user = (inode(of("user"))? != own("user")?)
        .then(|| File::open(of("user")))
        .transpose()?;
    let namespaces = Namespaces {
        user,
        cgroup: Some(File::open(of("cgroup"))?),
        pid: Some(File::open(of("pid"))?),
        net: Some(netns.file),
        mnt: Some(File::open(of("mnt"))?),
    };
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", container.pid))?;
    // A process id is used again: what was opened counts only if the process is the pod's afterwards too.
    let is_same = oldest_first(cgroup)?.contains(&container);
    Ok(is_same.then(|| Target {
        pod: name(pod),
        uid: pod.uid.clone(),
        boundary,
        container: container.cgroup,
        namespaces,
        cgroup2: cgroup2(&mounts),
    }))
}

/// The oldest process whose files are not those of the sandbox; the sandbox's own while there is no container.
fn container(pod: &PodCgroup) -> io::Result<Option<Process>> {
    let processes = oldest_first(pod)?;
    let mounts = |process: &Process| inode(format!("/proc/{}/ns/mnt", process.pid)).ok();
    let sandbox = processes.first().and_then(mounts);
    let of_container = processes.iter().find(|process| mounts(process) != sandbox);
    Ok(of_container.or(processes.first()).cloned())
}

fn inode(path: impl AsRef<Path>) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|found| found.ino())
}

/// The first cgroup2 mount of a mount table.
fn cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| point.into())
    })
}
