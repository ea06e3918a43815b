//! Policy files: one or several YAML documents, read strictly, every mistake with its place.

use std::sync::Arc;

use crate::policy::document::check::check;
use crate::policy::document::wire::Document;
use crate::policy::document::{AgentPolicy, KIND};
use crate::yaml::{self, DocumentError};

/// Reads the policies of one file. `file_name` is only used in messages.
///
/// # Errors
/// Every mistake that can be told apart, in the order of the file; one only when the YAML itself is wrong.
pub fn read_policies(file_name: &str, text: &str) -> Result<Vec<AgentPolicy>, Vec<DocumentError>> {
    let file: Arc<str> = file_name.into();
    let mut policies = Vec::new();
    let mut errors = Vec::new();
    for document in &yaml::documents::<Document>(&file, text, KIND)? {
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
