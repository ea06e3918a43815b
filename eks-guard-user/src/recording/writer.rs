//! The disk writer: one file per session, one thread that writes while there is something to write, many requests that share
//! one flush.

mod event;
mod file;
mod queue;
mod session;
mod thread;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use eks_guard_core::record::{Event, SessionState};
use tokio::sync::oneshot;

use crate::recording::writer::event::{line, session_event};
use crate::recording::writer::queue::{Entry, Queue, Writer};
use crate::recording::{RecordError, RecordFuture, Recorder};

pub(super) use crate::recording::writer::event::MAX_LINE;
pub use crate::recording::writer::event::SessionFacts;
pub use crate::recording::writer::file::RecordSink;
pub(super) use crate::recording::writer::file::{EXTENSION, is_session_name};
pub use crate::recording::writer::session::SessionFile;

/// Where records stand when nothing else is said.
pub const DEFAULT_FOLDER: &str = "/var/lib/eks-guard/records";
/// How long a durable event waits for the disk; a request is refused rather than left hanging.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a session ended.
#[derive(Clone, Debug, Default)]
pub struct SessionEnd {
    /// Exit code of the command, as a shell would see it; `None` when it never started.
    pub exit_code: Option<i32>,
    /// What there is to say beyond the code.
    pub message: Option<String>,
}

/// Writes the record of one session.
///
/// An event handed to [`Recorder::durable`] is on disk when the future completes; all that wait share one flush.
/// A failed write leaves whole lines only. A full disk is tried again every second, and mutating requests are refused
/// until it has room; any other failure is final. Dropped, it writes what is queued and closes the file.
pub struct DiskRecorder {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
}

/// What a writer works with.
struct Desk {
    queue: Queue,
    facts: SessionFacts,
    /// Held by the writer's thread, as long as there is one.
    file: Mutex<Box<dyn RecordSink>>,
}

impl DiskRecorder {
    /// Makes the folder (mode 0700) and the session's file (mode 0600), and writes the event that starts the session.
    ///
    /// # Errors
    /// The session's name cannot name a file, or the disk refuses any of these steps.
    pub fn open(folder: &Path, facts: SessionFacts) -> Result<Self, RecordError> {
        let file = SessionFile::open(folder, facts.clone())?;
        Ok(Self::on(Box::new(file), facts))
    }

    /// The record of a session that has been started already, on whatever takes its lines.
    #[must_use]
    pub fn on(file: Box<dyn RecordSink>, facts: SessionFacts) -> Self {
        Self::queued(file, facts, Queue::default())
    }

    fn queued(file: Box<dyn RecordSink>, facts: SessionFacts, queue: Queue) -> Self {
        Self {
            path: file.path().to_owned(),
            thread: Mutex::default(),
            desk: Arc::new(Desk {
                queue,
                facts,
                file: Mutex::new(file),
            }),
        }
    }

    /// Queues an entry, and starts the writer when there is none.
    fn push(&self, entry: Entry) -> Result<(), RecordError> {
        match self.desk.queue.push(entry)? {
            Writer::Present => Ok(()),
            Writer::Missing => self.start_writer().map_err(|error| {
                let error = RecordError {
                    message: format!("the writer cannot be started: {error}"),
                };
                self.desk.queue.give_up(&error);
                error
            }),
        }
    }

    fn start_writer(&self) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        // The one before has let go already.
        join(thread.take());
        let desk = Arc::clone(&self.desk);
        let started = Builder::new()
            .name("record-writer".to_owned())
            .spawn(move || thread::run(lock(&desk.file).as_mut(), &desk.queue, &desk.facts))?;
        *thread = Some(started);
        Ok(())
    }

    /// Id of the session.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.desk.facts.session
    }

    /// The session's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many events were lost so far because the queue was full or the disk refused.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.desk.queue.lost()
    }

    /// Writes the event that ends the session, after everything queued before it.
    ///
    /// # Errors
    /// As for any durable event.
    pub async fn end(&self, end: SessionEnd) -> Result<(), RecordError> {
        let mut event = session_event(&self.desk.facts, SessionState::Ended);
        event.exit_code = end.exit_code;
        event.message = end.message;
        self.durable(event).await
    }
}

impl Recorder for DiskRecorder {
    fn durable(&self, event: Event) -> RecordFuture<'_> {
        Box::pin(async move {
            let (done_tx, done_rx) = oneshot::channel();
            self.push(Entry {
                line: line(&event)?,
                done: Some(done_tx),
            })?;
            match tokio::time::timeout(PATIENCE, done_rx).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(RecordError {
                    message: "the writer has ended".to_owned(),
                }),
                Err(_) => Err(RecordError {
                    message: "the disk does not answer".to_owned(),
                }),
            }
        })
    }

    fn append(&self, event: Event) -> Result<(), RecordError> {
        let line = line(&event).inspect_err(|_| self.desk.queue.count_lost(1))?;
        self.push(Entry { line, done: None })
    }

    fn healthy(&self) -> bool {
        self.desk.queue.healthy()
    }
}

impl Drop for DiskRecorder {
    fn drop(&mut self) {
        self.desk.queue.close();
        join(lock(&self.thread).take());
    }
}

impl fmt::Debug for DiskRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskRecorder")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the record's writer panicked");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
