//! Policy files: one or several YAML documents, read strictly, every mistake with its place.

use std::sync::Arc;

use serde_saphyr::{Error, Location, MergeKeyPolicy, Options};

use crate::policy::document::check::check;
use crate::policy::document::diagnose::diagnose;
use crate::policy::document::wire::{At, Document, Head};
use crate::policy::document::{API_VERSION, AgentPolicy, DocumentError, KIND, Origin};

/// Longest policy file that is read.
const MAX_FILE: usize = 4 * 1024 * 1024;
/// Most documents in one file.
const MAX_DOCUMENTS: usize = 256;
/// Deepest nesting; a policy needs six levels.
const MAX_DEPTH: usize = 16;

/// Reads the policies of one file. `file_name` is only used in messages.
///
/// # Errors
/// Every mistake that can be told apart, in the order of the file; one only when the YAML itself is wrong.
pub fn read_policies(file_name: &str, text: &str) -> Result<Vec<AgentPolicy>, Vec<DocumentError>> {
    let file: Arc<str> = file_name.into();
    let start = Origin {
        file: file.clone(),
        line: 1,
        column: 1,
    };
    if text.len() > MAX_FILE {
        let message = format!("the file is longer than {MAX_FILE} bytes; split it");
        return Err(vec![DocumentError {
            origin: start,
            message,
        }]);
    }
    let heads: Vec<At<Head>> = parse(&file, text)?;
    if heads.is_empty() {
        let message = format!("no document; write `apiVersion: {API_VERSION}`, `kind: {KIND}` and so on");
        return Err(vec![DocumentError {
            origin: start,
            message,
        }]);
    }
    let errors: Vec<DocumentError> = heads.iter().filter_map(|head| wrong_kind(&file, head)).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let documents: Vec<At<Document>> = parse(&file, text)?;
    let mut policies = Vec::new();
    let mut errors = Vec::new();
    for document in &documents {
        match check(&file, document) {
            Ok(policy) => policies.push(policy),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() {
        Ok(policies)
    } else {
        Err(errors)
    }
}

fn parse<'de, T: serde::Deserialize<'de>>(
    file: &Arc<str>,
    text: &'de str,
) -> Result<Vec<T>, Vec<DocumentError>> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error: Error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        vec![DocumentError {
            origin: origin(file, location),
            message: diagnose(&error),
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

fn wrong_kind(file: &Arc<str>, head: &At<Head>) -> Option<DocumentError> {
    let expect = |field: &Option<At<String>>, name: &str, wanted: &str| match field {
        None => Some(DocumentError {
            origin: origin(file, head.referenced),
            message: format!("`{name}` is missing; write `{name}: {wanted}`"),
        }),
        Some(value) if value.value != wanted => Some(DocumentError {
            origin: origin(file, value.referenced),
            message: format!(
                "{name} {:?} is not read here; write `{name}: {wanted}`",
                value.value
            ),
        }),
        Some(_) => None,
    };
    expect(&head.value.api_version, "apiVersion", API_VERSION)
        .or_else(|| expect(&head.value.kind, "kind", KIND))
}

pub(super) fn origin(file: &Arc<str>, location: Location) -> Origin {
    Origin {
        file: file.clone(),
        line: location.line(),
        column: location.column(),
    }
}
