//! Policy files: one or several YAML documents, read strictly, every mistake with its place.

use std::sync::Arc;

use crate::policy::document::check::{check, check_subjects};
use crate::policy::document::wire::{Document, Rough};
use crate::policy::document::{AgentPolicy, InvalidPolicy, KIND};
use crate::policy::subjects::Subjects;
use crate::yaml::{self, At, DocumentError};

/// Reads the policies of one file. `file_name` is only used in messages.
///
/// # Errors
/// Every mistake that can be told apart, in the order of the file; one only when the YAML itself is wrong.
pub fn read_policies(file_name: &str, text: &str) -> Result<Vec<AgentPolicy>, Vec<DocumentError>> {
    let (policies, invalid) = read_policies_or_refuse(file_name, text);
    if invalid.is_empty() {
        return Ok(policies);
    }
    let mut errors: Vec<DocumentError> = Vec::new();
    for error in invalid.into_iter().flat_map(|policy| policy.errors) {
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
    Err(errors)
}

/// Reads the policies of one file. A document with mistakes comes back as a policy that refuses whoever it is about; one
/// whose subjects cannot be read is about everybody.
#[must_use]
pub fn read_policies_or_refuse(file_name: &str, text: &str) -> (Vec<AgentPolicy>, Vec<InvalidPolicy>) {
    let file: Arc<str> = file_name.into();
    let documents = match yaml::documents::<Document>(&file, text, KIND) {
        Ok(documents) => documents,
        Err(errors) => return (Vec::new(), unreadable(&file, text, &errors)),
    };
    let mut policies = Vec::new();
    let mut invalid = Vec::new();
    for document in &documents {
        match check(&file, document) {
            Ok(policy) => policies.push(policy),
            Err(errors) => {
                let value = &document.value;
                let name = value.metadata.as_ref().and_then(|it| it.value.name.as_ref());
                let subjects = value.spec.as_ref().map(|spec| &spec.value.subjects);
                invalid.push(InvalidPolicy {
                    name: name.map_or_else(|| file.to_string(), |name| name.value.clone()),
                    subjects: subjects
                        .and_then(|subjects| check_subjects(&file, subjects))
                        .unwrap_or_else(Subjects::everyone),
                    errors,
                });
            }
        }
    }
    (policies, invalid)
}

/// A file whose shape is wrong somewhere: none of its documents counts, whichever it is in.
fn unreadable(file: &Arc<str>, text: &str, errors: &[DocumentError]) -> Vec<InvalidPolicy> {
    let invalid = |name: Option<String>, subjects: Option<Subjects>| InvalidPolicy {
        name: name.unwrap_or_else(|| file.to_string()),
        subjects: subjects.unwrap_or_else(Subjects::everyone),
        errors: errors.to_vec(),
    };
    let Ok(documents) = yaml::documents::<Rough>(file, text, KIND) else {
        return vec![invalid(None, None)];
    };
    let rough = |document: At<Rough>| {
        let Rough { metadata, spec } = document.value;
        let subjects = spec.and_then(|spec| check_subjects(file, &spec.subjects));
        invalid(metadata.and_then(|metadata| metadata.name), subjects)
    };
    documents.into_iter().map(rough).collect()
}
