//! What the cluster is told of this node: a condition, and a taint as long as the guard does not hold.
//!
//! The taint keeps new pods away. It does not evict: that would end ordinary pods for the sake of an agent whose other layers
//! still refuse what the lost one would.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::kubeapi::condition::{self, Condition};
use crate::node::status::Status;
use crate::proxy::upstream::{CallError, Patch, UpstreamPool};
use crate::telemetry::chain;

/// The condition's type.
const CONDITION: &str = "EksGuardEnforced";
/// The taint's key.
const TAINT: &str = "eks-guard.dev/not-enforced";
/// How often the cluster is told again, whatever it says then.
const AGAIN: Duration = Duration::from_secs(60);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Longest message of a condition.
const MAX_MESSAGE: usize = 1024;

/// Whether the guard holds on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False`, or `Unknown` while nothing has been tried.
    pub status: &'static str,
    /// In one word.
    pub reason: &'static str,
    /// What speaks against it.
    pub message: String,
}

impl Verdict {
    /// What a status comes to.
    #[must_use]
    pub fn of(status: &Status) -> Verdict {
        let agents = || status.pods.iter().filter(|pod| pod.agent.is_some());
        let mut failed = agents().flat_map(|pod| {
            let problems = pod.verified.iter().flat_map(|trial| &trial.problems);
            problems.map(|problem| format!("{}/{}: {problem}", pod.namespace, pod.name))
        });
        let (verdict, reason, message) = if !status.lost.is_empty() {
            let all: Vec<String> = status.lost.iter().cloned().chain(failed).collect();
            ("False", "LayerLost", all.join("; "))
        } else if !status.attached {
            ("Unknown", "Starting", "nothing has been looked at yet".to_owned())
        } else if let Some(first) = failed.next() {
            let all: Vec<String> = std::iter::once(first).chain(failed).collect();
            ("False", "RouteOpen", all.join("; "))
        } else if agents().any(|pod| pod.verified.is_none()) {
            (
                "Unknown",
                "NotTriedYet",
                "an agent has not been tried yet".to_owned(),
            )
        } else {
            ("True", "Verified", "every layer holds".to_owned())
        };
        Verdict {
            status: verdict,
            reason,
            message: message.chars().take(MAX_MESSAGE).collect(),
        }
    }
}

/// Who tells the cluster. Of the two that can try a node's agents at the same time, one owns what the node is told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The daemon, as soon as it tries its agents itself.
    Daemon,
    /// A command beside it, as long as the daemon does not.
    Command,
}

impl Owner {
    /// Whether a node with this status is this one's to tell of.
    pub(crate) fn tells(self, status: &Status) -> bool {
        match self {
            Self::Daemon => true,
            Self::Command => !status.watches,
        }
    }
}

/// Tells the cluster of a node.
pub(crate) struct Teller {
    /// The way to the API server.
    pub(crate) upstream: Arc<UpstreamPool>,
    /// Name of the Node object.
    pub(crate) node: String,
    /// On whose behalf.
    pub(crate) owner: Owner,
}

impl Teller {
    /// Tells what becomes of the node, until the status is not written any more.
    pub(crate) async fn tell(self, mut status: watch::Receiver<Status>) {
        let mut told: Option<Verdict> = None;
        loop {
            let verdict = {
                let status = status.borrow_and_update();
                self.owner.tells(&status).then(|| Verdict::of(&status))
            };
            if let Some(verdict) = verdict.filter(|verdict| told.as_ref() != Some(verdict)) {
                if let Err(error) = tell_once(&self.upstream, &self.node, &verdict).await {
                    tracing::warn!(
                        error = %chain(&error),
                        "the node's condition is not told; the guard must be allowed to get and patch nodes, and to patch nodes/status"
                    );
                    sleep(RETRY).await;
                    continue;
                }
                if told.as_ref().map(|told| told.status) != Some(verdict.status) {
                    tracing::info!(
                        status = verdict.status,
                        reason = verdict.reason,
                        message = verdict.message,
                        "{CONDITION}"
                    );
                }
                told = Some(verdict);
            }
            match timeout(AGAIN, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                // Somebody may have taken the taint away.
                Err(_) => told = None,
            }
        }
    }
}

async fn tell_once(upstream: &UpstreamPool, node: &str, verdict: &Verdict) -> Result<(), CallError> {
    let path = format!("/api/v1/nodes/{node}");
    let object = upstream.read(&path).await?;
    if let Some(taints) = taints(&object, verdict) {
        // The whole list is replaced, so it must be the one that was read.
        let version = &object["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        upstream.patch(&path, Patch::Merge, &patch).await?;
    }
    let condition = condition(&object, verdict, Timestamp::now());
    let patch = json!({"status": {"conditions": [condition]}});
    // Conditions are merged by their type; a merge patch would replace those of others.
    let path = format!("{path}/status");
    upstream.patch(&path, Patch::StrategicMerge, &patch).await?;
    Ok(())
}

fn condition(node: &Value, verdict: &Verdict, now: Timestamp) -> Value {
    let now = condition::time(now);
    let condition = Condition {
        kind: CONDITION,
        status: verdict.status,
        reason: verdict.reason,
        message: verdict.message.clone(),
    };
    let mut fields = condition.fields(&node["status"], &now);
    fields.insert("lastHeartbeatTime".to_owned(), json!(now));
    fields.into()
}

/// The node's taints as they should be; none when they are. What is not known yet changes nothing.
fn taints(node: &Value, verdict: &Verdict) -> Option<Value> {
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let is_ours = |taint: &Value| taint["key"] == TAINT;
    let has_ours = taints.iter().any(is_ours);
    match (verdict.status, has_ours) {
        ("False", false) => {
            let ours = json!({"key": TAINT, "value": verdict.reason, "effect": "NoSchedule"});
            Some(taints.into_iter().chain([ours]).collect())
        }
        ("True", true) => Some(taints.into_iter().filter(|taint| !is_ours(taint)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::canaries::Trial;
    use crate::node::status::PodStatus;

    fn status(verified: Option<&[&str]>) -> Status {
        let trial = |problems: &[&str]| Trial {
            time: Timestamp::UNIX_EPOCH,
            problems: problems.iter().map(ToString::to_string).collect(),
        };
        let agent = PodStatus {
            namespace: "shop".to_owned(),
            name: "bot".to_owned(),
            agent: Some("shop".to_owned()),
            verified: verified.map(trial),
            ..PodStatus::default()
        };
        Status {
            attached: true,
            pods: vec![agent, PodStatus::default()],
            ..Status::default()
        }
    }

    #[test]
    fn one_open_route_or_one_lost_layer_is_enough() {
        assert_eq!(Verdict::of(&status(None)).status, "Unknown");
        assert_eq!(Verdict::of(&status(Some(&[]))).status, "True");
        let open = Verdict::of(&status(Some(&["N01 reached"])));
        assert_eq!((open.status, open.reason), ("False", "RouteOpen"));
        assert_eq!(open.message, "shop/bot: N01 reached");
        let mut lost = status(Some(&[]));
        (lost.attached, lost.lost) = (false, vec!["program egress is detached".to_owned()]);
        let lost = Verdict::of(&lost);
        assert_eq!((lost.status, lost.reason), ("False", "LayerLost"));
        assert_eq!(lost.message, "program egress is detached");
        // A daemon that starts again taints no node.
        assert_eq!(Verdict::of(&Status::default()).status, "Unknown");
    }

    #[test]
    fn a_command_tells_nothing_while_the_daemon_does() {
        let mut status = status(Some(&[]));
        assert!(Owner::Command.tells(&status) && Owner::Daemon.tells(&status));
        status.watches = true;
        assert!(!Owner::Command.tells(&status) && Owner::Daemon.tells(&status));
    }

    #[test]
    fn the_taint_comes_and_goes_beside_those_of_others() {
        let other = json!({"key": "other", "effect": "NoExecute"});
        let verdict = |problems: &[&str]| Verdict::of(&status(Some(problems)));
        let node = json!({"spec": {"taints": [other]}});
        let tainted = taints(&node, &verdict(&["x"])).unwrap();
        assert_eq!(tainted.as_array().unwrap().len(), 2);
        assert_eq!(taints(&node, &verdict(&[])), None);
        let node = json!({"spec": {"taints": tainted}});
        assert_eq!(taints(&node, &verdict(&["y"])), None, "it is there already");
        assert_eq!(taints(&node, &Verdict::of(&status(None))), None, "not known");
        assert_eq!(taints(&node, &verdict(&[])), Some(json!([other])));
        assert_eq!(taints(&json!({}), &verdict(&["x"])).unwrap()[0]["key"], TAINT);
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let verdict = Verdict::of(&status(Some(&[])));
        let node = |was: &str| {
            json!({"status": {"conditions": [
                {"type": CONDITION, "status": was, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]}})
        };
        let since =
            |node: &Value| condition(node, &verdict, Timestamp::UNIX_EPOCH)["lastTransitionTime"].clone();
        assert_eq!(since(&node("True")), "2026-01-01T00:00:00Z");
        assert_eq!(since(&node("False")), "1970-01-01T00:00:00Z");
        assert_eq!(since(&json!({})), "1970-01-01T00:00:00Z");
    }
}
