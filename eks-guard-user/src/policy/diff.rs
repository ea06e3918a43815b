//! `eks-guard policy diff`: what a change of policies newly reaches, and what it takes away.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use eks_guard_core::policy::{self, AgentPolicy, Diff, Difference, diff as compare};
use serde::Serialize;

use crate::output;
use crate::policy::{ALLOWED, INVALID, PolicyError, REFUSED, read_all};

const EXAMPLES: &str = "\
Examples:
  eks-guard policy diff policy.yaml policy-new.yaml
  git show main:policy.yaml | eks-guard policy diff - policy.yaml
  eks-guard policy diff /etc/eks-guard/policies new-policies -o json

Compares by asking the code that decides about one request of every class that the rules can tell apart. A list is names, or *
and, each after a !, the names that are not meant. Whether a condition holds is open, so both are gone through.

Exit codes: 0 nothing is newly reached, 1 something is, 2 a policy or the command line is wrong.";

/// `eks-guard policy diff OLD NEW`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// The policies in force: a file, or a folder of *.yaml files; `-` is standard input
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The policies that are to come
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// How to print the differences
    #[arg(short, long, value_enum, default_value_t = DiffOutput::Table)]
    pub output: DiffOutput,
}

/// How differences are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffOutput {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Why policies cannot be compared.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error("cannot read the folder {}: check the path: {cause}", path.display())]
    Folder { path: PathBuf, cause: io::Error },
    #[error("the folder {} has no file *.yaml", .0.display())]
    Empty(PathBuf),
    #[error(transparent)]
    Policies(#[from] PolicyError),
    #[error(transparent)]
    Core(#[from] policy::DiffError),
}

/// Prints what NEW reaches that OLD did not, and the other way round.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn diff(args: &DiffArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let compared =
        || -> Result<Diff, DiffError> { Ok(compare(&policies(&args.old)?, &policies(&args.new)?)?) };
    match compared() {
        Ok(diff) => {
            write(&diff, args.output, out)?;
            Ok(if diff.gained.is_empty() { ALLOWED } else { REFUSED })
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(INVALID)
        }
    }
}

fn policies(path: &Path) -> Result<Vec<AgentPolicy>, DiffError> {
    let files = if path.is_dir() {
        files_of(path)?
    } else {
        vec![path.to_owned()]
    };
    let read = read_all(&files)?;
    Ok(read.into_iter().flat_map(|(_, policies)| policies).collect())
}

/// The files that a node would read.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, DiffError> {
    let failed = |cause| DiffError::Folder {
        path: folder.to_owned(),
        cause,
    };
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DiffError::Empty(folder.to_owned()));
    }
    Ok(files)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    newly_reached: Vec<Entry<'a>>,
    no_longer_reached: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    before: &'static str,
    after: &'static str,
    agents: &'a [String],
    verbs: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    api_groups: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    resources: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    namespaces: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    resource_names: &'a [String],
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "<[String]>::is_empty")]
    non_resource_urls: &'a [String],
    conditions: &'a [String],
    namespace_labels: &'a [String],
}

impl<'a> Entry<'a> {
    fn of(it: &'a Difference) -> Self {
        let (resources, non_resource_urls): (&[String], &[String]) = if it.api_groups.is_empty() {
            (&[], &it.resources)
        } else {
            (&it.resources, &[])
        };
        Self {
            before: it.before.as_str(),
            after: it.after.as_str(),
            agents: &it.subjects,
            verbs: &it.verbs,
            api_groups: &it.api_groups,
            resources,
            namespaces: &it.namespaces,
            resource_names: &it.names,
            non_resource_urls,
            conditions: &it.conditions,
            namespace_labels: &it.namespace_labels,
        }
    }
}

fn write(diff: &Diff, output: DiffOutput, out: &mut dyn Write) -> io::Result<()> {
    let document = || Document {
        newly_reached: diff.gained.iter().map(Entry::of).collect(),
        no_longer_reached: diff.lost.iter().map(Entry::of).collect(),
    };
    match output {
        DiffOutput::Table => {
            people(&diff.gained, "newly reached", out)?;
            people(&diff.lost, "no longer reached", out)
        }
        DiffOutput::Json => output::json(&document(), out),
        DiffOutput::Yaml => output::yaml(&document(), out),
    }
}

fn people(differences: &[Difference], title: &str, out: &mut dyn Write) -> io::Result<()> {
    if differences.is_empty() {
        return writeln!(out, "{title}: nothing");
    }
    writeln!(out, "{title}:")?;
    let head = [
        "CHANGE",
        "AGENTS",
        "VERBS",
        "GROUPS",
        "RESOURCES",
        "NAMESPACES",
        "NAMES",
        "WHEN",
    ];
    let rows = differences.iter().map(|it| {
        let when = [&it.conditions, &it.namespace_labels];
        let when: Vec<String> = when
            .into_iter()
            .filter(|list| **list != ["*"])
            .map(|list| list.join(", or "))
            .collect();
        [
            format!("{} → {}", it.before.as_str(), it.after.as_str()),
            it.subjects.join(", "),
            it.verbs.join(", "),
            quoted(&it.api_groups, "\"\""),
            it.resources.join(", "),
            quoted(&it.namespaces, "(none, or all at once)"),
            quoted(&it.names, "(the collection, or a made-up name)"),
            when.join("; "),
        ]
    });
    output::table(&head.map(str::to_owned), rows.collect(), out)
}

/// A list whose empty text has to be seen.
fn quoted(list: &[String], empty: &str) -> String {
    let item = |item: &String| {
        let (not, name) = item
            .strip_prefix('!')
            .map_or(("", item.as_str()), |name| ("!", name));
        format!("{not}{}", if name.is_empty() { empty } else { name })
    };
    list.iter().map(item).collect::<Vec<_>>().join(", ")
}
