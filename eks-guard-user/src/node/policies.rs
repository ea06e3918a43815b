//! The folder of policies: read as a whole, and again when it has changed; the last good one stays in force.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use eks_guard_core::policy::Snapshot;

use crate::policy::{self, PolicyError};

/// Most files of a folder that are read.
const MAX_FILES: usize = 1_000;

/// The policies in force, and where they come from.
pub struct Policies {
    folder: PathBuf,
    snapshot: Arc<ArcSwap<Snapshot>>,
    generation: u64,
    /// What was read last, good or bad.
    seen: Option<Vec<(PathBuf, Vec<u8>)>>,
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
    /// Mistakes in the policies.
    #[error(transparent)]
    Policies(#[from] PolicyError),
}

impl Policies {
    /// A folder that is not read yet: nothing is allowed but discovery.
    ///
    /// # Errors
    /// The built-in rules do not compile.
    pub fn of(folder: &Path) -> Result<Self, PoliciesError> {
        Ok(Self {
            folder: folder.to_owned(),
            snapshot: Arc::new(ArcSwap::from_pointee(policy::load_as(&[], 0)?)),
            generation: 0,
            seen: None,
        })
    }

    /// What decides, replaced as a whole.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// Generation of the policies in force; 0 before the first good ones.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads the folder if it has changed. Whether it has.
    ///
    /// # Errors
    /// It cannot be read, or has mistakes: the policies before stay in force.
    pub fn reload(&mut self) -> Result<bool, PoliciesError> {
        let files = self.files()?;
        let mut contents = Vec::new();
        for path in &files {
            let bytes = fs::read(path).map_err(|source| PoliciesError::Read {
                path: path.clone(),
                source,
            })?;
            contents.push((path.clone(), bytes));
        }
        if self.seen.as_ref() == Some(&contents) {
            return Ok(false);
        }
        self.seen = Some(contents);
        let snapshot = policy::load_as(&files, self.generation + 1)?;
        self.generation += 1;
        self.snapshot.store(Arc::new(snapshot));
        Ok(true)
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
    fn the_last_good_policies_stay_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let mut policies = Policies::of(folder.path()).unwrap();
        assert_eq!(policies.generation(), 0);
        fs::write(folder.path().join("a.yaml"), POLICY).unwrap();
        fs::write(folder.path().join("notes.txt"), "no policy").unwrap();
        assert!(policies.reload().unwrap());
        assert_eq!(policies.generation(), 1);
        assert!(!policies.reload().unwrap(), "nothing has changed");
        fs::write(folder.path().join("b.yaml"), "kind: [").unwrap();
        let error = policies.reload().unwrap_err().to_string();
        assert!(error.contains("b.yaml:"), "{error}");
        assert_eq!(policies.generation(), 1);
        fs::remove_file(folder.path().join("b.yaml")).unwrap();
        assert!(policies.reload().unwrap());
        assert_eq!(policies.generation(), 2);
        let mut missing = Policies::of(Path::new("/no/such/folder")).unwrap();
        assert!(matches!(missing.reload(), Err(PoliciesError::Read { .. })));
    }
}
