//! What the two sides wrote: the guard's record and the API server's audit log, read as they grow.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use eks_guard_core::record::{Event, Stage};
use serde::Deserialize;
use serde_json::Value;

use crate::audit::ObjectRef;

/// A file that grows by whole lines.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    /// The whole lines that have come since the last call.
    fn lines(&mut self) -> Result<String> {
        let mut file = File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        bytes.truncate(
            bytes
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |end| end + 1),
        );
        self.read += bytes.len() as u64;
        String::from_utf8(bytes).context("a log is not text")
    }
}

/// A request as the API server took it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `Audit-ID`
    pub audit_id: String,
    /// Number of the request, which its sender put behind its name.
    pub number: Option<u64>,
    /// Kubernetes verb.
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// What it was about.
    pub object: Option<ObjectRef>,
    /// The body as it was read.
    pub body: Option<Value>,
    /// Whether the reply has ended.
    pub complete: bool,
    /// Status of the reply.
    pub code: Option<u16>,
}

/// The audit log: the requests of some users.
pub struct AuditTail {
    tail: Tail,
    seen: HashMap<String, HashMap<String, Seen>>,
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
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    request_object: Option<Value>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

impl AuditTail {
    /// From here on, what these users ask for.
    pub fn follow(log: &Path, users: &[&str]) -> Result<Self> {
        let read = fs::metadata(log).context("reading the audit log")?.len();
        Ok(Self {
            tail: Tail {
                path: log.to_owned(),
                read,
            },
            seen: users
                .iter()
                .map(|user| ((*user).to_owned(), HashMap::new()))
                .collect(),
        })
    }

    /// Reads on.
    pub fn update(&mut self) -> Result<()> {
        for line in self.tail.lines()?.lines() {
            let line: Line =
                serde_json::from_str(line).with_context(|| format!("reading the audit line {line}"))?;
            let Some(seen) = self.seen.get_mut(&line.user.username) else {
                continue;
            };
            let request = seen.entry(line.audit_id.clone()).or_insert_with(|| Seen {
                audit_id: line.audit_id,
                number: number_in(&line.user_agent),
                verb: line.verb,
                uri: line.request_uri,
                ..Seen::default()
            });
            request.object = line.object_ref.or(request.object.take());
            request.body = line.request_object.or(request.body.take());
            request.code = line
                .response_status
                .and_then(|status| status.code)
                .or(request.code);
            request.complete |= !matches!(line.stage.as_str(), "RequestReceived" | "ResponseStarted");
        }
        Ok(())
    }

    /// The requests of a user by their ids.
    #[must_use]
    pub fn of(&self, user: &str) -> &HashMap<String, Seen> {
        static NONE: std::sync::LazyLock<HashMap<String, Seen>> = std::sync::LazyLock::new(HashMap::new);
        self.seen.get(user).unwrap_or(&NONE)
    }

    /// Forgets what was seen so far.
    pub fn clear(&mut self) {
        self.seen.values_mut().for_each(HashMap::clear);
    }
}

/// The guard's record: outcomes by the number of the request.
pub struct RecordTail {
    folder: PathBuf,
    tails: Vec<Tail>,
    outcomes: HashMap<u64, Event>,
}

impl RecordTail {
    /// Everything that is written in this folder.
    #[must_use]
    pub fn follow(folder: PathBuf) -> Self {
        Self {
            folder,
            tails: Vec::new(),
            outcomes: HashMap::new(),
        }
    }

    /// Reads on.
    pub fn update(&mut self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).context("reading the folder of records")? {
            let path = entry?.path();
            let is_record = path.extension().is_some_and(|extension| extension == "jsonl");
            if is_record && self.tails.iter().all(|tail| tail.path != path) {
                self.tails.push(Tail { path, read: 0 });
            }
        }
        for tail in &mut self.tails {
            for line in tail.lines()?.lines() {
                let event: Event =
                    serde_json::from_str(line).with_context(|| format!("reading the record {line}"))?;
                let number = event.user_agent_claimed.as_deref().and_then(number_in);
                if let Some(number) = number.filter(|_| event.stage == Stage::Outcome) {
                    self.outcomes.insert(number, event);
                }
            }
        }
        Ok(())
    }

    /// What became of each request.
    #[must_use]
    pub fn outcomes(&self) -> &HashMap<u64, Event> {
        &self.outcomes
    }

    /// Forgets what was read so far.
    pub fn clear(&mut self) {
        self.outcomes.clear();
    }
}

/// `name/12 …` is 12.
fn number_in(user_agent: &str) -> Option<u64> {
    let (_, rest) = user_agent.split_once('/')?;
    rest.split(' ').next()?.parse().ok()
}
