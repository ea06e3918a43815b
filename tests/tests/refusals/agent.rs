//! A guarded agent with a raw client, for requests that no tool sends in this form.

use anyhow::{Context, Result, ensure};
use rig::audit::Mark;
use rig::cluster::Cluster;
use rig::guarded::Guarded;
use rig::http::Reply;
use rig::probe::http1::{self, Head};
use rig::probe::{H1, Probe};

/// Media types of objects and patches.
pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const OPERATIONS: &str = "application/json-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// One agent, in a namespace of its own.
pub(crate) struct Agent<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) guarded: Guarded<'a>,
    probe: Probe,
}

impl<'a> Agent<'a> {
    pub(crate) fn start(cluster: &'a Cluster, namespace: &str, policy: &str) -> Result<Self> {
        cluster.create_namespace(namespace)?;
        let guarded = Guarded::new(cluster, namespace, policy)?;
        let probe = Probe::start(&guarded, cluster.server())?;
        Ok(Self {
            cluster,
            guarded,
            probe,
        })
    }

    /// Sends a request on a connection of its own; a GET or DELETE has no body.
    pub(crate) fn send(&self, line: &str, content_type: &str, body: &str) -> Result<Reply> {
        let mut wire = self.probe.connect(H1)?;
        let headers = [("Content-Type", content_type), ("Accept", JSON)];
        let headers = if body.is_empty() { &headers[1..] } else { &headers };
        wire.send(&http1::request(
            self.probe.server(),
            line,
            headers,
            body.as_bytes(),
        ))?;
        wire.receive_until(|received| http1::take_reply(received, Head::No).is_some())?;
        let reply = http1::take_reply(&wire.received, Head::No).map(|(reply, _)| reply);
        reply.with_context(|| format!("{line}: no answer"))
    }

    /// What the guard asked for itself changed nothing, and what the agent asked for and was refused never came: what came
    /// of it since the mark are `changes` changes that succeeded.
    pub(crate) fn changed_only(&self, mark: Mark, changes: usize) -> Result<()> {
        let events = self.cluster.audit().since(mark)?;
        let by_guard = events
            .iter()
            .filter(|event| event.user == self.guarded.upstream_user())
            .filter(|event| !["get", "list", "watch"].contains(&event.verb.as_str()));
        let (own, agents): (Vec<_>, Vec<_>) =
            by_guard.partition(|event| event.user_agent.ends_with(" (on its own behalf)"));
        let write = own.iter().find(|event| !event.request_uri.contains("dryRun=All"));
        ensure!(write.is_none(), "the guard itself changed something: {write:#?}");
        // One that came too late for what it was decided on is a conflict, and no change.
        let (done, rest): (Vec<_>, Vec<_>) = agents
            .into_iter()
            .partition(|event| event.response_code.is_some_and(|code| code < 300));
        let other = rest.iter().find(|event| event.response_code != Some(409));
        ensure!(
            other.is_none() && done.len() == changes,
            "wanted {changes} changes: {done:#?} {rest:#?}"
        );
        Ok(())
    }
}
