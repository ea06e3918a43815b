//! The requests that clients really send, as they were recorded between them and the API server: `tests/clients/corpus`, a file
//! for each client. `EKS_GUARD_RECORD_CORPUS=1 cargo xtask test compatible` writes them anew.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::clients::normal::Normal;
use crate::programs;

/// The headers that decide what a request means.
pub const HEADERS: [&str; 7] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-type",
    "sec-websocket-protocol",
    "upgrade",
];

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Method, path and query as on the wire.
    pub line: String,
    /// Those of [`HEADERS`] that it has.
    pub headers: BTreeMap<String, String>,
    /// Its body, if that is text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Its body in Base64, if it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bytes: String,
}

impl Recorded {
    pub(super) fn new(method: &str, target: &str, headers: BTreeMap<String, String>, body: &[u8]) -> Self {
        let mut recorded = Self {
            line: format!("{method} {target}"),
            headers,
            text: String::new(),
            bytes: String::new(),
        };
        match std::str::from_utf8(body) {
            // Protobuf of little content is text by accident; its lengths must stay true.
            Ok(text) if !body.contains(&0) => text.clone_into(&mut recorded.text),
            Ok(_) | Err(_) => recorded.bytes = STANDARD.encode(body),
        }
        recorded
    }

    /// The body as it was sent.
    pub fn body(&self) -> Result<Vec<u8>> {
        if self.bytes.is_empty() {
            return Ok(self.text.clone().into_bytes());
        }
        STANDARD.decode(&self.bytes).context("reading a body")
    }

    /// What makes it a request of its own: not the times and versions in it.
    fn kind(&self) -> String {
        let headers: Vec<&str> = self.headers.values().map(String::as_str).collect();
        Normal::get().text(&format!("{} {headers:?} {}", self.line, self.text))
    }
}

/// Every request that was recorded, with its client.
pub fn read() -> Result<Vec<(String, Recorded)>> {
    let mut requests = Vec::new();
    let folder = folder();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let client = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for line in text.lines() {
            let request = serde_json::from_str(line).with_context(|| format!("{client}: reading {line}"))?;
            requests.push((client.clone(), request));
        }
    }
    Ok(requests)
}

/// Replaces the requests of a client.
pub(super) fn write(client: &str, requests: &[Recorded]) -> Result<()> {
    let mut text = String::new();
    let mut kinds = BTreeSet::new();
    for request in requests {
        if kinds.insert(request.kind()) {
            text.push_str(&serde_json::to_string(request)?);
            text.push('\n');
        }
    }
    let name = client.replace([' ', ','], "-");
    fs::create_dir_all(folder())?;
    let path = folder().join(format!("{name}.jsonl"));
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn folder() -> PathBuf {
    programs::workspace().join("tests/clients/corpus")
}
