//! Writes the status of policies where it is another than it should be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fleet::nodes::Nodes;
use crate::fleet::{AGENT_POLICIES, FleetError, Policy, conditions};
use crate::proxy::upstream::{CallError, UpstreamPool};

/// How long a watch may take to tell of a change. Beyond that, whoever writes does not know what it writes about.
pub(super) const WATCH: Duration = Duration::from_secs(15);

/// The elected node's hand.
pub(super) struct Writer {
    upstream: Arc<UpstreamPool>,
    /// What became of the last write upon a version of an object, by UID. It holds until the watch tells of the next version.
    last: HashMap<String, Write>,
}

struct Write {
    version: String,
    outcome: Outcome,
}

pub(super) enum Outcome {
    /// The object says this.
    Written(Value),
    /// Since then it is known that the version is an old one.
    Refused(Instant),
}

impl Writer {
    pub(super) fn of(upstream: &Arc<UpstreamPool>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            last: HashMap::new(),
        }
    }

    /// Another may write by now.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    /// Writes as long as time remains at a moment. One that cannot be written is no reason to leave the others.
    pub(super) async fn write(
        &mut self,
        remaining: impl Fn(Instant) -> Option<Duration>,
        policies: &[Policy],
        nodes: &Nodes,
    ) -> Result<(), FleetError> {
        let mut failed = None;
        self.last
            .retain(|uid, _| policies.iter().any(|policy| policy.uid == *uid));
        let mut tried = 0;
        for policy in policies {
            let now = Instant::now();
            let standing = nodes.standing(&policy.uid, policy.generation, now);
            let status = conditions::status(policy, &standing, Timestamp::now());
            if policy.status == status || self.is_written(policy, &status) {
                continue;
            }
            // What is under way when another may be elected is not waited for. Should it arrive all the same, it changes
            // only what nobody has changed since, and the other one sees and mends it.
            let answer = match remaining(now) {
                Some(remaining) => timeout(remaining, self.put(policy, &status)).await.ok(),
                None => None,
            };
            let outcome = match answer {
                None if tried == 0 => return Err(FleetError::Late),
                // The next round goes on from here.
                None => break,
                Some(Ok(())) => Ok(Outcome::Written(status)),
                Some(Err(error)) if error.is(StatusCode::CONFLICT) => self.refused(policy, now),
                // It is gone: the watch tells.
                Some(Err(error)) if error.is(StatusCode::NOT_FOUND) => continue,
                Some(Err(error)) => Err(error.into()),
            };
            tried += 1;
            match outcome {
                Ok(outcome) => {
                    let version = policy.version.clone();
                    self.last.insert(policy.uid.clone(), Write { version, outcome });
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The object has changed meanwhile. The watch tells, unless it does not: then another node may know more.
    pub(super) fn refused(&self, policy: &Policy, now: Instant) -> Result<Outcome, FleetError> {
        let since = match self.last(policy) {
            Some(Outcome::Refused(since)) => *since,
            Some(Outcome::Written(_)) | None => now,
        };
        if now.duration_since(since) > WATCH {
            return Err(FleetError::Behind(policy.name.clone()));
        }
        Ok(Outcome::Refused(since))
    }

    fn is_written(&self, policy: &Policy, status: &Value) -> bool {
        match self.last(policy) {
            Some(Outcome::Written(written)) => is_same_but_for_times(written, status),
            Some(Outcome::Refused(_)) | None => false,
        }
    }

    /// What became of the last write upon the version that is known.
    fn last(&self, policy: &Policy) -> Option<&Outcome> {
        let last = self.last.get(&policy.uid)?;
        (last.version == policy.version).then_some(&last.outcome)
    }

    async fn put(&self, policy: &Policy, status: &Value) -> Result<(), CallError> {
        let (kind, version) = (eks_guard_core::policy::KIND, eks_guard_core::policy::API_VERSION);
        let object = json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": policy.name, "uid": policy.uid, "resourceVersion": policy.version},
            "status": status,
        });
        let path = format!("{AGENT_POLICIES}/{}/status", policy.name);
        self.upstream.replace(&path, &object).await?;
        Ok(())
    }
}

/// Times of what was just written are those of a moment ago.
fn is_same_but_for_times(one: &Value, other: &Value) -> bool {
    let timeless = |status: &Value| {
        let mut status = status.clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = Value::Null;
        }
        status
    };
    timeless(one) == timeless(other)
}
