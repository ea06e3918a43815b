//! The disk writer: one file per session, one thread that writes, many requests that share one flush.

mod event;
mod file;
mod queue;
mod session;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use eks_guard_core::record::{Event, SessionState};
use tokio::sync::oneshot;

use crate::recording::writer::event::{line, session_event};
use crate::recording::writer::queue::{Entry, Queue};
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
#[derive(Debug)]
pub struct DiskRecorder {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    facts: SessionFacts,
    path: PathBuf,
}

impl DiskRecorder {
    /// Makes the folder (mode 0700) and the session's file (mode 0600), and writes the event that starts the session.
    ///
    /// # Errors
    /// The session's name cannot name a file, or the disk refuses any of these steps.
    pub fn open(folder: &Path, facts: SessionFacts) -> Result<Self, RecordError> {
        let file = SessionFile::open(folder, facts.clone())?;
        Self::on(Box::new(file), facts)
    }

    /// The record of a session that has been started already, on whatever takes its lines.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn on(mut file: Box<dyn RecordSink>, facts: SessionFacts) -> Result<Self, RecordError> {
        let path = file.path().to_owned();
        let queue = Arc::new(Queue::default());
        let (writer_queue, writer_facts) = (Arc::clone(&queue), facts.clone());
        let thread = std::thread::Builder::new()
            .name("record-writer".to_owned())
            .spawn(move || thread::run(file.as_mut(), &writer_queue, &writer_facts))
            .map_err(|error| RecordError {
                message: format!("the writer cannot be started: {error}"),
            })?;
        Ok(Self {
            queue,
            thread: Some(thread),
            facts,
            path,
        })
    }

    /// Id of the session.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.facts.session
    }

    /// The session's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many events were lost so far because the queue was full or the disk refused.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Writes the event that ends the session, after everything queued before it.
    ///
    /// # Errors
    /// As for any durable event.
    pub async fn end(&self, end: SessionEnd) -> Result<(), RecordError> {
        let mut event = session_event(&self.facts, SessionState::Ended);
        event.exit_code = end.exit_code;
        event.message = end.message;
        self.durable(event).await
    }
}

impl Recorder for DiskRecorder {
    fn durable(&self, event: Event) -> RecordFuture<'_> {
        Box::pin(async move {
            let (done_tx, done_rx) = oneshot::channel();
            self.queue.push(Entry {
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
        let line = line(&event).inspect_err(|_| self.queue.count_lost(1))?;
        self.queue.push(Entry { line, done: None })
    }

    fn healthy(&self) -> bool {
        self.queue.healthy()
    }
}

impl Drop for DiskRecorder {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the record's writer panicked");
        }
    }
}

#[cfg(test)]
mod tests;
