//! Where the node's maps and links are pinned: one folder per map ABI, so that a new one is complete before the old goes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use eks_guard_ebpf::ABI_VERSION;
use rustix::mount::{MountFlags, mount};

use crate::ebpf::node::error::NodeError;
use crate::ebpf::sys::links;

const ABI_PREFIX: &str = "abi-";
/// `statfs` of a bpffs: `BPF_FS_MAGIC` of the kernel's `linux/magic.h`.
const BPF_FS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;

/// The pins of this ABI.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    folder: PathBuf,
    /// Where the bpffs that they are on was mounted when they were made.
    mount_point: Option<PathBuf>,
}

impl Pins {
    /// The pins below a folder of a bpffs; nothing is made.
    pub(super) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            folder: root.join(format!("{ABI_PREFIX}{ABI_VERSION}")),
            mount_point: None,
        }
    }

    /// Makes the folders, for root's eyes only, and remembers what they are on.
    pub(super) fn create(&mut self) -> Result<(), NodeError> {
        self.make_folders()?;
        self.mount_point = mount_point_of(&self.root);
        Ok(())
    }

    /// Makes the folders again if they are gone; if the whole bpffs is, mounts another in its place.
    pub(super) fn restore(&self) -> Result<(), NodeError> {
        if let Some(place) = self.mount_point.as_deref().filter(|place| !is_bpffs(place)) {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("bpf", place, "bpf", flags, None).map_err(|source| NodeError::Pin {
                path: place.to_owned(),
                source: source.into(),
            })?;
        }
        self.make_folders()
    }

    fn make_folders(&self) -> Result<(), NodeError> {
        let existing = self.root.ancestors().find(|folder| folder.exists());
        if !is_bpffs(existing.unwrap_or(&self.root)) {
            return Err(NodeError::Pin {
                path: self.root.clone(),
                source: io::ErrorKind::Unsupported.into(),
            });
        }
        for folder in [self.maps(), self.links(), self.wires()] {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&folder);
            made.map_err(|source| NodeError::Pin { path: folder, source })?;
        }
        Ok(())
    }

    /// Folder of the maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.folder.join("maps")
    }

    /// Folder of the cgroup links.
    pub(super) fn links(&self) -> PathBuf {
        self.folder.join("links")
    }

    /// Folder of the interface links.
    pub(super) fn wires(&self) -> PathBuf {
        self.folder.join("wires")
    }

    /// The pin of an interface's link.
    pub(super) fn wire(&self, ifindex: u32) -> PathBuf {
        self.wires().join(ifindex.to_string())
    }

    /// Interfaces that have a pinned link.
    pub(super) fn wired(&self) -> Result<Vec<u32>, NodeError> {
        let folder = self.wires();
        let names = names(&folder).map_err(|source| NodeError::Pin { path: folder, source })?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes the pins of all other ABIs, links first; how many ABIs there were.
    pub(super) fn remove_others(&self) -> Result<usize, NodeError> {
        let own = self.folder.file_name().and_then(|name| name.to_str());
        let mut removed = 0;
        for name in self.abis()? {
            if Some(name.as_str()) != own {
                remove_abi(&self.root.join(name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes the pins of all ABIs.
    pub(super) fn remove_all(&self) -> Result<(), NodeError> {
        for name in self.abis()? {
            remove_abi(&self.root.join(name))?;
        }
        Ok(())
    }

    fn abis(&self) -> Result<Vec<String>, NodeError> {
        let names = names(&self.root).map_err(|source| NodeError::Pin {
            path: self.root.clone(),
            source,
        })?;
        Ok(names
            .into_iter()
            .filter(|name| name.starts_with(ABI_PREFIX))
            .collect())
    }
}

fn is_bpffs(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|mounted| mounted.f_type == BPF_FS_MAGIC)
}

/// The topmost folder of the file system that a folder is on.
fn mount_point_of(folder: &Path) -> Option<PathBuf> {
    let device = |folder: &Path| fs::metadata(folder).ok().map(|found| found.dev());
    let own = device(folder)?;
    let above = folder.ancestors().take_while(|above| device(above) == Some(own));
    above.last().map(Path::to_owned)
}

/// Opens a pinned object.
pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>, NodeError> {
    links::open_pinned(path).map_err(|source| NodeError::Pin {
        path: path.to_owned(),
        source,
    })
}

/// Pins a link, in the place of whatever has the name: the new pin exists before the old one is gone.
pub(super) fn replace(link: BorrowedFd<'_>, path: &Path) -> Result<(), NodeError> {
    let next = path.with_file_name(format!(
        "{}_next",
        path.file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    ));
    let failed = |source| NodeError::Pin {
        path: path.to_owned(),
        source,
    };
    remove(&next)?;
    links::pin(link.as_fd(), &next).map_err(failed)?;
    fs::rename(&next, path).map_err(failed)
}

/// Removes a pin that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), NodeError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(NodeError::Pin {
            path: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes a pinned link off what it is attached to, whoever else holds it; `false` when there is none.
///
/// # Errors
/// The kernel refuses.
pub fn detach(pin: &Path) -> Result<bool, NodeError> {
    let Some(link) = open(pin)? else {
        return Ok(false);
    };
    links::detach(link.as_fd()).map_err(|source| NodeError::Pin {
        path: pin.to_owned(),
        source,
    })?;
    Ok(true)
}

/// The links go before the maps: nothing is judged by what is half there.
fn remove_abi(folder: &Path) -> Result<(), NodeError> {
    let failed = |source| NodeError::Pin {
        path: folder.to_owned(),
        source,
    };
    for part in ["wires", "links", "maps"] {
        let part = folder.join(part);
        for name in names(&part).map_err(failed)? {
            remove(&part.join(name))?;
        }
    }
    fs::remove_dir_all(folder).map_err(failed)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}
