//! Path segments: split, decoded exactly once, and the characters each may hold.

use std::borrow::Cow;

use crate::reason::Refusal;
use crate::request_info::escape::{self, Place, shown};
use crate::request_info::malformed;

/// Longest path, decoded.
pub(super) const MAX_PATH_BYTES: usize = 2048;

/// Most segments of a path: `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`.
pub(super) const MAX_SEGMENTS: usize = 8;

/// Most segments where the rest of the path belongs to what is behind a `proxy` subresource.
pub(super) const MAX_PROXY_SEGMENTS: usize = 64;

/// Longest DNS-1123 label.
const MAX_LABEL: usize = 63;

/// Raw path to decoded segments. One trailing slash is dropped, as kube-apiserver would.
pub(super) fn split(raw: &str) -> Result<Vec<Cow<'_, str>>, Refusal> {
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
    let mut segments = Vec::with_capacity(MAX_SEGMENTS);
    if inner.is_empty() {
        return Ok(segments);
    }
    let mut length = 0;
    // A closure over bytes compiles to a plain loop; for paths this short a search for a `char` costs more than it saves.
    let divides = |c: char| c == '/';
    for raw_segment in inner.strip_suffix('/').unwrap_or(inner).split(divides) {
        let segment = decode_segment(raw_segment)?;
        length += 1 + segment.len();
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

fn decode_segment(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    if escape::is_unreserved(raw) && !matches!(raw, "" | "." | "..") {
        return Ok(Cow::Borrowed(raw));
    }
    let segment = escape::decode(raw, Place::Segment)
        .map_err(|error| malformed(format!("path segment {} {error}", shown(raw))))?;
    let why = match segment.as_ref() {
        "" => "is empty: two slashes stand side by side",
        "." | ".." => "is a relative path, which nothing here resolves",
        text if text.contains(['/', '%', '\\']) => "holds `/`, `%` or `\\` when decoded",
        _ if raw.contains(['?', '#']) => "holds `?` or `#`, which must be percent-encoded",
        text if text.contains(char::is_control) => "holds a control character",
        _ => return Ok(segment),
    };
    Err(malformed(format!("path segment {} {why}", shown(raw))))
}

/// `[a-z0-9][a-z0-9.-]*`
pub(super) fn check_token(text: &str, what: &str) -> Result<(), Refusal> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let begins = bytes.first().is_some_and(|&byte| inner(byte));
    let holds = |&byte: &u8| inner(byte) || byte == b'.' || byte == b'-';
    if begins && bytes.iter().all(holds) {
        return Ok(());
    }
    Err(malformed(format!(
        "{} is no {what}: lower-case letters, digits, `.` and `-` only, a letter or digit first",
        shown(text)
    )))
}

/// A DNS-1123 label.
pub(super) fn check_namespace(text: &str) -> Result<(), Refusal> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|&byte| inner(byte));
    let bytes = text.as_bytes();
    if bytes.len() <= MAX_LABEL
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
    {
        return Ok(());
    }
    Err(malformed(format!(
        "{} is no namespace: at most {MAX_LABEL} lower-case letters, digits and `-`, none of them `-` at an end",
        shown(text)
    )))
}

fn too_long() -> Refusal {
    malformed(format!("the path is longer than {MAX_PATH_BYTES} bytes"))
}

pub(super) fn too_many_segments() -> Refusal {
    malformed(format!("the path has more than {MAX_SEGMENTS} segments"))
}
