//! When a credential is got again, and by how many.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use crate::upstream::refreshed::{Fetch, FetchFuture, Fetched, Refreshed};
use crate::upstream::token::bearer;
use crate::upstream::{Credential, CredentialError, CredentialSource};

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(1_800_000_000) };
}

fn clock() -> Timestamp {
    Timestamp::from_second(NOW.get()).unwrap()
}

fn pass(seconds: i64) {
    NOW.set(NOW.get() + seconds);
}

/// Gives `token-1`, `token-2`, … each for 100 s and due at 80 s; fails where told to; waits for the gate.
struct Plan {
    calls: AtomicUsize,
    failures: Mutex<VecDeque<usize>>,
    gate: Semaphore,
}

impl Plan {
    fn new(failures: &[usize]) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            failures: Mutex::new(failures.iter().copied().collect()),
            gate: Semaphore::new(1000),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Fetch for Arc<Plan> {
    fn fetch(&self, now: Timestamp) -> FetchFuture<'_> {
        Box::pin(async move {
            let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            self.gate.acquire().await.unwrap().forget();
            let mut failures = self.failures.lock().unwrap();
            if failures.front() == Some(&call) {
                failures.pop_front();
                return Err(CredentialError::new(format!("failure {call}")));
            }
            Ok(Fetched {
                credential: bearer(&format!("token-{call}")).unwrap(),
                refresh_at: Some(now + SignedDuration::from_secs(80)),
                expires_at: Some(now + SignedDuration::from_secs(100)),
            })
        })
    }
}

fn shown(outcome: Result<Credential, CredentialError>) -> String {
    match outcome {
        Ok(Credential::Bearer(value)) => value.to_str().unwrap().replace("Bearer ", ""),
        Ok(Credential::ClientCertificate(_)) => "certificate".to_owned(),
        Err(error) => error.message,
    }
}

#[tokio::test]
async fn is_kept_until_it_is_due() {
    let plan = Plan::new(&[]);
    let source = Refreshed::new(Arc::clone(&plan), clock);
    for (wait, expected) in [
        (0, "token-1"),
        (79, "token-1"),
        (1, "token-2"),
        (79, "token-2"),
        (500, "token-3"),
    ] {
        pass(wait);
        assert_eq!(shown(source.credential().await), expected);
    }
    assert_eq!(plan.calls(), 3);
}

#[tokio::test]
async fn a_refused_one_is_not_used_again() {
    let plan = Plan::new(&[2]);
    let source = Refreshed::new(Arc::clone(&plan), clock);
    assert_eq!(shown(source.credential().await), "token-1");
    // A 401 for what went out before this one says nothing about this one.
    source.invalidate();
    assert_eq!(shown(source.credential().await), "token-1");
    pass(2);
    source.invalidate();
    assert_eq!(
        shown(source.credential().await),
        "failure 2",
        "a refused credential must not come back"
    );
    pass(6);
    assert_eq!(shown(source.credential().await), "token-3");
}

#[tokio::test]
async fn a_failure_ahead_of_the_end_is_survived_and_not_repeated_at_once() {
    let plan = Plan::new(&[2, 3]);
    let source = Refreshed::new(Arc::clone(&plan), clock);
    for (wait, expected, calls) in [
        (0, "token-1", 1),
        (80, "token-1", 2),
        (1, "token-1", 2),
        (5, "token-1", 3),
        (14, "token-4", 4),
        (0, "token-4", 4),
    ] {
        pass(wait);
        assert_eq!(shown(source.credential().await), expected);
        assert_eq!(plan.calls(), calls);
    }
}

#[tokio::test]
async fn an_expired_one_is_never_used() {
    let plan = Plan::new(&[2, 3]);
    let source = Refreshed::new(Arc::clone(&plan), clock);
    assert_eq!(shown(source.credential().await), "token-1");
    pass(100);
    assert_eq!(shown(source.credential().await), "failure 2");
    assert_eq!(
        shown(source.credential().await),
        "failure 2",
        "the same answer, without another attempt"
    );
    assert_eq!(plan.calls(), 2);
}

#[tokio::test]
async fn many_callers_share_one_attempt() {
    let plan = Plan::new(&[]);
    plan.gate.forget_permits(1000);
    let source = Arc::new(Refreshed::new(Arc::clone(&plan), clock));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let source = Arc::clone(&source);
        tasks.spawn(async move { shown(source.credential().await) });
    }
    plan.gate.add_permits(1000);
    while let Some(outcome) = tasks.join_next().await {
        assert_eq!(outcome.unwrap(), "token-1");
    }
    assert_eq!(plan.calls(), 1);
}

#[tokio::test]
async fn nobody_waits_for_another_while_the_old_one_is_good() {
    let plan = Plan::new(&[]);
    let source = Arc::new(Refreshed::new(Arc::clone(&plan), clock));
    assert_eq!(shown(source.credential().await), "token-1");
    pass(85);
    plan.gate.forget_permits(1000);
    let first = Arc::clone(&source);
    let mut slow = Box::pin(async move { shown(first.credential().await) });
    assert!(futures_poll(&mut slow).await.is_none());
    assert_eq!(shown(source.credential().await), "token-1");
    // The one that fetched is given up: the next due caller fetches.
    drop(slow);
    plan.gate.add_permits(10);
    assert_eq!(shown(source.credential().await), "token-3");
}

/// One poll of a future.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_clock_set_back_does_not_lock_anybody_out() {
    let plan = Plan::new(&[1]);
    let source = Refreshed::new(Arc::clone(&plan), clock);
    assert_eq!(shown(source.credential().await), "failure 1");
    pass(-3600);
    assert_eq!(shown(source.credential().await), "token-2");
}

#[tokio::test]
async fn what_was_got_by_a_clock_that_was_ahead_is_got_again() {
    let plan = Plan::new(&[]);
    let source = Refreshed::new(Arc::clone(&plan), clock);
    pass(10 * 365 * 86_400);
    assert_eq!(shown(source.credential().await), "token-1");
    pass(-10 * 365 * 86_400);
    assert_eq!(shown(source.credential().await), "token-2");
    assert_eq!(shown(source.credential().await), "token-2");
}
