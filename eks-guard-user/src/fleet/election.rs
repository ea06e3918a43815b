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
use crate::fleet::lease::{empty, find, micro_time, store};
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
        let was_elected = self.held.is_some();
        let lease = match &self.held {
            Some(held) => held.lease.clone(),
            // As the API server remembers it. That may be old: taking it then fails, as if another had been faster.
            None => match find(&self.upstream, &format!("{LEASES}/{NAME}?resourceVersion=0")).await? {
                Some(lease) if !self.is_free(&lease, Instant::now()) => return Ok(false),
                Some(lease) => lease,
                None => empty(NAME),
            },
        };
        let asked = Instant::now();
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

    /// How long it is from now until another may be elected; none: this one is not, or not any more.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        HOLDS.checked_sub(now.duration_since(self.held.as_ref()?.renewed))
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

    /// Whether a Lease that was read by now is nobody's any more.
    fn is_free(&mut self, lease: &Value, now: Instant) -> bool {
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if seen == version => now.duration_since(*since) > LASTS,
            Some(_) | None => {
                self.seen = Some((version.to_owned(), now));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, FakeApiServer, Protocol, json as reply, status};

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(holder: &str, version: &str) -> Value {
        json!({
            "metadata": {"name": NAME, "resourceVersion": version},
            "spec": {"holderIdentity": holder},
        })
    }

    /// A candidate that asks nobody.
    async fn candidate() -> Election {
        let api = FakeApiServer::start(Protocol::H2, |_| Answer::Never).await;
        Election::of(&api.upstream(), "a")
    }

    #[tokio::test]
    async fn a_lease_is_free_when_its_holder_has_not_renewed_it_for_as_long_as_it_lasts() {
        let mut candidate = candidate().await;
        let begin = Instant::now();
        let mine = candidate.identity.clone();
        for free in [lease("", "1"), lease(&mine, "1"), json!({})] {
            assert!(candidate.is_free(&free, begin), "{free}");
        }
        let mut at = |version: &str, time: Instant| candidate.is_free(&lease("b_1", version), time);
        assert!(!at("1", begin), "it is seen for the first time");
        assert!(!at("1", begin + LASTS));
        let renewed = begin + LASTS + SECOND;
        assert!(!at("2", renewed), "it was renewed");
        assert!(!at("2", renewed + LASTS));
        assert!(at("2", renewed + LASTS + SECOND));
    }

    #[tokio::test]
    async fn a_holder_stops_before_another_begins() {
        const { assert!(HOLDS.as_secs() < LASTS.as_secs()) };
        let mut holder = candidate().await;
        let renewed = Instant::now();
        assert_eq!(holder.remaining(renewed), None);
        let lease = lease(&holder.identity, "1");
        holder.held = Some(Held { lease, renewed });
        assert_eq!(holder.remaining(renewed), Some(HOLDS));
        assert_eq!(holder.remaining(renewed + HOLDS - SECOND), Some(SECOND));
        assert_eq!(holder.remaining(renewed + HOLDS + SECOND), None);
    }

    #[tokio::test]
    async fn what_is_held_is_renewed_and_given_back() {
        let api = FakeApiServer::start(Protocol::H2, |request| match request.method.as_str() {
            "GET" => status(404, "application/json", "{}"),
            _ => reply(&String::from_utf8_lossy(&request.body).replace(
                r#""name":"policy-status""#,
                r#""name":"policy-status","resourceVersion":"7""#,
            )),
        })
        .await;
        let mut holder = Election::of(&api.upstream(), "a");
        assert!(holder.stand().await.unwrap() && holder.stand().await.unwrap());
        holder.give_up().await;
        assert_eq!(holder.remaining(Instant::now()), None);
        let arrived = api.arrived();
        let methods: Vec<&str> = arrived.iter().map(|request| request.method.as_str()).collect();
        assert_eq!(methods, ["GET", "POST", "PUT", "PUT"]);
        let last: Value = serde_json::from_slice(&arrived[3].body).unwrap();
        assert_eq!(last["spec"]["holderIdentity"], "");
    }

    #[tokio::test]
    async fn whoever_is_slower_is_not_elected_and_what_is_no_lease_is_an_error() {
        for (answer, code) in [("{}", 409), ("[]", 200)] {
            let api = FakeApiServer::start(Protocol::H2, move |request| {
                let is_read = request.method == http::Method::GET && code == 409;
                status(if is_read { 404 } else { code }, "application/json", answer)
            })
            .await;
            let mut candidate = Election::of(&api.upstream(), "a");
            let elected = candidate.stand().await;
            assert!(!elected.unwrap_or_default() && candidate.held.is_none(), "{code}");
        }
    }
}
