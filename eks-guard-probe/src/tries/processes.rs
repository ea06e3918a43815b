//! Other processes, the network and the cgroup that they share with this one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::Plan;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::found::{Attempt, Found, forms};
use crate::sys;
use crate::tries::connect::ipv4_or_ipv6;
use crate::tries::socket::{DATAGRAM, INET, any};

/// Changes nothing: the flags are set to what they are. Being allowed to is what counts where the network is the machine's; a
/// pod's is the pod's own, and what counts is where its connections lead.
pub(crate) fn network(plan: &Plan) -> Found {
    let attempt = any(plan, INET, DATAGRAM, 0).and_then(|socket| {
        sys::set_loopback_flags(socket, 0)?;
        Ok(match plan.boundary {
            Boundary::Run | Boundary::HostNetworkPod => {
                Found::reached("the network of the listener can be changed")
            }
            Boundary::Pod => ipv4_or_ipv6(plan),
        })
    });
    forms([("flags of lo".to_owned(), attempt)])
}

/// The nearest processes that are not the probe's own. Those of its pod are not outside.
pub(crate) fn outside(plan: &Plan) -> Found {
    let pids = match others() {
        Ok(pids) => pids.into_iter(),
        Err(error) => return crate::found::conclude(Err(error)),
    };
    let pids: Vec<i32> = match plan.boundary {
        Boundary::Run => pids.collect(),
        Boundary::Pod | Boundary::HostNetworkPod => pids.filter(|pid| !is_of_own_pod(*pid)).collect(),
    };
    if pids.is_empty() {
        return Found::blocked("no process outside is seen");
    }
    let mut tried = Vec::new();
    for pid in pids {
        tried.push((format!("memory of {pid}"), memory(pid)));
        tried.push((format!("descriptors of {pid}"), descriptor(pid)));
        tried.push((format!("tracing {pid}"), trace(pid)));
    }
    forms(tried)
}

/// The parent's parent: inside a boundary its first process, outside it whoever started the probe. And the first of all.
fn others() -> io::Result<Vec<i32>> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", nix::unistd::getppid()))?;
    let grandparent = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(1))
        .and_then(|pid| pid.parse().ok());
    let mut pids: Vec<i32> = grandparent
        .into_iter()
        .chain([1])
        .filter(|pid| *pid > 0)
        .collect();
    pids.dedup();
    Ok(pids)
}

/// The probe's cgroup stands in that of a container, which stands in the pod's. A process whose cgroup cannot be read is not
/// known to be the pod's.
fn is_of_own_pod(pid: i32) -> bool {
    let cgroup = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(PathBuf::from)
    };
    let (Some(own), Some(other)) = (cgroup("self"), cgroup(&pid.to_string())) else {
        return false;
    };
    let Some(container) = own.parent() else {
        return false;
    };
    match container.parent() {
        Some(pod) => other.starts_with(pod),
        // The container is the root of what is seen; siblings of it begin with one step up, everybody else with more.
        None => !other.starts_with("/../.."),
    }
}

fn memory(pid: i32) -> Attempt {
    File::open(format!("/proc/{pid}/mem"))?;
    Ok(Found::reached("its memory can be opened"))
}

fn descriptor(pid: i32) -> Attempt {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_getfd(process, 0, PidfdGetfdFlags::empty())?;
    Ok(Found::reached("its descriptors can be taken"))
}

fn trace(pid: i32) -> Attempt {
    sys::trace(pid)?;
    Ok(Found::reached("it can be traced"))
}

/// The probe's own cgroup, as a folder.
fn own_cgroup(plan: &Plan) -> io::Result<(PathBuf, PathBuf)> {
    let root = plan.cgroup2.clone().ok_or(nix::errno::Errno::ENOENT)?;
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = root.join(own.ok_or(io::ErrorKind::NotFound)?);
    Ok((root, own))
}

/// Moves to the root and to the parent, wherever that is allowed.
pub(crate) fn other_cgroup(plan: &Plan) -> Found {
    if plan.cgroup2.is_none() {
        return Found::blocked("no cgroup file system is seen");
    }
    let (root, own) = match own_cgroup(plan) {
        Ok(folders) => folders,
        Err(error) => return Found::not_run(format!("the own cgroup is not found: {error}")),
    };
    if own == root {
        return Found::not_applicable("the process is in the root already");
    }
    let parent = own.parent().unwrap_or(&root).to_owned();
    forms(
        [("the root", &root), ("the parent", &parent)].map(|(name, folder)| (name.to_owned(), enter(folder))),
    )
}

fn enter(folder: &Path) -> Attempt {
    // Opened for writing and not made: a folder that is covered must not get a file of this name.
    let mut procs = OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?;
    io::Write::write_all(&mut procs, b"0")?;
    Ok(Found::reached("the process has moved"))
}

/// Makes a cgroup below the own one, enters it, and tries to connect from there.
pub(crate) fn cgroup_below(plan: &Plan) -> Found {
    let attempt = own_cgroup(plan).and_then(|(_, own)| {
        let below = own.join(format!("probe-{}", std::process::id()));
        fs::create_dir(&below)?;
        enter(&below)?;
        let found = ipv4_or_ipv6(plan);
        // Left again, so that it can be removed; if it cannot, it goes with the cgroup above.
        let left = enter(&own).and_then(|_| fs::remove_dir(&below));
        left.map(|()| found)
    });
    forms([("below".to_owned(), attempt)])
}

/// The first bytes of a file that must not be readable.
pub(crate) fn readable(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(1 << 16).read_to_end(&mut bytes)?;
    Ok(bytes)
}
