//! Events on their way to a line, and those that the writer makes itself.

use eks_guard_core::principal::{Labels, PodIdentity};
use eks_guard_core::record::{Caller, Event, Outcome, SessionState, Stage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::recording::{RecordError, event_time};

/// The longest line; every text in an event is bounded well below.
pub(in crate::recording) const MAX_LINE: usize = 256 * 1024;

/// Which session a record is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionFacts {
    /// Id of the session: letters, digits, `-`, `_` and `.`; the file is named after it.
    pub session: String,
    /// Agent name, proven.
    pub agent: String,
    /// Model name, claimed.
    pub model_claimed: Option<String>,
    /// The pod it runs in, proven.
    pub pod: Option<PodIdentity>,
    /// Labels of that pod when it was first seen.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// The command the session runs, with the credentials in its arguments redacted.
    pub command: Option<Caller>,
}

/// An event as the line it becomes.
pub(super) fn line(event: &Event) -> Result<Vec<u8>, RecordError> {
    let mut line = serde_json::to_vec(event).map_err(|error| RecordError {
        message: format!("an event has no JSON form: {error}"),
    })?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(RecordError {
            message: "an event is longer than a line may be".to_owned(),
        });
    }
    Ok(line)
}

/// An event about the session itself, made here and now.
pub(super) fn own_event(facts: &SessionFacts, stage: Stage) -> Event {
    Event {
        id: Uuid::now_v7().to_string(),
        time: event_time(Timestamp::now()),
        model_claimed: facts.model_claimed.clone(),
        pod: facts.pod.clone(),
        decision: Outcome::Allow,
        ..Event::new(stage, facts.session.clone(), facts.agent.clone())
    }
}

/// One end of the session.
pub(super) fn session_event(facts: &SessionFacts, state: SessionState) -> Event {
    Event {
        session_state: Some(state),
        ..own_event(facts, Stage::Session)
    }
}
