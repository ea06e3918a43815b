//! The audit event and its JSON form, schema `eks-guard.dev/record/v1` (documented in docs/record.md).

use serde::{Deserialize, Serialize};

use crate::principal::PodIdentity;

/// When in the life of a request an event was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Before a mutating request is forwarded; durable on disk.
    Intent,
    /// After the reply ended, or when the request was refused.
    Outcome,
    /// A connection that never became a request (no flow entry, failed handshake, timeout).
    Connection,
    /// The kernel programs refused something, or the guard put back what was taken off; in the record of a node.
    Kernel,
    /// The run itself: started, ended.
    Session,
    /// Events are missing here: the queue was full or the disk refused; `lost` says how many.
    Gap,
}

/// Which end of a session an event of stage [`Stage::Session`] marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionState {
    /// The boundary stands and the command is about to start.
    Started,
    /// The command has ended, or never started.
    Ended,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Forwarded, or about to be.
    Allow,
    /// Refused by the guard; nothing reached the API server.
    Refuse,
}

/// The process that opened the connection, as the kernel side saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Process id in the guard's PID namespace.
    pub pid: u32,
    /// Path of the executable; empty when the process was gone.
    pub executable: String,
    /// Command line, arguments separated by spaces, at most 4 KiB, credentials redacted.
    pub command_line: String,
}

/// What policies in mode Observe would have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// What would have been decided.
    pub decision: Outcome,
    /// Why it would have been refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The rule that would have decided, when one would.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
}

/// The stored object that a decision looked at; empty when there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecidedOn {
    /// `metadata.uid`
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub uid: String,
    /// `metadata.resourceVersion`
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub resource_version: String,
}

/// The value of `schema` in every line.
pub const SCHEMA: &str = "eks-guard.dev/record/v1";

/// One line of the record. Make one with [`Event::new`] and fill in what is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `eks-guard.dev/record/v1`
    pub schema: String,
    /// Record id: UUIDv7, sent upstream as `Audit-ID`; the same in all events of one request.
    pub id: String,
    /// RFC 3339 with microseconds, UTC.
    pub time: String,
    /// When in the life of the request.
    pub stage: Stage,
    /// The run or pod this belongs to.
    pub session: String,
    /// Agent name, proven.
    pub agent: String,
    /// Model name, claimed by the agent's side.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model_claimed: Option<String>,
    /// The pod the agent runs in, proven; left out outside Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<PodIdentity>,
    /// Who opened the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub caller: Option<Caller>,
    /// Kubernetes verb; empty when the request could not be understood.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub verb: String,
    /// API group; empty for the core group.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub group: String,
    /// API version.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub version: String,
    /// Resource.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub resource: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub subresource: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub namespace: String,
    /// Object name.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    /// Canonical path of a non-resource request.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub path: String,
    /// What was decided; says nothing in events of the stages `session` and `gap`.
    pub decision: Outcome,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
    /// Stable reason code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What would have been decided if the policies in mode Observe were enforced, when that is something else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub observed: Option<Observed>,
    /// The object that was looked at to decide; left out when none was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_on: Option<DecidedOn>,
    /// Sentence that goes with the reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// HTTP status the agent received.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Bytes of the reply body that went to the agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// Microseconds from the request's arrival to the end of the reply.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_us: Option<u64>,
    /// User-Agent as sent by the caller; claimed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_agent_claimed: Option<String>,
    /// Where the caller meant to connect to, `address:port`. Evidence only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub original_destination: Option<String>,
    /// Generation of the policy snapshot that decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy_generation: Option<u64>,
    /// Which end of the session this event marks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_state: Option<SessionState>,
    /// Exit code of the command, as a shell would see it; in the event that ends a session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// How many events are missing here; in events of stage `gap`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost: Option<u64>,
}

impl Event {
    /// An event with everything optional left out, and the decision at its zero value: refused.
    #[must_use]
    pub fn new(stage: Stage, session: impl Into<String>, agent: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            id: String::new(),
            time: String::new(),
            stage,
            session: session.into(),
            agent: agent.into(),
            model_claimed: None,
            pod: None,
            caller: None,
            verb: String::new(),
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            path: String::new(),
            decision: Outcome::Refuse,
            rule: None,
            reason: None,
            observed: None,
            decided_on: None,
            message: None,
            status: None,
            bytes: None,
            duration_us: None,
            user_agent_claimed: None,
            original_destination: None,
            policy_generation: None,
            session_state: None,
            exit_code: None,
            lost: None,
        }
    }
}
