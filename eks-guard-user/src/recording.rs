//! The record: one JSON line per event, intents durable before a mutating request is forwarded.

pub mod sessions;
pub mod writer;

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;

use eks_guard_core::record::Event;

/// The record could not take an event.
#[derive(Clone, Debug, thiserror::Error)]
#[error("record not written: {message}")]
pub struct RecordError {
    /// What failed.
    pub message: String,
}

/// A boxed future of a durable write.
pub type RecordFuture<'a> = Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>>;

/// Where events go. Implemented by the disk writer; a fake stands in for it in tests.
pub trait Recorder: Send + Sync + 'static {
    /// Writes an event and returns once it is flushed to disk.
    fn durable(&self, event: Event) -> RecordFuture<'_>;

    /// Queues an event; a full queue or a broken writer is an error, and a gap event says later how many are missing.
    ///
    /// # Errors
    /// The queue is full or the writer has failed.
    fn append(&self, event: Event) -> Result<(), RecordError>;

    /// Whether events are being written; a broken record refuses mutating requests.
    fn healthy(&self) -> bool;
}

/// A point in time as it stands in events: RFC 3339 in UTC, with microseconds.
#[must_use]
pub fn event_time(at: Timestamp) -> String {
    format!("{at:.6}")
}
