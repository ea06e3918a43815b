//! A condition in the status of an object: what is so, since when, and why.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type, of which an object has one.
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// In one word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Condition {
    /// As it is written into an object with this status. What has not changed keeps its time of transition, so that equal
    /// states are equal documents. More fields may be added.
    #[must_use]
    pub fn fields(self, before: &Value, now: &str) -> Map<String, Value> {
        let mut conditions = before["conditions"].as_array().into_iter().flatten();
        let same = conditions.find(|old| old["type"] == self.kind && old["status"] == self.status);
        let since = same.and_then(|old| old["lastTransitionTime"].as_str());
        let fields = [
            ("type", json!(self.kind)),
            ("status", json!(self.status)),
            ("reason", json!(self.reason)),
            ("message", json!(self.message)),
            ("lastTransitionTime", json!(since.unwrap_or(now))),
        ];
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }
}

/// A time as statuses write it.
#[must_use]
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
