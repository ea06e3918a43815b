//! Percent-encoding: decoded exactly once, strictly; encoded in one canonical form.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::request_info::class::Class;

/// What a canonical query encodes: everything but RFC 3986 unreserved characters.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a canonical path segment encodes: names with `:` stay readable, `;` and the rest do not pass.
const IN_SEGMENT: &AsciiSet = &IN_QUERY
    .remove(b':')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=');

/// What stands before the first divider, the [`Class`] of that, and the rest, which begins with the divider: one walk over the
/// bytes, where a search for the divider and a look at the text would be two.
pub(super) fn cut(text: &str, is_divider: impl Fn(u8) -> bool) -> (&str, Class, &str) {
    let mut class = Class::EMPTY;
    for (at, byte) in text.bytes().enumerate() {
        if is_divider(byte) {
            return (&text[..at], class, &text[at..]);
        }
        class = class.and(byte);
    }
    (text, class, "")
}

/// Longest excerpt of the agent's own text in a message.
const SHOWN: usize = 64;

/// Which characters stand for others besides `%XX`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A path segment: `+` is itself.
    Segment,
    /// A query key or value: `+` is a space.
    Query,
}

/// Why text could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// Outside visible ASCII, in raw form.
    #[error("holds a character that must be percent-encoded")]
    Raw,
    /// `%` without two hexadecimal digits.
    #[error("holds a `%` that two hexadecimal digits do not follow")]
    Escape,
    /// The decoded bytes are not UTF-8.
    #[error("is not UTF-8 when decoded")]
    Utf8,
    /// A NUL byte, which no part of a request may hold.
    #[error("holds a NUL byte")]
    Nul,
}

/// Decodes once; borrows when there is nothing to decode.
pub(super) fn decode(raw: &str, place: Place) -> Result<Cow<'_, str>, DecodeError> {
    let mut encoded = false;
    for &byte in raw.as_bytes() {
        match byte {
            b'%' => encoded = true,
            b'+' => encoded |= place == Place::Query,
            b'!'..=b'~' => {}
            _ => return Err(DecodeError::Raw),
        }
    }
    if !encoded {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => decoded.push(hex_digit(bytes.next())? << 4 | hex_digit(bytes.next())?),
            b'+' if place == Place::Query => decoded.push(b' '),
            plain => decoded.push(plain),
        }
    }
    if decoded.contains(&0) {
        return Err(DecodeError::Nul);
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| DecodeError::Utf8)
}

fn hex_digit(byte: Option<u8>) -> Result<u8, DecodeError> {
    match byte {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        Some(_) | None => Err(DecodeError::Escape),
    }
}

/// Appends the text of a path segment in canonical form.
pub(super) fn push_segment(out: &mut String, segment: &str) {
    out.extend(utf8_percent_encode(segment, IN_SEGMENT));
}

/// Appends a query value in canonical form.
pub(super) fn push_value(out: &mut String, value: &str) {
    if Class::of(value).is(Class::UNRESERVED) {
        out.push_str(value);
    } else {
        out.extend(utf8_percent_encode(value, IN_QUERY));
    }
}

/// The agent's own text, safe to show in a message: escaped, and cut when long.
pub(super) fn shown(text: &str) -> String {
    let mut excerpt = String::from("\"");
    for escaped in text.chars().take(SHOWN).map(char::escape_default) {
        excerpt.extend(escaped);
    }
    excerpt.push_str(if text.chars().nth(SHOWN).is_some() {
        "\"..."
    } else {
        "\""
    });
    excerpt
}
