//! Path segments: split, decoded exactly once, and the characters each may hold.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::reason::Refusal;
use crate::request_info::class::Class;
use crate::request_info::escape::{self, Place, shown};
use crate::request_info::info::Span;
use crate::request_info::malformed;

/// Longest path, decoded.
pub(super) const MAX_PATH_BYTES: usize = 2048;

/// Most segments of a path: `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`.
pub(super) const MAX_SEGMENTS: usize = 8;

/// Most segments where the rest of the path belongs to what is behind a `proxy` subresource.
pub(super) const MAX_PROXY_SEGMENTS: usize = 64;

/// Longest DNS-1123 label.
const MAX_LABEL: usize = 63;

/// The segments of a path: on the stack, but for what is behind a `proxy` subresource.
pub(super) type Segments<'a> = SmallVec<[Segment<'a>; MAX_SEGMENTS]>;

/// One segment, decoded.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    text: Cow<'a, str>,
    class: Class,
}

/// Raw path to decoded segments. One trailing slash is dropped, as kube-apiserver would.
pub(super) fn split(raw: &str) -> Result<Segments<'_>, Refusal> {
    // Every byte takes three at most when encoded.
    if raw.len() > 3 * MAX_PATH_BYTES {
        return Err(too_long());
    }
    let Some(inner) = raw.strip_prefix('/') else {
        return Err(malformed(format!(
            "the path {} does not begin with /",
            shown(raw)
        )));
    };
    let mut segments = Segments::new();
    if inner.is_empty() {
        return Ok(segments);
    }
    let mut length = 0;
    let mut rest = Some(inner.strip_suffix('/').unwrap_or(inner));
    while let Some(raw) = rest {
        let (raw_segment, class, behind) = escape::cut(raw, |byte| byte == b'/');
        rest = behind.strip_prefix('/');
        let segment = match raw_segment {
            "" | "." | ".." => decode_segment(raw_segment)?,
            text if class.is(Class::UNRESERVED) => Segment {
                text: Cow::Borrowed(text),
                class,
            },
            encoded => decode_segment(encoded)?,
        };
        length += 1 + segment.text.len();
        if segments.len() == MAX_PROXY_SEGMENTS {
            return Err(too_many_segments());
        }
        segments.push(segment);
    }
    if length > MAX_PATH_BYTES {
        return Err(too_long());
    }
    Ok(segments)
}

fn decode_segment(raw: &str) -> Result<Segment<'_>, Refusal> {
    let text = escape::decode(raw, Place::Segment)
        .map_err(|error| malformed(format!("path segment {} {error}", shown(raw))))?;
    let why = match text.as_ref() {
        "" => "is empty: two slashes stand side by side",
        "." | ".." => "is a relative path, which nothing here resolves",
        text if text.contains(['/', '%', '\\']) => "holds `/`, `%` or `\\` when decoded",
        _ if raw.contains(['?', '#']) => "holds `?` or `#`, which must be percent-encoded",
        text if text.contains(char::is_control) => "holds a control character",
        _ => {
            let class = Class::of(&text);
            return Ok(Segment { text, class });
        }
    };
    Err(malformed(format!("path segment {} {why}", shown(raw))))
}

impl Segment<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands in a path as it is.
    pub(super) fn is_unreserved(&self) -> bool {
        self.class.is(Class::UNRESERVED)
    }

    /// Appends it to a path in canonical form, and says where it stands there.
    pub(super) fn push_to(&self, path: &mut String) -> Span {
        path.push('/');
        let start = path.len();
        if self.is_unreserved() {
            path.push_str(&self.text);
        } else {
            escape::push_segment(path, &self.text);
        }
        Span::from(start, path)
    }

    /// `[a-z0-9][a-z0-9.-]*`
    pub(super) fn check_token(&self, what: &str) -> Result<(), Refusal> {
        if is_label_end(self.text.as_bytes().first()) && self.class.is(Class::TOKEN) {
            return Ok(());
        }
        Err(malformed(format!(
            "{} is no {what}: lower-case letters, digits, `.` and `-` only, a letter or digit first",
            shown(&self.text)
        )))
    }

    /// A DNS-1123 label.
    pub(super) fn check_namespace(&self) -> Result<(), Refusal> {
        let bytes = self.text.as_bytes();
        if bytes.len() <= MAX_LABEL
            && is_label_end(bytes.first())
            && is_label_end(bytes.last())
            && self.class.is(Class::LABEL)
        {
            return Ok(());
        }
        Err(malformed(format!(
            "{} is no namespace: at most {MAX_LABEL} lower-case letters, digits and `-`, none of them `-` at an end",
            shown(&self.text)
        )))
    }
}

fn is_label_end(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn too_long() -> Refusal {
    malformed(format!("the path is longer than {MAX_PATH_BYTES} bytes"))
}

pub(super) fn too_many_segments() -> Refusal {
    malformed(format!("the path has more than {MAX_SEGMENTS} segments"))
}
