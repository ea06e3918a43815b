//! JSON text in, canonical JSON text out: one pass, no tree. Refused where two readers could disagree about the meaning:
//! a key twice in one object, half surrogates, text after the value. Key order and the text of numbers are kept.

use crate::body::json::scanner::Scanner;

pub(in crate::body) mod edit;
mod keys;
mod scanner;
mod slot;
mod text;
mod view;

#[cfg(test)]
mod tests;

pub(in crate::body) use text::write_str;
pub(crate) use view::View;

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 128;

/// The longest path that an error message quotes, in bytes.
const MAX_QUOTED_PATH: usize = 200;

/// Canonical text and what stands in its well-known members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// No white space, shortest escapes, the same value as the input.
    pub text: Vec<u8>,
    /// The members that say which object this is.
    pub outline: Outline,
}

/// The members of a top-level object that say which object it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// What the value is.
    pub shape: Shape,
    /// `apiVersion`
    pub api_version: Member,
    /// `kind`
    pub kind: Member,
    /// `metadata.name`
    pub name: Member,
    /// `metadata.generateName`
    pub generate_name: Member,
    /// `metadata.namespace`
    pub namespace: Member,
}

/// What the top-level value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// A string, number, boolean or null.
    #[default]
    Scalar,
}

/// A member that holds a string when it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Member {
    /// No such key.
    #[default]
    Absent,
    /// The key with the value `null`: absent in an object, an instruction to remove in a patch.
    Null,
    /// The unescaped string.
    Text(String),
}

impl Member {
    /// The string; empty when there is none, as the API server reads it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Absent | Self::Null => "",
            Self::Text(text) => text,
        }
    }
}

/// Why a text is not JSON that has one meaning only. Positions count bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not UTF-8.
    #[error("byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the first wrong byte is.
        at: usize,
    },
    /// The text is not JSON.
    #[error("expected {expected} at byte {at}")]
    Syntax {
        /// Where.
        at: usize,
        /// What JSON has in this place.
        expected: &'static str,
    },
    /// Something follows the value.
    #[error("the value ends at byte {at}, but text follows")]
    Trailing {
        /// Where the value ends.
        at: usize,
    },
    /// Objects and arrays nest too deep.
    #[error("byte {at} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Where the first bracket too many is.
        at: usize,
    },
    /// An escape names half of a surrogate pair.
    #[error("the escape at byte {at} is half of a surrogate pair")]
    LoneSurrogate {
        /// Where the backslash is.
        at: usize,
    },
    /// A key stands twice in one object: readers disagree about which one counts.
    #[error("the field `{path}` stands twice")]
    DuplicateKey {
        /// `spec.containers[0].image`
        path: String,
    },
    /// A well-known member that is not a string.
    #[error("the field `{path}` must be {expected}")]
    WrongType {
        /// Which.
        path: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A key that a reader which ignores letter case takes for a well-known one.
    #[error("the field `{expected}` is spelled in other letter case")]
    LookAlike {
        /// The only spelling that is taken.
        expected: &'static str,
    },
}

impl JsonError {
    /// Whether the text is no JSON at all, rather than JSON that is refused.
    #[must_use]
    pub const fn is_syntax(&self) -> bool {
        matches!(
            self,
            Self::NotUtf8 { .. } | Self::Syntax { .. } | Self::Trailing { .. }
        )
    }
}

/// Reads one JSON value and writes it in canonical form.
///
/// # Errors
/// [`JsonError`] when the text is not JSON, or is JSON that two readers could understand differently.
pub fn canonical(bytes: &[u8]) -> Result<Canonical, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    Scanner::new(text).run()
}
