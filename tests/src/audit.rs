//! "What reached the API server since mark M?", answered from its audit log.
//! The log is written before a request is served, so one more request of our own flushes it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::http::Client;
use crate::wait;

/// The user of the flushing requests; they are never reported.
pub const SENTINEL_USER: &str = "rig-sentinel";

/// The audit log of one cluster.
pub struct Audit {
    log: PathBuf,
    sentinel: Client,
}

/// How the `User-Agent` of what a guard asks for itself ends.
const GUARDS_OWN: &str = " (on its own behalf)";

/// A place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// One request that reached the API server, all its stages in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// `Audit-ID` as the server used it.
    pub audit_id: String,
    /// Who the server took the caller for.
    pub user: String,
    /// User the caller asked to act as.
    pub impersonated_user: Option<String>,
    /// Kubernetes verb.
    pub verb: String,
    /// Path and query.
    pub request_uri: String,
    /// `User-Agent`.
    pub user_agent: String,
    /// What the request was about, for resource requests.
    pub object: Option<ObjectRef>,
    /// HTTP status, once the reply was sent.
    pub response_code: Option<u16>,
}

/// The object part of an audit event; empty text for what the request did not name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectRef {
    /// API group.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Resource, plural.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Audit {
    pub(crate) fn new(log: PathBuf, sentinel: Client) -> Self {
        Self { log, sentinel }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.log.clone()
    }

    /// Marks now: what was sent before this call is before the mark.
    pub fn mark(&self) -> Result<Mark> {
        self.flush()?;
        Ok(Mark(end_of_lines(&self.log)?))
    }

    /// Every request received since the mark and before this call, of everybody but the control plane and the rig's sentinel.
    pub fn since(&self, mark: Mark) -> Result<Vec<AuditEvent>> {
        self.flush()?;
        self.read(mark)
    }

    /// The requests of one user since the mark, but for what a guard asks for itself. Tests that run side by side each
    /// have a user of their own.
    pub fn since_by(&self, mark: Mark, user: &str) -> Result<Vec<AuditEvent>> {
        Ok(self
            .since(mark)?
            .into_iter()
            .filter(|event| event.user == user && !event.user_agent.ends_with(GUARDS_OWN))
            .collect())
    }

    /// Waits until a request since the mark satisfies `condition`, replies included.
    pub fn wait_for(&self, mark: Mark, condition: impl Fn(&AuditEvent) -> bool) -> Result<AuditEvent> {
        let mut events = Vec::new();
        let event = wait::found("a request like this arrives", || {
            events = self.read(mark)?;
            Ok(events.iter().find(|event| condition(event)).cloned())
        });
        event.with_context(|| format!("there were: {events:#?}"))
    }

    fn read(&self, mark: Mark) -> Result<Vec<AuditEvent>> {
        merge_stages(&text_from(&self.log, mark.0)?)
    }

    /// Sends a request with an id of its own and waits until the log holds it.
    fn flush(&self) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = format!(
            "rig-sentinel-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let before = fs::metadata(&self.log)
            .map(|metadata| metadata.len())
            .unwrap_or(0);
        self.sentinel
            .request("GET", "/version", &[("Audit-ID", &id)], b"")?;
        wait::until(&format!("the audit log shows the request {id}"), || {
            Ok(text_from(&self.log, before).is_ok_and(|text| text.contains(&id)))
        })
    }
}

/// What the log says from a place on. The end of it may be a part of a character.
fn text_from(log: &Path, place: u64) -> Result<String> {
    let mut file = File::open(log).context("opening the audit log")?;
    file.seek(SeekFrom::Start(place))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).context("reading the audit log")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Where the whole lines of the log end: a long line is there in parts while it is being written.
fn end_of_lines(log: &Path) -> Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut file = File::open(log).context("opening the audit log")?;
    let mut begin = file.metadata().context("reading the audit log")?.len();
    while begin > 0 {
        let end = begin;
        begin = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(begin))?;
        let mut part = Vec::new();
        file.by_ref().take(end - begin).read_to_end(&mut part)?;
        if let Some(last) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + last as u64 + 1);
        }
    }
    Ok(0)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: LineUser,
    impersonated_user: Option<LineUser>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<LineStatus>,
}

#[derive(Deserialize)]
struct LineUser {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct LineStatus {
    code: Option<u16>,
}

/// One event a request, in order of reception. A request that was received before the mark shows only later stages, and is left out;
/// one that failed to authenticate is logged in one stage only, and is kept.
fn merge_stages(text: &str) -> Result<Vec<AuditEvent>> {
    let mut events: Vec<AuditEvent> = Vec::new();
    // What is after the last line end is still being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("reading the audit line {line}"))?;
        if line.user.username == SENTINEL_USER {
            continue;
        }
        let code = line.response_status.and_then(|status| status.code);
        if let Some(event) = events.iter_mut().find(|event| event.audit_id == line.audit_id) {
            event.object = line.object_ref.or(event.object.take());
            event.impersonated_user = line.impersonated_user.map(|user| user.username);
            event.response_code = code.or(event.response_code);
        } else if line.stage == "RequestReceived" || code == Some(401) {
            events.push(AuditEvent {
                audit_id: line.audit_id,
                user: line.user.username,
                impersonated_user: line.impersonated_user.map(|user| user.username),
                verb: line.verb,
                request_uri: line.request_uri,
                user_agent: line.user_agent,
                object: line.object_ref,
                response_code: code,
            });
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, stage: &str, user: &str, code: &str) -> String {
        format!(
            r#"{{"auditID":"{id}","stage":"{stage}","requestURI":"/x","verb":"get","user":{{"username":"{user}"}}{code}}}"#
        )
    }

    #[test]
    fn a_mark_is_between_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        let long = "x".repeat(200_000);
        for (text, end) in [
            (String::new(), 0),
            (long.clone(), 0),
            ("one\n".to_owned(), 4),
            (format!("one\n{long}"), 4),
            (format!("one\n{long}\ntw"), 200_005),
        ] {
            fs::write(&log, &text).unwrap();
            assert_eq!(end_of_lines(&log).unwrap(), end);
        }
    }

    #[test]
    fn merges_stages_and_leaves_out_what_came_before() {
        let done = r#","responseStatus":{"code":200}"#;
        let text = [
            line("old", "ResponseComplete", "alice", done),
            line("a", "RequestReceived", "alice", ""),
            line("s", "RequestReceived", SENTINEL_USER, ""),
            line("a", "ResponseComplete", "alice", done),
            line("u", "ResponseStarted", "", r#","responseStatus":{"code":401}"#),
            r#"{"auditID":"half"#.to_owned(),
        ]
        .join("\n");
        let events = merge_stages(&text).unwrap();
        let seen: Vec<_> = events
            .iter()
            .map(|event| (event.audit_id.as_str(), event.response_code))
            .collect();
        assert_eq!(seen, [("a", Some(200)), ("u", Some(401))]);
    }
}
