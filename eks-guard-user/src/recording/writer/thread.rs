//! The writer's thread: takes everything that waits, writes it at once, flushes once, tells everybody.

use std::io;
use std::time::Duration;

use eks_guard_core::record::{Event, Stage};

use crate::recording::RecordError;
use crate::recording::writer::event::{SessionFacts, line, own_event};
use crate::recording::writer::file::RecordSink;
use crate::recording::writer::queue::{Batch, Queue};

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Writes until the queue is closed and empty, nothing comes for a while, or the disk fails for good.
pub(super) fn run(file: &mut dyn RecordSink, queue: &Queue, facts: &SessionFacts) {
    let leaving = Leaving(queue);
    loop {
        let mut batch = queue.next(RETRY);
        let written = write(file, &batch, facts);
        let flushed = match (&written, batch.must_flush()) {
            (Ok(()), true) => file.flush().map_err(Failure::flush),
            (Ok(()), false) => Ok(()),
            (Err(_), _) => Ok(()),
        };
        match written.map_err(Failure::write).and(flushed) {
            Ok(()) => {
                queue.mend();
                batch.settle(&Ok(()));
            }
            Err(failure) => {
                let error = failure.error(file.path());
                queue.break_with(error.clone());
                queue.count_lost(batch.unawaited());
                queue.unreport(batch.lost);
                batch.settle(&Err(error));
                if failure.is_final {
                    return;
                }
            }
        }
        if batch.last {
            return;
        }
        if batch.idle && queue.let_go() {
            // Another one goes on where this one ends.
            std::mem::forget(leaving);
            return;
        }
    }
}

/// What went wrong, and whether it can get better.
struct Failure {
    source: io::Error,
    is_final: bool,
}

impl Failure {
    /// A write that found no room left nothing behind and can be tried again.
    fn write(source: io::Error) -> Self {
        let room = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        Self {
            source,
            is_final: !room,
        }
    }

    /// After a failed flush nobody knows what is on disk, and a second flush that succeeds would say nothing about it.
    fn flush(source: io::Error) -> Self {
        Self {
            source,
            is_final: true,
        }
    }

    fn error(&self, path: &std::path::Path) -> RecordError {
        let next = if self.is_final {
            "it stays closed until the run is started again"
        } else {
            "make room; it is tried again every second"
        };
        RecordError {
            message: format!("writing {} failed ({}): {next}", path.display(), self.source),
        }
    }
}

impl Batch {
    /// Whether somebody waits for the disk; at the end everything is flushed, and before the writer goes.
    fn must_flush(&self) -> bool {
        self.last
            || self.idle
            || self.retry
            || self.lost > 0
            || self.entries.iter().any(|entry| entry.done.is_some())
    }
}

fn write(file: &mut dyn RecordSink, batch: &Batch, facts: &SessionFacts) -> io::Result<()> {
    let size = batch.entries.iter().map(|entry| entry.line.len()).sum::<usize>();
    let mut lines = Vec::with_capacity(size + 512);
    for entry in &batch.entries {
        lines.extend_from_slice(&entry.line);
    }
    if batch.lost > 0 || batch.retry {
        let gap = Event {
            lost: Some(batch.lost),
            ..own_event(facts, Stage::Gap)
        };
        lines.extend(line(&gap).map_err(io::Error::other)?);
    }
    if lines.is_empty() {
        Ok(())
    } else {
        file.append(&lines)
    }
}

/// However the thread ends, by a panic too: nobody is left waiting, and nothing is taken any more.
struct Leaving<'a>(&'a Queue);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let error = self.0.fail_for_good();
        self.0.give_up(&error);
    }
}
