//! Stand-ins for the kernel, the record, the credential and the API server, so that the whole proxy runs in one process.

mod api_server;
mod client;
#[cfg(test)]
mod pool;

pub use api_server::{Answer, Arrived, FakeApiServer, FakeBody, json, status};
pub use client::{Client, Protocol};

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eks_guard_core::record::{Event, Stage};
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ebpf::original_dst::{Downstream, Flow, FlowTable, OriginalDstAddr};
use crate::recording::{RecordError, RecordFuture, Recorder};
use crate::upstream::{Credential, CredentialFuture, CredentialSource};

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen, and says so when it does not.
///
/// # Panics
/// It did not happen in time.
pub async fn eventually<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen in time: {what}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A flow table that knows every connection or none.
#[derive(Debug)]
pub struct FakeFlows {
    knows: AtomicBool,
}

impl FakeFlows {
    /// Every connection was redirected by the kernel.
    #[must_use]
    pub fn always() -> Self {
        Self {
            knows: AtomicBool::new(true),
        }
    }

    /// From here on no connection was.
    pub fn forget(&self) {
        self.knows.store(false, Ordering::SeqCst);
    }
}

impl FlowTable for FakeFlows {
    fn take(&self, _downstream: Downstream) -> Option<Flow> {
        self.knows.load(Ordering::SeqCst).then(|| Flow {
            original_dst: OriginalDstAddr(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 443)),
            cgroup: 1,
            pid: process::id(),
        })
    }
}

/// A record in memory that can be told to fail.
#[derive(Debug)]
pub struct MemoryRecorder {
    events: watch::Sender<Vec<Event>>,
    is_broken: AtomicBool,
}

impl Default for MemoryRecorder {
    fn default() -> Self {
        Self {
            events: watch::channel(Vec::new()).0,
            is_broken: AtomicBool::new(false),
        }
    }
}

impl MemoryRecorder {
    /// From here on nothing is written.
    pub fn break_down(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
    }

    /// What was written so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits until this many events of a stage are there, and returns them.
    pub async fn wait_for(&self, stage: Stage, count: usize) -> Vec<Event> {
        let of_stage = |events: &[Event]| -> Vec<Event> {
            events
                .iter()
                .filter(|event| event.stage == stage)
                .cloned()
                .collect()
        };
        let mut changes = self.events.subscribe();
        let what = format!("{count} events of stage {stage:?}");
        let waited = eventually(&what, changes.wait_for(|events| of_stage(events).len() >= count)).await;
        waited.map(|events| of_stage(&events)).unwrap_or_default()
    }

    fn write(&self, event: Event) -> Result<(), RecordError> {
        if !self.healthy() {
            return Err(RecordError {
                message: "told to fail".to_owned(),
            });
        }
        self.events.send_modify(|events| events.push(event));
        Ok(())
    }
}

impl Recorder for MemoryRecorder {
    fn durable(&self, event: Event) -> RecordFuture<'_> {
        Box::pin(async move { self.write(event) })
    }

    fn append(&self, event: Event) -> Result<(), RecordError> {
        self.write(event)
    }

    fn healthy(&self) -> bool {
        !self.is_broken.load(Ordering::SeqCst)
    }
}

/// A credential that counts how often it was renewed: the token is `guard-token-N`.
#[derive(Debug, Default)]
pub struct FakeCredentials {
    renewals: AtomicUsize,
}

impl FakeCredentials {
    /// How often the credential was renewed.
    #[must_use]
    pub fn renewals(&self) -> usize {
        self.renewals.load(Ordering::SeqCst)
    }
}

impl CredentialSource for FakeCredentials {
    fn credential(&self) -> CredentialFuture<'_> {
        let token = format!("Bearer guard-token-{}", self.renewals());
        Box::pin(async move {
            let mut value = HeaderValue::from_str(&token).expect("the token is ASCII");
            value.set_sensitive(true);
            Ok(Credential::Bearer(value))
        })
    }

    fn invalidate(&self) {
        self.renewals.fetch_add(1, Ordering::SeqCst);
    }
}
