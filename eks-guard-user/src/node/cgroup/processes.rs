//! The processes of a pod, the network namespaces that they are in, and the one its sandbox has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::node::cgroup::{PodCgroup, PodUid};

/// Most cgroups and processes of one pod that are looked at.
const MAX_CGROUPS: usize = 512;
const MAX_PROCESSES: usize = 4096;

/// A network namespace, held open.
#[derive(Debug)]
pub struct Netns {
    /// The namespace.
    pub file: File,
    /// Inode number of the namespace: its name among those that exist.
    pub inode: u64,
}

impl Netns {
    /// The namespace at a path of `/proc`.
    ///
    /// # Errors
    /// It is gone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }
}

/// The network namespace of a pod's sandbox: that of its oldest process. A younger one may have made itself another, where
/// no sandbox is. `None` while the pod has no process.
///
/// # Errors
/// The pod's cgroup is gone, or has more processes than are looked at.
pub fn sandbox_netns(pod: &PodCgroup) -> io::Result<Option<Netns>> {
    for Process { pid, .. } in oldest_first(pod)? {
        let Ok(netns) = Netns::open(&PathBuf::from(format!("/proc/{pid}/ns/net"))) else {
            continue;
        };
        // A process id is used again: what was opened counts only if the process is the pod's afterwards too.
        if processes(&pod.path)?.iter().any(|(other, _)| *other == pid) {
            return Ok(Some(netns));
        }
    }
    Ok(None)
}

/// Every network namespace that a process of a pod is in, each once. All processes are looked at, however many there are: to
/// stop early is to be led past the one that matters.
///
/// # Errors
/// The pod's cgroup is gone, or `each` fails.
pub fn networks(pod: &Path, mut each: impl FnMut(&Netns) -> io::Result<()>) -> io::Result<()> {
    let mut seen = BTreeSet::new();
    let mut folders = vec![pod.to_owned()];
    while let Some(folder) = folders.pop() {
        let pids = match pids(&folder) {
            Ok(pids) => pids,
            Err(error) if folder == pod => return Err(error),
            // A container that ended meanwhile.
            Err(_) => continue,
        };
        for pid in pids {
            let Ok(netns) = Netns::open(&PathBuf::from(format!("/proc/{pid}/ns/net"))) else {
                continue;
            };
            // A process id is used again, as in `sandbox_netns`.
            if !seen.contains(&netns.inode) && self::pids(&folder)?.contains(&pid) {
                seen.insert(netns.inode);
                each(&netns)?;
            }
        }
        folders.extend(children(&folder));
    }
    Ok(())
}

/// The pod that a process is in, if it is in one.
#[must_use]
pub fn pod_of(pid: u32, pods: &BTreeMap<PodUid, PodCgroup>) -> Option<&PodCgroup> {
    pods.values()
        .find(|pod| processes(&pod.path).is_ok_and(|found| found.iter().any(|(other, _)| *other == pid)))
}

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// When it was started, in clock ticks since boot.
    pub started: u64,
    /// Its id.
    pub pid: u32,
    /// Folder of its cgroup.
    pub cgroup: PathBuf,
}

/// The processes of a pod, the oldest first.
///
/// # Errors
/// The pod's cgroup is gone, or has more processes than are looked at: the oldest may be among the rest.
pub fn oldest_first(pod: &PodCgroup) -> io::Result<Vec<Process>> {
    let mut found: Vec<Process> = processes(&pod.path)?
        .into_iter()
        .filter_map(|(pid, cgroup)| {
            let started = start_time(pid)?;
            Some(Process { started, pid, cgroup })
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Ids of the processes in a cgroup and below it, with the folders that they are in.
fn processes(root: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let pids = match pids(&folder) {
            Err(error) if folder == root => return Err(error),
            // Containers come and go while they are read.
            pids => pids.unwrap_or_default(),
        };
        found.extend(pids.into_iter().map(|pid| (pid, folder.clone())));
        folders.extend(children(&folder));
        seen += 1;
        if seen > MAX_CGROUPS || found.len() > MAX_PROCESSES {
            let text = format!("a pod has more than {MAX_PROCESSES} processes or {MAX_CGROUPS} cgroups");
            return Err(io::Error::other(text));
        }
    }
    Ok(found)
}

fn children(cgroup: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path())
}

fn pids(cgroup: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    // 0 stands for a process of another PID namespace.
    let pids = text.lines().filter_map(|line| line.parse::<u32>().ok());
    Ok(pids.filter(|pid| *pid != 0).collect())
}

/// When a process was started, in clock ticks since boot: field 22 of `/proc/PID/stat`. The name before it may hold
/// anything but ends with the last parenthesis.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(processes: &[u32]) -> (tempfile::TempDir, PodCgroup) {
        let folder = tempfile::tempdir().unwrap();
        let container = folder.path().join("container");
        fs::create_dir(&container).unwrap();
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        let text: String = processes.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(container.join("cgroup.procs"), text).unwrap();
        let path = folder.path().to_owned();
        (folder, PodCgroup { id: 1, path })
    }

    #[test]
    fn the_namespace_is_that_of_a_process_of_the_pod() {
        let own = Netns::open(Path::new("/proc/self/ns/net")).unwrap().inode;
        let (_folder, pod) = pod(&[0, u32::MAX, std::process::id()]);
        assert_eq!(sandbox_netns(&pod).unwrap().map(|netns| netns.inode), Some(own));
        let uid = PodUid::parse("0123456789abcdef0123456789abcdef").unwrap();
        let pods = BTreeMap::from([(uid, pod.clone())]);
        assert_eq!(pod_of(std::process::id(), &pods), Some(&pod));
        assert_eq!(pod_of(1, &pods), None);
    }

    #[test]
    fn a_pod_without_processes_has_none() {
        let (_folder, empty) = pod(&[]);
        assert!(sandbox_netns(&empty).unwrap().is_none());
        let gone = PodCgroup {
            id: 1,
            path: "/no/such/cgroup".into(),
        };
        assert!(sandbox_netns(&gone).is_err());
    }

    #[test]
    fn a_pod_with_more_processes_than_are_looked_at_has_no_oldest() {
        let own = std::process::id();
        let (_folder, crowd) = pod(&vec![own; MAX_PROCESSES + 1]);
        assert!(sandbox_netns(&crowd).is_err());
        let mut found = 0;
        networks(&crowd.path, |_| {
            found += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(found, 1, "what they are in is known all the same");
    }

    #[test]
    fn processes_have_an_age() {
        assert!(start_time(std::process::id()) > start_time(1));
        assert_eq!(start_time(u32::MAX), None);
    }
}
