//! One line as a reader needs it: every field may be missing, unknown ones are passed over, so that records of older and
//! newer versions can be read.

use jiff::Timestamp;
use serde::Deserialize;

/// The fields of an event that lists and tables use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) time: String,
    pub(super) stage: String,
    pub(super) agent: String,
    pub(super) model_claimed: Option<String>,
    pub(super) caller: Option<CallerLine>,
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) decision: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) session_state: Option<String>,
    pub(super) exit_code: Option<i32>,
    pub(super) lost: Option<u64>,
}

/// The caller in an event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CallerLine {
    pub(super) pid: u32,
    pub(super) executable: String,
    pub(super) command_line: String,
}

impl Line {
    /// `None`: not an event.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        // Serde would take an array for the fields in their order.
        let object = line.trim_ascii_start().first() == Some(&b'{');
        if object {
            serde_json::from_slice(line).ok()
        } else {
            None
        }
    }

    pub(super) fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    pub(super) fn is_request(&self) -> bool {
        self.stage == "outcome"
    }

    pub(super) fn is_refused(&self) -> bool {
        self.decision == "refuse"
            && (self.is_request() || matches!(self.stage.as_str(), "connection" | "kernel"))
    }

    pub(super) fn is_mutating(&self) -> bool {
        matches!(self.stage.as_str(), "intent" | "outcome")
            && !matches!(self.verb.as_str(), "" | "get" | "list" | "watch")
    }
}
