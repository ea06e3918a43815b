//! The bounded queue between the requests and the writer's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::recording::RecordError;

/// The most bytes that wait to be written; a few thousand events.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How long events that nobody waits for stay for company, so that not every request wakes the writer's thread.
const LINGER: Duration = Duration::from_millis(10);
/// How long a writer waits for more before it goes. An agent that does nothing costs no thread, and one that works keeps it.
const IDLE: Duration = Duration::from_secs(10);

/// A line on its way to the disk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: Vec<u8>,
    /// Told when the line is on disk, or why it is not.
    pub(super) done: Option<oneshot::Sender<Result<(), RecordError>>>,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    linger: Duration,
    idle: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self::with_waits(LINGER, IDLE)
    }
}

/// Whether somebody takes what was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// One is there.
    Present,
    /// None is: whoever is told so has to start the next one, or call [`Queue::give_up`].
    Missing,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Something waits that must not wait for company.
    urgent: bool,
    /// The writer is awake soon by itself: only what is urgent wakes it.
    lingering: bool,
    /// Lost since the last gap event.
    unreported: u64,
    lost: u64,
    closed: bool,
    /// A writer is there, or about to be.
    has_writer: bool,
    /// Why nothing is taken at present.
    broken: Option<RecordError>,
}

/// What the writer is to do next.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Events lost since the last gap event.
    pub(super) lost: u64,
    /// The last attempt failed: something must be written to know whether the disk takes it again.
    pub(super) retry: bool,
    /// Nothing has come for a while.
    pub(super) idle: bool,
    /// Nothing more will come.
    pub(super) last: bool,
}

impl Batch {
    /// How many entries nobody waits for.
    pub(super) fn unawaited(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.done.is_none()).count() as u64
    }

    /// Tells everybody who waits what became of it.
    pub(super) fn settle(&mut self, outcome: &Result<(), RecordError>) {
        for done in self.entries.drain(..).filter_map(|entry| entry.done) {
            // Nobody waits any more when the request was given up.
            drop(done.send(outcome.clone()));
        }
    }
}

impl Queue {
    pub(super) fn with_waits(linger: Duration, idle: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            linger,
            idle,
        }
    }

    /// Takes an entry, or says why not; an entry that nobody waits for is then counted as lost.
    pub(super) fn push(&self, entry: Entry) -> Result<Writer, RecordError> {
        let mut state = self.lock();
        let refusal = if state.closed {
            Some(RecordError {
                message: "the record is closed".to_owned(),
            })
        } else if let Some(error) = &state.broken {
            Some(error.clone())
        } else if state.bytes + entry.line.len() > MAX_BYTES {
            Some(RecordError {
                message: "the queue is full: the disk is slower than the requests".to_owned(),
            })
        } else {
            None
        };
        if let Some(error) = refusal {
            // Whoever waits is told and refuses the request; only what nobody waits for is missing in the record.
            if entry.done.is_none() {
                state.count_lost(1);
            }
            return Err(error);
        }
        state.bytes += entry.line.len();
        state.urgent |= entry.done.is_some() || state.bytes > MAX_BYTES / 2;
        state.entries.push_back(entry);
        let must_wake = state.urgent || !state.lingering;
        let had_writer = std::mem::replace(&mut state.has_writer, true);
        drop(state);
        if !had_writer {
            return Ok(Writer::Missing);
        }
        if must_wake {
            self.wake.notify_one();
        }
        Ok(Writer::Present)
    }

    /// Waits for entries and a little longer for company, for the end, or, when broken, for the time of the next attempt.
    /// An idle batch comes when nothing else has for a while.
    pub(super) fn next(&self, retry_after: Duration) -> Batch {
        let mut state = self.wait(self.lock(), self.idle, State::is_idle);
        if state.is_idle() {
            return state.take();
        }
        state = if state.broken.is_some() {
            self.wait(state, retry_after, |state| !state.closed)
        } else {
            state.lingering = true;
            self.wait(state, self.linger, |state| !state.urgent && !state.closed)
        };
        state.lingering = false;
        state.urgent = false;
        state.take()
    }

    /// Whether the writer may go: nothing has come. The next entry asks for another one.
    pub(super) fn let_go(&self) -> bool {
        let mut state = self.lock();
        let may_go = state.is_idle();
        state.has_writer = !may_go;
        may_go
    }

    /// No writer could be started: what waits for one is refused, and the next entry asks for one again.
    pub(super) fn give_up(&self, error: &RecordError) {
        let mut state = self.lock();
        state.has_writer = false;
        let mut batch = state.take();
        state.unreported += batch.lost;
        state.count_lost(batch.unawaited());
        drop(state);
        batch.settle(&Err(error.clone()));
    }

    /// From now on nothing is taken.
    pub(super) fn break_with(&self, error: RecordError) {
        self.lock().broken = Some(error);
    }

    /// Nothing will ever be taken again; returns why.
    pub(super) fn fail_for_good(&self) -> RecordError {
        let ended = || RecordError {
            message: "the writer has ended".to_owned(),
        };
        self.lock().broken.get_or_insert_with(ended).clone()
    }

    /// Everything is taken again.
    pub(super) fn mend(&self) {
        self.lock().broken = None;
    }

    pub(super) fn healthy(&self) -> bool {
        let state = self.lock();
        state.broken.is_none() && !state.closed
    }

    pub(super) fn count_lost(&self, events: u64) {
        self.lock().count_lost(events);
    }

    /// Puts back a loss that could not be reported.
    pub(super) fn unreport(&self, events: u64) {
        self.lock().unreported += events;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Whether the writer waits for company.
    #[cfg(test)]
    pub(super) fn is_lingering(&self) -> bool {
        self.lock().lingering
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        at_most: Duration,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self
            .wake
            .wait_timeout_while(state, at_most, |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Nothing is there to be done.
    fn is_idle(&self) -> bool {
        self.entries.is_empty() && !self.closed && self.broken.is_none()
    }

    fn take(&mut self) -> Batch {
        self.bytes = 0;
        Batch {
            idle: self.is_idle(),
            entries: std::mem::take(&mut self.entries).into(),
            lost: std::mem::take(&mut self.unreported),
            retry: self.broken.is_some(),
            last: self.closed,
        }
    }

    fn count_lost(&mut self, events: u64) {
        self.lost += events;
        self.unreported += events;
    }
}
