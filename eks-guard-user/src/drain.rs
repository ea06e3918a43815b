//! Orderly stop: tasks that belong to somebody, asked to finish first and dropped when the time is up.

use std::future::Future;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Parts of a dropped connection end as soon as they are woken.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// The tasks of one room. Clones share them; it is also the executor that hyper gets.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    drain: CancellationToken,
    kill: CancellationToken,
}

impl Tasks {
    /// Tasks that are asked to finish when `drain` is cancelled.
    #[must_use]
    pub fn new(drain: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            drain,
            kill: CancellationToken::new(),
        }
    }

    /// The request to finish: no new work, end what is under way.
    #[must_use]
    pub fn drain_token(&self) -> &CancellationToken {
        &self.drain
    }

    /// Runs a task that is dropped when draining has taken too long.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = task => {}
                () = kill.cancelled() => {}
            }
        });
    }

    /// Asks every task to finish, waits for at most `deadline`, then drops the rest.
    pub async fn finish(&self, deadline: Duration) {
        self.drain.cancel();
        self.tracker.close();
        if timeout(deadline, self.tracker.wait()).await.is_err() {
            self.kill.cancel();
            if timeout(KILL_DEADLINE, self.tracker.wait()).await.is_err() {
                tracing::warn!(tasks = self.tracker.len(), "tasks outlive their connections");
            }
        }
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    /// A part of a connection: it ends with the connection, which is the one that is dropped.
    fn execute(&self, task: F) {
        self.tracker.spawn(task);
    }
}
