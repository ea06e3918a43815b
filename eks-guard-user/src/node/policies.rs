//! The folder of policies: read as a whole, and again when it has changed. What has mistakes is in force too: whom it is
//! about is refused everything.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use eks_guard_core::policy::DocumentError;
use serde::{Deserialize, Serialize};

use crate::policy;

/// Most files of a folder that are read.
const MAX_FILES: usize = 1_000;
/// Bytes that are read of one file at most; more than a policy may have.
const READ_LIMIT: u64 = 8 << 20;

/// The policies in force, and where they come from.
pub struct Policies {
    folder: PathBuf,
    in_force: PolicyTexts,
    /// What was read last, good or bad.
    seen: Option<Vec<(String, String)>>,
}

/// Policies as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTexts {
    /// Counts up; 0 before the first ones: nothing is allowed but discovery.
    pub generation: u64,
    /// Name and text of each file.
    pub texts: Vec<(String, String)>,
}

/// Why the folder is not in force.
#[derive(Debug, thiserror::Error)]
pub enum PoliciesError {
    /// It cannot be read.
    #[error("cannot read the policy folder {}", path.display())]
    Read {
        /// The folder, or a file of it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More files than are read.
    #[error("more than {MAX_FILES} policy files in {}", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// Mistakes in the policies, which are in force all the same.
    #[error("policies have mistakes")]
    Mistakes(#[source] PolicyErrors),
}

/// Every mistake, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyErrors(Vec<DocumentError>);

impl Policies {
    /// A folder that is not read yet: nothing is allowed but discovery.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            in_force: PolicyTexts::default(),
            seen: None,
        }
    }

    /// What decides, replaced as a whole.
    #[must_use]
    pub fn in_force(&self) -> &PolicyTexts {
        &self.in_force
    }

    /// Generation of the policies in force; 0 before the first ones.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.in_force.generation
    }

    /// Reads the folder if it has changed. Whether it has.
    ///
    /// # Errors
    /// It cannot be read: the policies before stay in force. Or it has mistakes: it is in force all the same.
    pub fn reload(&mut self) -> Result<bool, PoliciesError> {
        let mut texts = Vec::new();
        for path in self.files()? {
            let mut text = String::new();
            let read = File::open(&path).and_then(|file| file.take(READ_LIMIT).read_to_string(&mut text));
            read.map_err(|source| PoliciesError::Read {
                path: path.clone(),
                source,
            })?;
            texts.push((path.display().to_string(), text));
        }
        if self.seen.as_ref() == Some(&texts) {
            return Ok(false);
        }
        self.seen = Some(texts.clone());
        let generation = self.in_force.generation + 1;
        self.in_force = PolicyTexts { generation, texts };
        let snapshot = policy::compile_texts(&self.in_force.texts, generation);
        let mistakes: Vec<DocumentError> = snapshot.mistakes().cloned().collect();
        if mistakes.is_empty() {
            Ok(true)
        } else {
            Err(PoliciesError::Mistakes(PolicyErrors(mistakes)))
        }
    }

    fn files(&self) -> Result<Vec<PathBuf>, PoliciesError> {
        let failed = |source| PoliciesError::Read {
            path: self.folder.clone(),
            source,
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_yaml = path
                .extension()
                .is_some_and(|ending| ending == "yaml" || ending == "yml");
            if is_yaml && path.is_file() {
                files.push(path);
            }
        }
        if files.len() > MAX_FILES {
            return Err(PoliciesError::TooMany {
                path: self.folder.clone(),
            });
        }
        files.sort();
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: a}\nspec:\n  subjects: {agents: [shop]}\n  rules: [{name: r, effect: allow, verbs: [get], apiGroups: [''], resources: [pods], namespaces: [shop]}]\n";

    #[test]
    fn policies_are_in_force_with_their_mistakes_and_stay_while_they_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut policies = Policies::of(folder.path());
        assert_eq!(policies.generation(), 0);
        fs::write(folder.path().join("a.yaml"), POLICY).unwrap();
        fs::write(folder.path().join("notes.txt"), "no policy").unwrap();
        assert!(policies.reload().unwrap());
        assert_eq!(policies.generation(), 1);
        assert!(!policies.reload().unwrap(), "nothing has changed");
        fs::write(folder.path().join("b.yaml"), "kind: [").unwrap();
        let error = policies.reload().unwrap_err();
        let error = crate::telemetry::chain(&error);
        assert!(error.contains("b.yaml:"), "{error}");
        assert_eq!(policies.generation(), 2, "what has mistakes is in force");
        assert!(!policies.reload().unwrap(), "and is said once");
        fs::remove_file(folder.path().join("b.yaml")).unwrap();
        assert!(policies.reload().unwrap());
        assert_eq!(policies.generation(), 3);
        fs::write(folder.path().join("c.yaml"), [0xff, 0xfe]).unwrap();
        assert!(matches!(policies.reload(), Err(PoliciesError::Read { .. })));
        assert_eq!(policies.generation(), 3);
        let mut missing = Policies::of(Path::new("/no/such/folder"));
        assert!(matches!(missing.reload(), Err(PoliciesError::Read { .. })));
    }
}
