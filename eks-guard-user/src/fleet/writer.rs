//! Writes the status of policies where it is another than it should be.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fleet::election::Election;
use crate::fleet::nodes::Nodes;
use crate::fleet::{AGENT_POLICIES, Policy, conditions};
use crate::proxy::upstream::{CallError, UpstreamPool};

/// The elected node's hand.
pub(super) struct Writer {
    upstream: Arc<UpstreamPool>,
    /// What was written upon which version of an object, by UID. Until the watch tells of the next version, that is what it says.
    written: HashMap<String, (String, Value)>,
}

impl Writer {
    pub(super) fn of(upstream: &Arc<UpstreamPool>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            written: HashMap::new(),
        }
    }

    /// Another may write by now.
    pub(super) fn forget(&mut self) {
        self.written.clear();
    }

    /// Writes as long as this node is elected. One that cannot be written is no reason to leave the others.
    pub(super) async fn write(
        &mut self,
        election: &Election,
        policies: &[Policy],
        nodes: &Nodes,
    ) -> Result<(), CallError> {
        let mut failed = None;
        self.written
            .retain(|uid, _| policies.iter().any(|policy| policy.uid == *uid));
        for policy in policies {
            let standing = nodes.standing(&policy.uid, policy.generation);
            let status = conditions::status(policy, &standing, Timestamp::now());
            if policy.status == status || self.is_written(policy, &status) {
                continue;
            }
            // What is under way when another may be elected is not waited for. Should it arrive all the same, it changes
            // only what nobody has changed since, and the other one sees and mends it.
            let Some(remaining) = election.remaining() else {
                break;
            };
            match timeout(remaining, self.put(policy, &status)).await {
                Ok(Ok(())) => {
                    let written = (policy.version.clone(), status);
                    self.written.insert(policy.uid.clone(), written);
                }
                // It has changed meanwhile, or is gone: the watch tells.
                Ok(Err(error)) if error.is(StatusCode::CONFLICT) || error.is(StatusCode::NOT_FOUND) => {}
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => break,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn is_written(&self, policy: &Policy, status: &Value) -> bool {
        let written = self.written.get(&policy.uid);
        written.is_some_and(|(version, written)| {
            *version == policy.version && is_same_but_for_times(written, status)
        })
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
