//! One credential kept fresh: cached, got again ahead of its end, by one caller at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as AsyncMutex;

use crate::upstream::{Credential, CredentialError, CredentialFuture, CredentialSource};

/// After a failure nobody tries again for this long: a queue of requests must not become a queue of plugins.
const BACK_OFF: SignedDuration = SignedDuration::from_secs(5);
/// A credential younger than this is not thrown away by a 401: the reply belongs to the one before it.
const SETTLING: SignedDuration = SignedDuration::from_secs(1);

/// How long the credential of the start is used when the second look fails.
const STARTING: SignedDuration = SignedDuration::from_secs(120);

/// A credential and how long it is good for.
pub(super) struct Fetched {
    pub(super) credential: Credential,
    /// When to get the next one; `None`: not before the API server refuses this one.
    pub(super) refresh_at: Option<Timestamp>,
    /// From when on it must not be used.
    pub(super) expires_at: Option<Timestamp>,
}

/// A boxed future of a new credential.
pub(super) type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Fetched, CredentialError>> + Send + 'a>>;

/// Gets a new credential, however long that takes.
pub(super) trait Fetch: Send + Sync + 'static {
    /// Gets one; `now` is what its life is counted from.
    fn fetch(&self, now: Timestamp) -> FetchFuture<'_>;
}

/// A source that keeps what a [`Fetch`] gets for as long as it is good.
pub(super) struct Refreshed<F> {
    fetch: F,
    clock: fn() -> Timestamp,
    state: Mutex<State>,
    /// Held by the one caller that fetches.
    flight: AsyncMutex<()>,
}

#[derive(Default)]
struct State {
    cached: Option<Cached>,
    /// The last failure, until something is fetched.
    failed: Option<(Timestamp, CredentialError)>,
}

struct Cached {
    fetched: Fetched,
    since: Timestamp,
    /// Refused by the API server: not to be used any more.
    refused: bool,
}

impl<F: Fetch> Refreshed<F> {
    pub(super) fn new(fetch: F, clock: fn() -> Timestamp) -> Self {
        Self {
            fetch,
            clock,
            state: Mutex::default(),
            flight: AsyncMutex::default(),
        }
    }

    /// Starts with a credential that was read a moment ago; the first use looks again.
    pub(super) fn starting_with(fetch: F, clock: fn() -> Timestamp, credential: Credential) -> Self {
        let now = clock();
        let fetched = Fetched {
            credential,
            refresh_at: Some(now),
            expires_at: now.checked_add(STARTING).ok(),
        };
        let this = Self::new(fetch, clock);
        this.lock().cached = Some(Cached {
            fetched,
            since: now,
            refused: false,
        });
        this
    }

    async fn current(&self) -> Result<Credential, CredentialError> {
        if let Some(credential) = self.lock().fresh((self.clock)()) {
            return Ok(credential);
        }
        // Whoever does not get the lock uses what is still good, and waits only when nothing is.
        let flight = match self.flight.try_lock() {
            Ok(flight) => flight,
            Err(_) => {
                if let Some(credential) = self.lock().usable((self.clock)()) {
                    return Ok(credential);
                }
                self.flight.lock().await
            }
        };
        let credential = self.fetch_one().await;
        drop(flight);
        credential
    }

    /// Runs with the flight lock held.
    async fn fetch_one(&self) -> Result<Credential, CredentialError> {
        let now = (self.clock)();
        {
            let state = self.lock();
            if let Some(credential) = state.fresh(now) {
                return Ok(credential);
            }
            if let Some(error) = state.recent_failure(now) {
                return state.usable(now).ok_or(error);
            }
        }
        let outcome = self.fetch.fetch(now).await;
        let now = (self.clock)();
        let mut state = self.lock();
        match outcome {
            Ok(fetched) => Ok(state.keep(fetched, now)),
            Err(error) => {
                state.failed = Some((now, error.clone()));
                let old = state.usable(now);
                // Without an old one the caller gets the error, and says it.
                if old.is_some() {
                    tracing::warn!(%error, "no new upstream credential; the old one is used until it ends");
                }
                old.ok_or(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Fetch> CredentialSource for Refreshed<F> {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(self.current())
    }

    fn invalidate(&self) {
        let now = (self.clock)();
        if let Some(cached) = &mut self.lock().cached
            && now.duration_since(cached.since).abs() >= SETTLING
        {
            cached.refused = true;
        }
    }
}

impl State {
    /// The cached credential, when there is no need to look for another.
    fn fresh(&self, now: Timestamp) -> Option<Credential> {
        let cached = self.cached.as_ref()?;
        // What was got by a clock that has been set back since would be fresh until then.
        let due =
            cached.refused || now < cached.since || cached.fetched.refresh_at.is_some_and(|at| now >= at);
        (!due).then(|| cached.fetched.credential.clone())
    }

    /// The cached credential, when it still works although another is due.
    fn usable(&self, now: Timestamp) -> Option<Credential> {
        let cached = self.cached.as_ref()?;
        let over = cached.refused || cached.fetched.expires_at.is_some_and(|at| now >= at);
        (!over).then(|| cached.fetched.credential.clone())
    }

    fn recent_failure(&self, now: Timestamp) -> Option<CredentialError> {
        let (at, error) = self.failed.as_ref()?;
        (now.duration_since(*at).abs() < BACK_OFF).then(|| error.clone())
    }

    fn keep(&mut self, mut fetched: Fetched, now: Timestamp) -> Credential {
        self.failed = None;
        // The same certificate again must be the same value: a changed one means new connections.
        if let Some(cached) = &self.cached
            && let Credential::ClientCertificate(old) = &cached.fetched.credential
            && let Credential::ClientCertificate(new) = &fetched.credential
            && old.chain() == new.chain()
        {
            fetched.credential = Credential::ClientCertificate(Arc::clone(old));
        }
        let credential = fetched.credential.clone();
        self.cached = Some(Cached {
            fetched,
            since: now,
            refused: false,
        });
        credential
    }
}

#[cfg(test)]
mod tests;
