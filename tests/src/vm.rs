//! Small virtual machines with other kernels than this one's: one test binary runs in each, on nothing but an initramfs.
//! Order of reading: `image` makes the initramfs, `machine` boots it, `guest` is what runs in it, `report` what it says.

mod cpio;
pub mod guest;
pub mod image;
pub mod machine;
pub mod report;
mod vmlinux;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::programs;

/// A kernel that `cargo xtask setup` has fetched.
#[derive(Debug)]
pub struct Kernel {
    /// Its series, such as `6.1`.
    pub series: &'static str,
    folder: PathBuf,
}

/// Whether the kernel is started with the BPF security module, which not every node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfLsm {
    /// Left out of `lsm=`.
    Off,
    /// Last in `lsm=`.
    On,
}

impl BpfLsm {
    /// The word for it in names of tests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "without-bpf-lsm",
            Self::On => "with-bpf-lsm",
        }
    }

    /// The kernel's argument. Lists all that Debian's own list has on a node, whatever the kernel adds by itself.
    #[must_use]
    pub fn argument(self) -> &'static str {
        match self {
            Self::Off => "lsm=landlock,lockdown,yama,apparmor",
            Self::On => "lsm=landlock,lockdown,yama,apparmor,bpf",
        }
    }
}

impl Kernel {
    /// The kernel of a series.
    pub fn find(series: &'static str) -> Result<Self> {
        let link = programs::workspace().join("target/rig/kernels").join(series);
        let folder = fs::canonicalize(&link)
            .with_context(|| format!("no kernel {series} for the guests yet; run `cargo xtask setup`"))?;
        Ok(Self { series, folder })
    }

    /// What boots soonest: the kernel, unpacked into `folder`, or its image as the package has it.
    pub fn image(&self, folder: &Path) -> Result<PathBuf> {
        let packed = self.folder.join("vmlinuz");
        Ok(vmlinux::unpack(&packed, folder)?.unwrap_or(packed))
    }

    /// Where its modules are, in folders as the package has them.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }
}
