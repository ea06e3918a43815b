//! Request bodies: read exactly, refused when ambiguous, checked against the URL, re-emitted as canonical JSON.

use std::fmt;

use crate::body::json::{Canonical, JsonError, Outline, View};
use crate::body::media::Media;
use crate::body::protobuf::ProtobufError;
use crate::body::yaml::YamlError;
use crate::reason::{Reason, Refusal};
use crate::request_info::{ApiRequest, Method, RequestInfo, RequestScope, ResourceInfo};

pub use pin::{Pin, PinError};

pub mod json;
pub mod protobuf;

mod agreement;
mod delete_options;
mod media;
mod patch;
mod pin;
mod yaml;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

/// The longest body that is read, in bytes, and the longest that is sent: kube-apiserver's own limit.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// One request body: canonical JSON that agrees with the URL it was sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    json: Vec<u8>,
    media: Media,
    outline: Outline,
}

impl Body {
    /// Reads the whole body of `request`. `content_type` is the header as received; `None` means JSON.
    ///
    /// # Errors
    /// [`Reason::UnsupportedMediaType`] for a content type, or a kind inside protobuf, that is not read;
    /// [`Reason::BodyTooLarge`] over [`MAX_BODY`]; [`Reason::ConnectRefused`] for data sent into a stream;
    /// [`Reason::BodyMalformed`] for everything that is not one unambiguous object which agrees with the URL.
    pub fn read(request: &ApiRequest, content_type: Option<&str>, bytes: &[u8]) -> Result<Self, Refusal> {
        Self::read_for(request.method(), request.info(), content_type, bytes)
    }

    /// [`Body::read`] for a request that is known by its parts.
    fn read_for(
        method: Method,
        info: &RequestInfo,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BODY {
            return Err(too_large());
        }
        if bytes.is_empty() {
            return may_be_empty(method, info).then(Self::empty).ok_or_else(|| {
                malformed("the request has no body; send the object, or the patch, as its body")
            });
        }
        if is_connect(info) {
            let message = "data cannot be sent into a pod, service or node through the API server";
            return Err(Refusal::new(Reason::ConnectRefused, message));
        }
        let media = Media::negotiate(method, content_type)?;
        let body = match media {
            Media::Protobuf => Self::from_protobuf(bytes)?,
            Media::Yaml | Media::ApplyPatch => Self::from_yaml(media, bytes)?,
            Media::Json | Media::MergePatch | Media::StrategicMergePatch | Media::JsonPatch => {
                Self::from_json(media, bytes)?
            }
        };
        if body.json.len() > MAX_BODY {
            return Err(too_large());
        }
        agreement::check(method, info, media, &body.outline)?;
        match media {
            Media::JsonPatch => patch::check_operations(View::of(&body.json))?,
            Media::StrategicMergePatch => patch::check_directives(View::of(&body.json))?,
            Media::Json | Media::Yaml | Media::Protobuf | Media::MergePatch | Media::ApplyPatch => {}
        }
        Ok(body)
    }

    fn from_json(media: Media, bytes: &[u8]) -> Result<Self, Refusal> {
        let canonical = json::canonical(bytes).map_err(|error| refuse_json(&error))?;
        Ok(Self::of(media, canonical))
    }

    /// JSON is YAML too, and is read as JSON: clients send it under both names.
    fn from_yaml(media: Media, bytes: &[u8]) -> Result<Self, Refusal> {
        match json::canonical(bytes) {
            Ok(canonical) => Ok(Self::of(media, canonical)),
            Err(error) if error.is_syntax() => {
                let text = yaml::to_json(bytes).map_err(|error| refuse_yaml(&error))?;
                Self::from_json(media, &text)
            }
            Err(error) => Err(refuse_json(&error)),
        }
    }

    fn of(media: Media, canonical: Canonical) -> Self {
        Self {
            json: canonical.text,
            media,
            outline: canonical.outline,
        }
    }

    fn from_protobuf(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = protobuf::to_json(bytes).map_err(|error| refuse_protobuf(&error))?;
        Self::from_json(Media::Json, &text)
    }

    fn empty() -> Self {
        Self {
            json: Vec::new(),
            media: Media::Json,
            outline: Outline::default(),
        }
    }

    /// Delete options that say nothing.
    pub(crate) fn delete_options() -> Self {
        Self {
            json: br#"{"kind":"DeleteOptions","apiVersion":"v1"}"#.to_vec(),
            ..Self::empty()
        }
    }

    /// Delete options, those of the query among them.
    ///
    /// # Errors
    /// [`Reason::BodyMalformed`] when the two say different things.
    pub(crate) fn with_delete_options<'a>(
        mut self,
        query: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Refusal> {
        self.json = delete_options::merge(&self.json, query)?;
        Ok(self)
    }

    /// Whether the request has no body: a GET, a DELETE without options, the start of a stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// The canonical JSON that goes upstream, in UTF-8.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The content type it goes upstream with.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        self.media.upstream()
    }

    /// `apiVersion` of the object inside; empty when it has none, which the API server takes from the URL.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.outline.api_version.as_str()
    }

    /// `kind` of the object inside; empty when it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.outline.kind.as_str()
    }

    /// `metadata.name` of the object inside, when it has one.
    #[must_use]
    pub fn object_name(&self) -> Option<&str> {
        Some(self.outline.name.as_str()).filter(|name| !name.is_empty())
    }

    /// `metadata.generateName` of the object inside, when it has one.
    #[must_use]
    pub fn generate_name(&self) -> Option<&str> {
        Some(self.outline.generate_name.as_str()).filter(|name| !name.is_empty())
    }
}

/// Says what the body is, never what is in it: bodies hold values that logs must not.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("media", &self.media)
            .field("bytes", &self.json.len())
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

/// GET has no body, DELETE need not have options, and a stream is opened by an empty request.
fn may_be_empty(method: Method, info: &RequestInfo) -> bool {
    match method {
        Method::Get | Method::Delete => true,
        Method::Post | Method::Put | Method::Patch => is_connect(info),
    }
}

/// Whether the request opens a stream through the API server; what may flow there is not an object.
fn is_connect(info: &RequestInfo) -> bool {
    let RequestScope::Resource(ResourceInfo {
        group,
        resource,
        subresource,
        ..
    }) = info.scope()
    else {
        return false;
    };
    group.is_empty()
        && matches!(resource, "pods" | "services" | "nodes")
        && matches!(subresource, "attach" | "exec" | "portforward" | "proxy")
}

fn refuse_json(error: &JsonError) -> Refusal {
    malformed(format!("the JSON body is refused: {error}"))
}

fn refuse_yaml(error: &YamlError) -> Refusal {
    malformed(format!("the YAML body is refused: {error}"))
}

fn refuse_protobuf(error: &ProtobufError) -> Refusal {
    match error {
        ProtobufError::TooLarge => too_large(),
        ProtobufError::UnknownKind { .. } | ProtobufError::UnknownField { .. } => Refusal::new(
            Reason::UnsupportedMediaType,
            format!("the protobuf body is refused: {error}; send the object as application/json"),
        ),
        ProtobufError::NoMagic
        | ProtobufError::WrongWireType { .. }
        | ProtobufError::BadValue { .. }
        | ProtobufError::Repeated { .. }
        | ProtobufError::Encoded(_)
        | ProtobufError::Truncated
        | ProtobufError::BadVarint
        | ProtobufError::BadTag
        | ProtobufError::TooDeep => malformed(format!("the protobuf body is refused: {error}")),
    }
}

fn too_large() -> Refusal {
    let limit = MAX_BODY / (1024 * 1024);
    Refusal::new(
        Reason::BodyTooLarge,
        format!("the body is longer than the {limit} MiB the API server takes"),
    )
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::BodyMalformed, message)
}
