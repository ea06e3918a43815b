//! One record file: created for root alone, appended to by one writer, and never left with half a line.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::process::geteuid;

use crate::recording::RecordError;

/// What the name of a record ends with.
pub(in crate::recording) const EXTENSION: &str = "jsonl";
/// The longest session name.
const MAX_NAME: usize = 128;

/// What the lines of one session are appended to. Errors are those of the disk, whoever stands between.
pub trait RecordSink: Send {
    /// Appends whole lines; on failure none of them is left.
    ///
    /// # Errors
    /// The disk refuses.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Returns once everything appended is on disk.
    ///
    /// # Errors
    /// The disk refuses; what is on it is not known.
    fn flush(&mut self) -> io::Result<()>;

    /// What it is called in messages.
    fn path(&self) -> &Path;
}

/// An open record, locked for as long as it is being written: so a reader knows which sessions still run.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: File,
    path: PathBuf,
    /// Length of the file up to its last whole line.
    whole: u64,
    /// A partial line is in the file and could not be taken back.
    torn: bool,
}

impl RecordFile {
    pub(super) fn create(folder: &Path, session: &str) -> Result<Self, RecordError> {
        if !is_session_name(session) {
            return Err(RecordError {
                message: format!("{session:?} cannot name a session"),
            });
        }
        let dir = open_folder(folder)?;
        let path = folder.join(session).with_added_extension(EXTENSION);
        let failed = |what: &str, error: io::Error| RecordError {
            message: format!("{what} {} failed: {error}", path.display()),
        };
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let file = openat(
            &dir,
            format!("{session}.{EXTENSION}"),
            flags,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(|error| failed("creating", error.into()))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed("locking", error.into()))?;
        // The name must survive a crash as well as the lines do.
        dir.sync_all()
            .map_err(|error| failed("flushing the folder of", error))?;
        Ok(Self::on(File::from(file), path))
    }

    /// A record on an open, empty file.
    pub(super) fn on(file: File, path: PathBuf) -> Self {
        Self {
            file,
            path,
            whole: 0,
            torn: false,
        }
    }

    fn take_back(&mut self) -> io::Result<()> {
        let outcome = self.file.set_len(self.whole);
        self.torn = outcome.is_err();
        outcome
    }
}

impl RecordSink for RecordFile {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.take_back()?;
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.whole += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                if let Err(worse) = self.take_back() {
                    tracing::error!(error = %worse, "a partial line is left in the record");
                }
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A plain name that is neither hidden nor a path.
pub(in crate::recording) fn is_session_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.') && name.bytes().all(plain)
}

/// The folder of the records, made when missing; one that others can write to is refused.
fn open_folder(folder: &Path) -> Result<File, RecordError> {
    let refuse = |cause: String| RecordError {
        message: format!("record folder {}: {cause}", folder.display()),
    };
    if let Some(parent) = folder.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(|error| refuse(format!("cannot be made: {error}")))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(refuse(format!("cannot be made: {error}")));
        }
        Ok(()) | Err(_) => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, folder, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| {
            refuse(format!(
                "cannot be opened as a folder (a link is not followed): {error}"
            ))
        })?;
    let meta = dir.metadata().map_err(|error| refuse(error.to_string()))?;
    if meta.uid() != geteuid().as_raw() {
        return Err(refuse(format!(
            "belongs to user {}; name another or give it to this one",
            meta.uid()
        )));
    }
    // Changing the mode is left to a person: the folder may be one that others need, such as /tmp.
    if meta.mode() & 0o077 != 0 {
        return Err(refuse(
            "others can look into it; run `chmod 700` on it or name another folder".to_owned(),
        ));
    }
    Ok(dir)
}
