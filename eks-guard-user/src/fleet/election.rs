//! Who writes: the holder of one Lease, by the rules of client-go's leader election. A Lease that nobody has changed for as
//! long as it lasts is free; whether it has been changed, each candidate sees by its own clock.
//!
//! So clocks need not agree, but run at rates of which none is [`LASTS`]/[`HOLDS`] times another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fleet::LEASES;
use crate::fleet::lease::{empty, micro_time, store};
use crate::proxy::upstream::{CallError, UpstreamPool};
use crate::telemetry::chain;

/// Name of the Lease.
const NAME: &str = "policy-status";
/// How long it lasts without being renewed.
const LASTS: Duration = Duration::from_secs(20);
/// When its holder stops, so that it has stopped before another begins.
const HOLDS: Duration = Duration::from_secs(12);

/// A candidate.
pub(super) struct Election {
    upstream: Arc<UpstreamPool>,
    /// A name that no other candidate has, not even the next daemon of the same node.
    identity: String,
    /// Whose Lease was seen last in which version, and since when.
    seen: Option<(String, Instant)>,
    held: Option<Held>,
}

struct Held {
    /// As the API server has it.
    lease: Value,
    /// When it was asked to renew it last.
    renewed: Instant,
}

impl Election {
    pub(super) fn of(upstream: &Arc<UpstreamPool>, node: &str) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            identity: format!("{node}_{}", Uuid::now_v7()),
            seen: None,
            held: None,
        }
    }

    /// Takes or renews the Lease if that may be. Whether this one is elected.
    pub(super) async fn stand(&mut self) -> Result<bool, CallError> {
        let asked = Instant::now();
        let was_elected = self.held.is_some();
        let lease = match &self.held {
            Some(held) => held.lease.clone(),
            None => match self.look().await? {
                Some(lease) if !self.is_free(&lease, asked) => return Ok(false),
                Some(lease) => lease,
                None => empty(NAME),
            },
        };
        match store(&self.upstream, &self.taken(lease)).await {
            Ok(lease) => {
                if !was_elected {
                    tracing::info!("this node writes the status of policies");
                }
                let renewed = asked;
                self.held = Some(Held { lease, renewed });
                Ok(true)
            }
            // Another was faster, or somebody has removed the Lease.
            Err(error)
                if error.is(StatusCode::CONFLICT) || (was_elected && error.is(StatusCode::NOT_FOUND)) =>
            {
                (self.held, self.seen) = (None, None);
                Ok(false)
            }
            // What is held is held for its time; whether the Lease was renewed shows the next time.
            Err(error) => Err(error),
        }
    }

    /// How long until another may be elected.
    pub(super) fn remaining(&self) -> Option<Duration> {
        HOLDS.checked_sub(self.held.as_ref()?.renewed.elapsed())
    }

    /// Gives the Lease back, so that another need not wait.
    pub(super) async fn give_up(&mut self) {
        let Some(Held { mut lease, .. }) = self.held.take() else {
            return;
        };
        lease["spec"]["holderIdentity"] = json!("");
        if let Err(error) = store(&self.upstream, &lease).await {
            tracing::warn!(error = %chain(&error), "the Lease of the election is not given back; it ends by itself");
        }
    }

    /// The Lease as the API server remembers it. That may be old: taking it then fails, as if another had been faster.
    async fn look(&self) -> Result<Option<Value>, CallError> {
        match self
            .upstream
            .read(&format!("{LEASES}/{NAME}?resourceVersion=0"))
            .await
        {
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
            read => read.map(Some),
        }
    }

    fn is_free(&mut self, lease: &Value, now: Instant) -> bool {
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if seen == version => now.duration_since(*since) > LASTS,
            Some(_) | None => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    fn taken(&self, mut lease: Value) -> Value {
        let now = micro_time();
        let spec = &lease["spec"];
        let is_mine = spec["holderIdentity"] == self.identity;
        let transitions = spec["leaseTransitions"].as_u64().unwrap_or_default();
        let (since, transitions) = if is_mine {
            (spec["acquireTime"].clone(), transitions)
        } else {
            (
                json!(now),
                transitions.saturating_add(1).min(i32::MAX.unsigned_abs().into()),
            )
        };
        lease["spec"] = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LASTS.as_secs(),
            "acquireTime": since,
            "renewTime": now,
            "leaseTransitions": transitions,
        });
        lease
    }
}
