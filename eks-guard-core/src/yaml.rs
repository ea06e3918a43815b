//! Documents that people write: YAML read strictly, every value with the place it stands at, every mistake in plain words.

mod diagnose;

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer};
use serde_saphyr::{Error, Location, MergeKeyPolicy, Options, Spanned};

pub use diagnose::nearest;

/// The API version of the documents this program reads.
pub const API_VERSION: &str = "eks-guard.dev/v1alpha1";

/// Longest file that is read.
const MAX_FILE: usize = 4 * 1024 * 1024;
/// Most documents in one file.
const MAX_DOCUMENTS: usize = 256;
/// Deepest nesting; the documents need eight levels at most.
const MAX_DEPTH: usize = 16;

/// A value and where it stands.
pub type At<T> = Spanned<T>;
/// A field that may be left out, but not left blank: read it with [`present`].
pub type Field<T> = Option<At<T>>;

/// Where something stands: what messages point at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Name of the file, as it was given.
    pub file: Arc<str>,
    /// Line, from 1; 0 when unknown.
    pub line: u64,
    /// Column in characters, from 1; 0 when unknown.
    pub column: u64,
}

impl Origin {
    /// A place in a file.
    #[must_use]
    pub fn at(file: &Arc<str>, location: Location) -> Self {
        Self {
            file: Arc::clone(file),
            line: location.line(),
            column: location.column(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One mistake in a file. Displays as `file:line:column: what is wrong; what to write instead`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct DocumentError {
    /// Where.
    pub origin: Origin,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// What tells documents apart; every other field is ignored.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default, deserialize_with = "present")]
    api_version: Field<String>,
    #[serde(default, deserialize_with = "present")]
    kind: Field<String>,
}

/// Reads the documents of one file, all of one kind, at least one. Nothing in them is checked but kind and shape.
///
/// # Errors
/// The file is too long, its YAML is wrong, or documents are of another kind.
pub fn documents<'de, T: Deserialize<'de>>(
    file: &Arc<str>,
    text: &'de str,
    kind: &str,
) -> Result<Vec<At<T>>, Vec<DocumentError>> {
    let whole_file = |message: String| {
        let (line, column) = (1, 1);
        vec![DocumentError {
            origin: Origin {
                file: Arc::clone(file),
                line,
                column,
            },
            message,
        }]
    };
    if text.len() > MAX_FILE {
        return Err(whole_file(format!(
            "the file is longer than {MAX_FILE} bytes; split it"
        )));
    }
    let heads: Vec<At<Head>> = parse(file, text)?;
    if heads.is_empty() {
        return Err(whole_file(format!(
            "no document; write `apiVersion: {API_VERSION}`, `kind: {kind}` and so on"
        )));
    }
    let errors: Vec<DocumentError> = heads
        .iter()
        .filter_map(|head| wrong_kind(file, head, kind))
        .collect();
    if errors.is_empty() {
        parse(file, text)
    } else {
        Err(errors)
    }
}

/// Reads a value that is there, so that a blank one is an error and not the same as none.
///
/// # Errors
/// As the value's own reader.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

fn parse<'de, T: Deserialize<'de>>(file: &Arc<str>, text: &'de str) -> Result<Vec<T>, Vec<DocumentError>> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error: Error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        vec![DocumentError {
            origin: Origin::at(file, location),
            message: diagnose::diagnose(&error),
        }]
    })
}

/// YAML as JSON with another syntax: no anchors, aliases, merges or own tags, and text that another reader would
/// take for a number, a boolean or null has to be quoted.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_depth: MAX_DEPTH,
            max_anchors: 0,
            max_aliases: 0,
        },
        merge_keys: MergeKeyPolicy::Error,
        // Not strict, so that `on`, `no` and the other booleans of YAML 1.1 have to be quoted too.
        strict_booleans: false,
        no_schema: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        strict_indentation: true,
        with_snippet: false,
    }
}

fn wrong_kind(file: &Arc<str>, head: &At<Head>, kind: &str) -> Option<DocumentError> {
    let expect = |field: &Field<String>, name: &str, wanted: &str| match field {
        None => Some(DocumentError {
            origin: Origin::at(file, head.referenced),
            message: format!("`{name}` is missing; write `{name}: {wanted}`"),
        }),
        Some(value) if value.value != wanted => Some(DocumentError {
            origin: Origin::at(file, value.referenced),
            message: format!(
                "{name} {:?} is not read here; write `{name}: {wanted}`",
                value.value
            ),
        }),
        Some(_) => None,
    };
    expect(&head.value.api_version, "apiVersion", API_VERSION)
        .or_else(|| expect(&head.value.kind, "kind", kind))
}
