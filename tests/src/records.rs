//! The records that guards wrote, as JSON values.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// All events in a folder of records.
pub fn read(folder: &Path) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for line in text.lines() {
            events.push(serde_json::from_str(line).with_context(|| format!("reading the record {line}"))?);
        }
    }
    Ok(events)
}

/// The text of a field; empty when it is not there.
#[must_use]
pub fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}
