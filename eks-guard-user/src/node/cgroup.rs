//! The pods' cgroups as the kubelet makes them: where they are, and which pod each is of.
//!
//! Both drivers name the pod's own cgroup after its UID: `kubepods-burstable-pod<uid with _>.slice` (systemd) and
//! `kubepods/burstable/pod<uid>` (cgroupfs), Guaranteed pods directly below the root. What stands below a pod's cgroup is
//! the pod's own business and never read: a process in there can make cgroups of any name.

pub mod processes;
pub mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Levels between the kubepods root and a pod's cgroup: a QoS class, or none.
const QOS_LEVELS: usize = 1;
/// How deep below the cgroup2 mount the kubepods root is looked for (a kubelet has its `cgroupRoot` there).
const ROOT_LEVELS: usize = 4;
/// Most folders that are looked at in one scan.
const MAX_FOLDERS: usize = 20_000;
/// Most cgroups of one pod that are looked at.
const MAX_CONTAINERS: usize = 512;

/// The UID that a pod's cgroup is named after. Of a static pod it is the hash of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(String);

impl PodUid {
    /// A UID as the API server writes it: a UUID, or 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        let shape = lengths == [8, 4, 4, 4, 12] || lengths == [32];
        let digits = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        (shape && digits).then(|| Self(text.to_owned()))
    }

    /// Whether it is the hash of a static pod's manifest: those have no dashes, UIDs of the API server always do.
    #[must_use]
    pub fn is_manifest_hash(&self) -> bool {
        !self.0.contains('-')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cgroup of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// Its id: the inode number of its folder.
    pub id: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// Why the cgroups cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CgroupsError {
    /// No kubepods root.
    #[error(
        "no cgroup named kubepods or *kubepods.slice stands below {}: is this a Kubernetes node? Else set `cgroupRoot`",
        mount.display()
    )]
    NoRoot {
        /// The cgroup2 mount.
        mount: PathBuf,
    },
    /// Several.
    #[error(
        "several kubepods cgroups ({}): set `cgroupRoot` to the kubelet's",
        list(found)
    )]
    ManyRoots {
        /// All of them.
        found: Vec<PathBuf>,
    },
    /// A folder cannot be read.
    #[error("cannot read the cgroups below {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More folders than a node has.
    #[error("more than {MAX_FOLDERS} cgroups below {}", path.display())]
    TooMany {
        /// The root.
        path: PathBuf,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    texts.join(", ")
}

/// Ids of a cgroup and of those below it.
#[must_use]
pub fn ids_below(root: &Path) -> BTreeSet<u64> {
    let (mut ids, mut folders) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop().filter(|_| ids.len() < MAX_CONTAINERS) {
        ids.extend(fs::metadata(&folder).map(|folder| folder.ino()));
        // Containers come and go while they are read.
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(below.map(|entry| entry.path()));
    }
    ids
}

/// The UID in the name of a pod's own cgroup.
#[must_use]
pub fn pod_uid(name: &str) -> Option<PodUid> {
    if let Some(slice) = name.strip_suffix(".slice") {
        let (parents, uid) = slice.rsplit_once("-pod")?;
        let of_kubepods = parents
            .split('-')
            .any(|part| part == "kubepods" || part == "kubepods.slice");
        return of_kubepods.then(|| PodUid::parse(&uid.replace('_', "-")))?;
    }
    PodUid::parse(name.strip_prefix("pod")?)
}

/// The kubepods root below a cgroup2 mount.
///
/// # Errors
/// None, or several.
pub fn find_root(mount: &Path) -> Result<PathBuf, CgroupsError> {
    let mut found = Vec::new();
    let mut level = vec![mount.to_owned()];
    let mut seen = 0;
    for _ in 0..ROOT_LEVELS {
        let mut next = Vec::new();
        for folder in level {
            // What vanishes while it is read is not the root of anything.
            for child in children(&folder).unwrap_or_default() {
                seen += 1;
                if seen > MAX_FOLDERS {
                    return Err(CgroupsError::TooMany {
                        path: mount.to_owned(),
                    });
                }
                if is_root_name(&name_of(&child)) {
                    found.push(child);
                } else {
                    next.push(child);
                }
            }
        }
        level = next;
    }
    match (found.pop(), found.is_empty()) {
        (Some(root), true) => Ok(root),
        (Some(root), false) => {
            found.push(root);
            Err(CgroupsError::ManyRoots { found })
        }
        (None, _) => Err(CgroupsError::NoRoot {
            mount: mount.to_owned(),
        }),
    }
}

/// Every pod's cgroup below the kubepods root.
///
/// # Errors
/// The root cannot be read, or holds more than any node does.
pub fn scan(root: &Path) -> Result<BTreeMap<PodUid, PodCgroup>, CgroupsError> {
    let mut pods = BTreeMap::new();
    let mut level = vec![root.to_owned()];
    let mut seen = 0;
    for depth in 0..=QOS_LEVELS {
        let mut next = Vec::new();
        for folder in level {
            let children = match children(&folder) {
                Ok(children) => children,
                Err(source) if depth == 0 => {
                    return Err(CgroupsError::Read { path: folder, source });
                }
                // A QoS class that went away has no pods.
                Err(_) => continue,
            };
            for child in children {
                seen += 1;
                if seen > MAX_FOLDERS {
                    return Err(CgroupsError::TooMany {
                        path: root.to_owned(),
                    });
                }
                match (pod_uid(&name_of(&child)), fs::metadata(&child)) {
                    (Some(uid), Ok(folder)) => {
                        let id = folder.ino();
                        pods.insert(uid, PodCgroup { id, path: child });
                    }
                    (Some(_), Err(_)) => {}
                    (None, _) => next.push(child),
                }
            }
        }
        level = next;
    }
    Ok(pods)
}

/// The folders that pods' cgroups are made in: the root and its QoS classes.
#[must_use]
pub fn parents(root: &Path) -> Vec<PathBuf> {
    let classes = children(root).unwrap_or_default();
    let classes = classes
        .into_iter()
        .filter(|child| pod_uid(&name_of(child)).is_none());
    std::iter::once(root.to_owned()).chain(classes).collect()
}

fn is_root_name(name: &str) -> bool {
    name == "kubepods" || name == "kubepods.slice" || name.ends_with("-kubepods.slice")
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            children.push(entry.path());
        }
    }
    Ok(children)
}
