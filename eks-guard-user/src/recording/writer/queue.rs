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
}

impl Default for Queue {
    fn default() -> Self {
        Self::with_linger(LINGER)
    }
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
    /// Nothing more will come.
    pub(super) last: bool,
}

impl Queue {
    pub(super) fn with_linger(linger: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            linger,
        }
    }

    /// Takes an entry, or says why not; an entry that nobody waits for is then counted as lost.
    pub(super) fn push(&self, entry: Entry) -> Result<(), RecordError> {
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
        drop(state);
        if must_wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for entries and a little longer for company, for the end, or, when broken, for the time of the next attempt.
    pub(super) fn next(&self, retry_after: Duration) -> Batch {
        let mut state = self.lock();
        while state.entries.is_empty() && !state.closed && state.broken.is_none() {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state = if state.broken.is_some() {
            self.wait(state, retry_after, |state| !state.closed)
        } else {
            state.lingering = true;
            self.wait(state, self.linger, |state| !state.urgent && !state.closed)
        };
        state.lingering = false;
        state.urgent = false;
        state.bytes = 0;
        Batch {
            entries: state.entries.drain(..).collect(),
            lost: std::mem::take(&mut state.unreported),
            retry: state.broken.is_some(),
            last: state.closed,
        }
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
    fn count_lost(&mut self, events: u64) {
        self.lost += events;
        self.unreported += events;
    }
}
