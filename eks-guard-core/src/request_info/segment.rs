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
    let mut rest = Some(inner.strip_suffix('/').unwrap_or(inner));
    while let Some(raw) = rest {
        let (raw_segment, unreserved, behind) = escape::cut(raw, b'/');
        rest = behind;
        let segment = match raw_segment {
            "" | "." | ".." => decode_segment(raw_segment)?,
            plain if unreserved => Cow::Borrowed(plain),
            encoded => decode_segment(encoded)?,
        };
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

/// Characters of names of groups, versions and resources, and what of those may begin one.
const TOKEN: [bool; 256] = characters(b".-");
const LABEL: [bool; 256] = characters(b"-");
const LABEL_END: [bool; 256] = characters(b"");

/// Lower-case letters, digits, and these.
const fn characters(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

fn holds_only(text: &str, allowed: &[bool; 256]) -> bool {
    text.bytes()
        .fold(true, |all, byte| all & allowed[usize::from(byte)])
}

fn is_label_end(byte: Option<&u8>) -> bool {
    byte.is_some_and(|&byte| LABEL_END[usize::from(byte)])
}

/// `[a-z0-9][a-z0-9.-]*`
pub(super) fn check_token(text: &str, what: &str) -> Result<(), Refusal> {
    if is_label_end(text.as_bytes().first()) && holds_only(text, &TOKEN) {
        return Ok(());
    }
    Err(malformed(format!(
        "{} is no {what}: lower-case letters, digits, `.` and `-` only, a letter or digit first",
        shown(text)
    )))
}

/// A DNS-1123 label.
pub(super) fn check_namespace(text: &str) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    if bytes.len() <= MAX_LABEL
        && is_label_end(bytes.first())
        && is_label_end(bytes.last())
        && holds_only(text, &LABEL)
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
