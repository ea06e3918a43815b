//! Policy files: read, and compiled into the snapshot that decides.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use eks_guard_core::policy::{AgentPolicy, Snapshot, read_policies};

/// What the policy files of a run allow.
#[derive(Debug)]
pub struct Policies {
    /// The compiled form.
    pub snapshot: Arc<Snapshot>,
    /// Names of the policies, in the order of the files.
    pub names: Vec<String>,
    /// Rules in all of them.
    pub rules: usize,
}

impl Policies {
    /// Reads and compiles all files; every mistake of every file is one line.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Policies, Vec<String>> {
        let (mut policies, mut problems) = (Vec::new(), Vec::new());
        for file in files {
            match fs::read_to_string(file) {
                Ok(text) => match read_policies(&file.to_string_lossy(), &text) {
                    Ok(read) => policies.extend(read),
                    Err(wrong) => problems.extend(wrong.iter().map(ToString::to_string)),
                },
                Err(error) => problems.push(format!("cannot read policy {}: {error}", file.display())),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let snapshot = Snapshot::compile(&policies, 1);
        let snapshot = snapshot.map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let names = policies.iter().map(|policy| policy.name().to_owned()).collect();
        Ok(Policies {
            snapshot: Arc::new(snapshot),
            names,
            rules: policies.iter().map(AgentPolicy::rule_count).sum(),
        })
    }
}
