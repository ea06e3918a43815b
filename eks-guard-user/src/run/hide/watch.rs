//! Notices when a cover is gone. Whoever renames another file over a covered one, or removes it, takes the cover away
//! with it: the kernel does so for anybody outside this mount namespace who may write to the folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::run::mounts;

/// The covers as mounts. Polls as urgent when a mount has come or gone.
#[derive(Debug)]
pub struct Watch {
    table: File,
    covers: Vec<(u64, PathBuf)>,
}

impl Watch {
    /// Watches what is mounted at these paths now.
    pub(super) fn over<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<Watch> {
        let mut table = mounts::open()?;
        let mounts = mounts::read(&mut table)?;
        let covers = paths.map(|path| {
            // Of several mounts at one path the last one is the visible one.
            let top = mounts.iter().rev().find(|mount| mount.point == path);
            let top = top.ok_or_else(|| io::Error::other("a cover is not in the mount table"))?;
            Ok((top.id, path.to_owned()))
        });
        let covers = covers.collect::<io::Result<_>>()?;
        Ok(Watch { table, covers })
    }

    /// A path whose cover is gone.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn lost(&mut self) -> io::Result<Option<&Path>> {
        let mounts = mounts::read(&mut self.table)?;
        let gone = |(id, _): &&(u64, PathBuf)| !mounts.iter().any(|mount| mount.id == *id);
        Ok(self.covers.iter().find(gone).map(|(_, path)| path.as_path()))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}
