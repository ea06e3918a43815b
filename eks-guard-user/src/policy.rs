//! Policy files: read and compile them, and `eks-guard policy …`, whose tools run the code that decides, or ask the cluster.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use eks_guard_core::policy::{
    AgentPolicy, CompileError, DocumentError, Snapshot, read_policies, read_policies_or_refuse,
};

use crate::policy::diff::DiffArgs;
use crate::policy::explain::ExplainArgs;
use crate::policy::status::StatusArgs;
use crate::policy::suggest::SuggestArgs;
use crate::policy::test::TestArgs;
use crate::upstream::KubeconfigOptions;

pub mod diff;
pub mod explain;
pub mod status;
pub mod suggest;
pub mod test;
pub mod who;
pub mod words;

mod render;

#[cfg(test)]
mod tests;

/// Exit code: the files are valid, the request is allowed, all cases passed.
pub const ALLOWED: u8 = 0;
/// Exit code: the request is refused, a case failed.
pub const REFUSED: u8 = 1;
/// Exit code: a policy or the command line is wrong.
pub const INVALID: u8 = 2;

/// Bytes that are read of one file at most; more than a policy may have.
const READ_LIMIT: u64 = 8 * 1024 * 1024;
/// Generation of snapshots made from files, which are read once.
const GENERATION: u64 = 1;

/// `eks-guard policy …`
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Check policy files: every mistake with its place (exit code 0 valid, 2 not)
    Check(CheckArgs),
    /// Say whether a request would be allowed, and why (exit code 0 allowed, 1 refused, 2 invalid)
    Explain(Box<ExplainArgs>),
    /// Decide cases from files, and hold them against what is expected (exit code 0 all passed, 1 some failed, 2 invalid)
    Test(TestArgs),
    /// Say what a change of policies newly reaches (exit code 0 nothing, 1 something, 2 invalid)
    Diff(DiffArgs),
    /// Write the least policy that would have allowed what records say was asked for (exit code 0 printed, 2 invalid)
    Suggest(SuggestArgs),
    /// Say what became of the cluster's policies, and on which node (exit code 0 all in force, 1 some not, 2 no answer)
    Status(StatusArgs),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  eks-guard policy check policy.yaml
  eks-guard policy check team.yaml extra.yaml
  kubectl get configmap policies -o jsonpath='{.data.policy}' | eks-guard policy check -

Exit codes: 0 all valid, 2 not; each mistake is a line FILE:LINE:COLUMN: MESSAGE on standard error.";

/// `eks-guard policy check FILE…`
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// Policy files that are used together; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Why policies cannot be used. Displays one mistake per line.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Files that cannot be read, and documents with mistakes, of all files.
    #[error("{}", Lines(.0))]
    Files(Vec<FileError>),
    /// Policies that do not go together.
    #[error("{}", Lines(.0))]
    Conflicts(Vec<CompileError>),
}

/// One thing that is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read. Several of these have no one source, so each says its own.
    #[error("cannot read the policy file {}: check the path: {cause}", path.display())]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A mistake in it.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

struct Lines<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Lines<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, item)| {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{item}")
        })
    }
}

/// Reads policy files and compiles them together.
///
/// # Errors
/// Every file that cannot be read and every mistake in the others, else every conflict.
pub fn load(files: &[PathBuf]) -> Result<Snapshot, PolicyError> {
    let policies: Vec<AgentPolicy> = read_all(files)?
        .into_iter()
        .flat_map(|(_, policies)| policies)
        .collect();
    compile(&policies)
}

/// Compiles texts that somebody else has read, each with the name that its messages carry. Whom a policy with mistakes is
/// about is refused everything.
#[must_use]
pub fn compile_texts(texts: &[(String, String)], generation: u64) -> Snapshot {
    let mut policies = Vec::new();
    let mut invalid = Vec::new();
    for (name, text) in texts {
        let (more, refused) = read_policies_or_refuse(name, text);
        policies.extend(more);
        invalid.extend(refused);
    }
    Snapshot::compile_or_refuse(&policies, invalid, generation)
}

impl PolicyArgs {
    /// Runs the command. Answers go to `out`, mistakes to `err`; the exit code comes back. `operator` says where a kubeconfig is
    /// looked for.
    ///
    /// # Errors
    /// Only when `out` or `err` cannot be written.
    pub fn run(
        &self,
        operator: &KubeconfigOptions,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<u8> {
        match &self.command {
            PolicyCommand::Check(args) => check(&args.files, out, err),
            PolicyCommand::Explain(args) => explain::explain(args, out, err),
            PolicyCommand::Test(args) => test::test(args, out, err),
            PolicyCommand::Diff(args) => diff::diff(args, out, err),
            PolicyCommand::Suggest(args) => suggest::suggest(args, out, err),
            PolicyCommand::Status(args) => status::status(args, operator, out, err),
        }
    }
}

/// `eks-guard policy check`: one line per file, or every mistake.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn check(files: &[PathBuf], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let checked = read_all(files).and_then(|read| {
        let policies: Vec<AgentPolicy> = read.iter().flat_map(|(_, policies)| policies.clone()).collect();
        compile(&policies).map(|_| read)
    });
    match checked {
        Ok(read) => {
            for (file, policies) in read {
                for warning in policies.iter().flat_map(AgentPolicy::warnings) {
                    writeln!(err, "{}: warning: {}", warning.origin, warning.message)?;
                }
                let rules: usize = policies.iter().map(AgentPolicy::rule_count).sum();
                let (policies, rules) = (
                    count(policies.len(), "policy", "policies"),
                    count(rules, "rule", "rules"),
                );
                writeln!(out, "{file}: valid, {policies}, {rules}")?;
            }
            Ok(ALLOWED)
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(INVALID)
        }
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn compile(policies: &[AgentPolicy]) -> Result<Snapshot, PolicyError> {
    Snapshot::compile(policies, GENERATION).map_err(PolicyError::Conflicts)
}

/// Every file with its policies, or the mistakes of all of them.
fn read_all(files: &[PathBuf]) -> Result<Vec<(String, Vec<AgentPolicy>)>, PolicyError> {
    let mut read = Vec::new();
    let mut errors = Vec::new();
    for path in files {
        let text = match read_file(path) {
            Ok(text) => text,
            Err(cause) => {
                let path = path.clone();
                errors.push(FileError::Unread { path, cause });
                continue;
            }
        };
        let name = if is_stdin(path) {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        match read_policies(&name, &text) {
            Ok(policies) => read.push((name, policies)),
            Err(more) => errors.extend(more.into_iter().map(FileError::from)),
        }
    }
    if errors.is_empty() {
        Ok(read)
    } else {
        Err(PolicyError::Files(errors))
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if is_stdin(path) {
        io::stdin().lock().take(READ_LIMIT).read_to_string(&mut text)?;
    } else {
        File::open(path)?.take(READ_LIMIT).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}
