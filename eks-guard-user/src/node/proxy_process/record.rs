//! Records across the process boundary: the proxy hands over whole lines, the loader holds the files and writes them. Whoever
//! has taken the proxy over can add lines to the sessions it serves, and change none that is written.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::recording::RecordError;
use crate::recording::writer::{RecordSink, SessionEnd, SessionFacts, SessionFile};
use crate::telemetry::chain;

/// What the proxy asks for: lines to be appended (their length and they follow), a flush, or nothing any more.
const APPEND: u8 = b'a';
const FLUSH: u8 = b'f';
const DONE: u8 = b'd';

/// Most lines at once; more than a record's queue holds.
const MAX_LINES: usize = 16 << 20;
/// How many of these the loader holds at once, over all sessions.
static BATCHES: Semaphore = Semaphore::const_new(4);
/// How long a disk, or the loader, may take before the record counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session's record, as the loader holds it.
pub(crate) struct Session {
    held: Arc<Held>,
    writers: TaskTracker,
}

struct Held {
    file: Mutex<SessionFile>,
    is_broken: AtomicBool,
}

impl Session {
    /// Opens its file.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn open(folder: &Path, facts: SessionFacts) -> Result<Self, RecordError> {
        let held = Held {
            file: Mutex::new(SessionFile::open(folder, facts)?),
            is_broken: AtomicBool::new(false),
        };
        Ok(Self {
            held: Arc::new(held),
            writers: TaskTracker::new(),
        })
    }

    /// What it is of.
    pub(crate) fn facts(&self) -> SessionFacts {
        lock(&self.held.file).facts().clone()
    }

    /// Whether the last line that came was written.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.held.is_broken.load(Ordering::Relaxed)
    }

    /// A socket that takes lines, for a proxy. Call it inside the runtime.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(crate) fn writer(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = tokio::net::UnixStream::from_std(ours)?;
        let held = Arc::clone(&self.held);
        self.writers.spawn(async move { serve(ours, held).await });
        Ok(theirs.into())
    }

    /// Ends it, once the proxy has handed over what it had.
    pub(crate) async fn end(self, why: &str) {
        self.writers.close();
        if timeout(PATIENCE, self.writers.wait()).await.is_err() {
            tracing::warn!("a record is ended although its proxy still has it");
        }
        let end = SessionEnd {
            exit_code: None,
            message: Some(why.to_owned()),
        };
        let held = self.held;
        let ended = spawn_blocking(move || lock(&held.file).end(end)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(error = %chain(&error), "the end of a session is not in the record");
        }
    }
}

/// Takes lines until the proxy is done, or is gone: then what it had not handed over is missing, and the record says so.
async fn serve(mut socket: tokio::net::UnixStream, held: Arc<Held>) {
    let served = take_lines(&mut socket, &held).await;
    if served.is_err() {
        let gap =
            spawn_blocking(move || lock(&held.file).gap("the proxy ended in the middle of this session"));
        if let Ok(Err(error)) = gap.await {
            tracing::warn!(error = %chain(&error), "a gap is not in the record");
        }
    }
}

async fn take_lines(socket: &mut tokio::net::UnixStream, held: &Arc<Held>) -> io::Result<()> {
    loop {
        let outcome = match socket.read_u8().await? {
            DONE => return Ok(()),
            FLUSH => on_disk(held, |file| file.flush()).await,
            APPEND => {
                let length = usize::try_from(socket.read_u32().await?).unwrap_or(usize::MAX);
                if length > MAX_LINES {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let _batch = BATCHES.acquire().await.map_err(io::Error::other)?;
                let mut lines = vec![0; length];
                timeout(PATIENCE, socket.read_exact(&mut lines)).await??;
                if lines.last() != Some(&b'\n') {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                on_disk(held, move |file| file.append(&lines)).await
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        held.is_broken.store(outcome.is_err(), Ordering::Relaxed);
        let code = outcome
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(EIO));
        socket.write_i32(code).await?;
    }
}

const EIO: i32 = nix::libc::EIO;

async fn on_disk(
    held: &Arc<Held>,
    act: impl FnOnce(&mut SessionFile) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let held = Arc::clone(held);
    spawn_blocking(move || act(&mut lock(&held.file)))
        .await
        .map_err(io::Error::other)?
}

fn lock(file: &Mutex<SessionFile>) -> MutexGuard<'_, SessionFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session's record, as the proxy writes it.
pub(super) struct RemoteFile {
    socket: UnixStream,
    name: PathBuf,
}

impl RemoteFile {
    pub(super) fn on(socket: OwnedFd, session: &str) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            name: PathBuf::from(session),
        })
    }

    fn outcome(&mut self) -> io::Result<()> {
        let mut code = [0; 4];
        self.socket.read_exact(&mut code)?;
        match i32::from_be_bytes(code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

impl RecordSink for RemoteFile {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = u32::try_from(lines.len())
            .ok()
            .filter(|_| lines.len() <= MAX_LINES);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let mut head = [APPEND; 5];
        head[1..].copy_from_slice(&length.to_be_bytes());
        self.socket.write_all(&head)?;
        self.socket.write_all(lines)?;
        self.outcome()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&[FLUSH])?;
        self.outcome()
    }

    fn path(&self) -> &Path {
        &self.name
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        // The loader is gone, or hears it.
        self.socket.write_all(&[DONE]).ok();
    }
}
