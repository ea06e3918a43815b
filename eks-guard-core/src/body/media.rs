//! Content types of request bodies: which are read, for which method, and what goes upstream instead.

use crate::body::malformed;
use crate::reason::{Reason, Refusal};
use crate::request_info::Method;

/// An encoding the guard reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Yaml,
    Protobuf,
    MergePatch,
    StrategicMergePatch,
    JsonPatch,
    ApplyPatch,
}

impl Media {
    const OBJECTS: &'static [Self] = &[Self::Json, Self::Yaml, Self::Protobuf];
    const PATCHES: &'static [Self] = &[
        Self::MergePatch,
        Self::StrategicMergePatch,
        Self::JsonPatch,
        Self::ApplyPatch,
    ];

    /// The encoding that a Content-Type header names; a missing or empty header means JSON, as upstream.
    pub(super) fn negotiate(method: Method, header: Option<&str>) -> Result<Self, Refusal> {
        let taken = match method {
            Method::Get => return Err(malformed("a GET request cannot have a body; send it without one")),
            Method::Post | Method::Put | Method::Delete => Self::OBJECTS,
            Method::Patch => Self::PATCHES,
        };
        let header = header
            .filter(|header| !header.is_empty())
            .unwrap_or("application/json");
        read(header, taken).ok_or_else(|| {
            let names: Vec<_> = taken.iter().map(|media| media.name()).collect();
            let message = format!(
                "a body of type `{header}` cannot be read here; send {}",
                names.join(" or ")
            );
            Refusal::new(Reason::UnsupportedMediaType, message)
        })
    }

    /// The type of the canonical body: everything that is not a patch goes upstream as JSON.
    pub(super) const fn upstream(self) -> &'static str {
        match self {
            Self::Json | Self::Yaml | Self::Protobuf => Self::Json.name(),
            Self::MergePatch | Self::StrategicMergePatch | Self::JsonPatch | Self::ApplyPatch => self.name(),
        }
    }

    pub(super) const fn is_patch(self) -> bool {
        match self {
            Self::Json | Self::Yaml | Self::Protobuf => false,
            Self::MergePatch | Self::StrategicMergePatch | Self::JsonPatch | Self::ApplyPatch => true,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::MergePatch => "application/merge-patch+json",
            Self::StrategicMergePatch => "application/strategic-merge-patch+json",
            Self::JsonPatch => "application/json-patch+json",
            Self::ApplyPatch => "application/apply-patch+yaml",
        }
    }
}

/// The one of `taken` that the header names; the only parameter that may stand there is `charset=utf-8`.
fn read(header: &str, taken: &[Media]) -> Option<Media> {
    let (name, parameters) = header.split_once(';').unwrap_or((header, ""));
    let name = name.trim_matches([' ', '\t']);
    let media = taken
        .iter()
        .copied()
        .find(|media| media.name().eq_ignore_ascii_case(name))?;
    let parameters = parameters.trim_matches([' ', '\t']);
    if parameters.is_empty() {
        return Some(media);
    }
    let (key, value) = parameters.split_once('=')?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    (key.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")).then_some(media)
}
