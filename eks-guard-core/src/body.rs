//! Request bodies: read exactly, refused when ambiguous, re-emitted as canonical JSON.

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
